"""Options of what is made of logs: indices, checks and lifted points; their names are the Flux4D reproduction's."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from splatdag.driving.logs.folders import CAMERAS, CameraName
from splatdag.workflow.options import Options


def _listed(given: object) -> object:
    """Lists may be words with commas between them, as the scripts took them."""
    words = [given] if isinstance(given, str | int) else given
    if not isinstance(words, list | tuple):
        return given
    if any(isinstance(word, int) and word < 100 for word in words):
        raise ValueError('write names in quotes, such as "011", which YAML takes for the number 9 without')
    return tuple(name for word in words for name in str(word).replace(",", " ").split())


class IndexOptions(Options):
    """Index of the clips that are cut from PandaSet's logs."""

    section: ClassVar[str] = "driving.index"

    preset: Literal["paper", "debug"] = "paper"
    """paper: the clips of Flux4D's paper; debug: clips of clip_len_s, every second frame given."""
    clip_len_s: float = Field(1.5, gt=0)
    """Length of a clip (s); of preset debug alone."""
    stride_s: float = Field(1.5, gt=0)
    """Time between the starts of two clips (s); of preset debug alone."""
    target_fps: float = Field(10, ge=0)
    """Frames a second that a log must have, within 0.5; 0 takes what each has."""
    camera_names: tuple[str, ...] = ("front_camera",)
    """Cameras whose images a clip needs."""
    tiny_scenes: tuple[str, ...] = ()
    """Logs of the tiny index; unset: the first tiny_num_scenes."""
    tiny_num_scenes: int = Field(2, ge=1)
    """Logs of the tiny index where tiny_scenes are not named."""
    val_scenes: tuple[str, ...] = ()
    """Test logs; unset: the ten of the paper, or, if val_num_scenes is given, so many."""
    val_num_scenes: int | None = Field(None, ge=0)
    """Number of test logs: those of the paper first, then the last of the others."""
    max_scenes: int | None = Field(None, ge=1)
    """Take only the first so many logs."""
    strict: bool = False
    """Stop at a log or clip that can't be used, instead of leaving it out and saying why."""

    _split = field_validator("camera_names", "tiny_scenes", "val_scenes", mode="before")(_listed)

    @field_validator("camera_names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in CAMERAS]
        if unknown or not names:
            raise ValueError(f"expected some of {', '.join(CAMERAS)}")
        return names

    def notices(self) -> list[str]:
        """Settings without effect, a line each."""
        given = [name for name in ("clip_len_s", "stride_s") if name in self.model_fields_set]
        return [f"{name}: without effect, since preset is paper" for name in given if self.preset == "paper"]


class CheckOptions(Options):
    """A check of logs: what is there, and what can be measured of clocks, frames, lidars, cameras and boxes."""

    section: ClassVar[str] = "driving.check"

    scenes: tuple[str, ...] = ()
    """Logs to check; unset: all."""
    frames: int | None = Field(3, ge=1)
    """Frames of each log whose tables are opened, the first and the last among them; null: all, which takes long."""
    strict: bool = False
    """Fail if anything is wrong, instead of listing it."""

    _split = field_validator("scenes", mode="before")(_listed)


class LiftOptions(Options):
    """Lidar points with colours, kept for the trainings."""

    lidar_sensor_id: Literal[-1, 0, 1] = 0
    """0 is the spinning Pandar64, 1 the forward-facing PandarGT, -1 both."""


class AlignmentOptions(Options):
    """A check by eye of lidar, poses and cameras: points drawn over an image, and maps."""

    section: ClassVar[str] = "driving.alignment"

    clip_index: int = Field(0, ge=0)
    """Number of the clip in the index, from 0."""
    frame_index: int = Field(0, ge=0)
    """Frame of the clip, from 0."""
    camera: CameraName = "front_camera"
    """Camera over whose image the points are drawn."""
    lidar_sensor_id: Literal[-1, 0, 1] = 0
    """0 is the spinning Pandar64, 1 the forward-facing PandarGT, -1 both."""
    voxel_size: float = Field(0.2, ge=0)
    """Edge (m) of the cubes in each of which one lifted point is kept; 0 keeps all."""
    max_points: int | None = Field(None, ge=1)
    """Largest number of lifted points; null: all."""
    chosen: Literal["evenly", "at_random"] = "evenly"
    """Choice of the lifted points to keep where there are more than max_points."""
    seed: int = Field(0, ge=0)
    """Seed of the choice at random."""
    point_color_mode: Literal["depth", "from_image", "fixed"] = "depth"
    """Points are drawn in the colour of their depth, of the pixel that they fall on, or red."""
    point_radius: int | None = Field(None, ge=0, le=50)
    """Pixels around the one that a point falls on; unset: by the image's width, 1 at 1920."""
    overlay_base: Literal["rgb", "gray", "black"] = "rgb"
    """Points are drawn on the image, on the image without colours, or on black."""
    save_pointcloud: bool = False
    """Also write the lifted points as PLY, in the clip's ego frame."""
    plot_window_m: float = Field(160, gt=0)
    """Width of the maps (m), with the ego vehicle of the clip's first frame in the middle."""
    bev_range: tuple[float, float, float, float] | None = None
    """Least and largest x, least and largest y of the maps (m), in place of plot_window_m."""

    @field_validator("bev_range")
    @classmethod
    def _ascending(cls, given: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
        if given is not None and (given[0] >= given[1] or given[2] >= given[3]):
            raise ValueError("expected least and largest x, least and largest y (m)")
        return given

    def notices(self) -> list[str]:
        """Settings without effect, a line each."""
        lines = []
        if self.bev_range is not None and "plot_window_m" in self.model_fields_set:
            lines.append("plot_window_m: without effect, since bev_range is set")
        if self.chosen == "at_random" and self.max_points is None:
            lines.append("chosen: without effect, since max_points is not set")
        return lines
