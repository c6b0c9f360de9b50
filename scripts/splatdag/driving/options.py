"""Options of the driving area's stages. Names are those of the Flux4D reproduction's scripts."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from splatdag.driving.layout import CAMERAS, CameraName
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
    """Which clips are cut from PandaSet's logs."""

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
    """How many test logs: those of the paper first, then the last others."""
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


NO_DEPTH = "lidar_sensor_id is 1, and depths are those that the Pandar64 (0) measures"


class LiftOptions(Options):
    """Lidar points with colours, kept for the trainings."""

    lidar_sensor_id: Literal[-1, 0, 1] = 0
    """0 is the spinning Pandar64, 1 the forward-facing PandarGT, -1 both."""


class AlignmentOptions(Options):
    """A check by eye of lidar, poses and cameras: points drawn over an image, and maps."""

    section: ClassVar[str] = "driving.alignment"

    clip_index: int = Field(0, ge=0)
    """Which clip of the index."""
    frame_index: int = Field(0, ge=0)
    """Which frame of the clip."""
    camera: CameraName = "front_camera"
    """Which camera."""
    lidar_sensor_id: Literal[-1, 0, 1] = 0
    """0 is the spinning Pandar64, 1 the forward-facing PandarGT, -1 both."""
    voxel_size: float = Field(0.2, ge=0)
    """Of lifted points one is kept in each cube of this size (m); 0 keeps all."""
    max_points: int | None = Field(None, ge=1)
    """At most so many lifted points, evenly chosen."""
    point_color_mode: Literal["depth", "from_image", "fixed"] = "depth"
    """Points are drawn in the colour of their depth, of the pixel that they fall on, or red."""
    save_pointcloud: bool = False
    """Also write the lifted points as PLY, in the clip's ego frame."""
    plot_window_m: float = Field(160, gt=0)
    """Width of the maps (m)."""


class StartOptions(LiftOptions):
    """The Gaussians that a clip begins with."""

    lidar_scale: float = Field(0.25, gt=0)
    """Size of lidar points' Gaussians, in mean distances to the three nearest points (the paper: 1)."""
    num_image_points: int = Field(180_000, ge=0)
    """Pixels of the input images, by chance, that become Gaussians where lidar points around them tell their depth."""
    num_sky_points: int = Field(60_000, ge=0)
    """Pixels, by chance, that become the backdrop where no lidar point is near: far behind all that was measured."""
    sky_radius: float = Field(4.0, ge=1)
    """Distance of the backdrop, in diagonals of what was measured."""
    max_gaussians: int | None = Field(None, ge=1)
    """At most so many Gaussians of lidar points, evenly chosen."""
    keep_unseen: bool = False
    """Take points that no camera sees, too; they begin grey."""


class GridOptions(Options):
    """The voxels that the network sees."""

    point_cloud_range: tuple[float, float, float, float, float, float] = (-80, -80, -4, 80, 80, 20)
    """x0, y0, z0, x1, y1, z1 (m) in the ego frame of the clip's first frame."""
    voxel_size: float = Field(0.3, gt=0)
    """Size of a voxel (m)."""

    @field_validator("point_cloud_range")
    @classmethod
    def _ordered(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        if not all(low < high for low, high in zip(given[:3], given[3:], strict=True)):
            raise ValueError("expected x0, y0, z0 below x1, y1, z1")
        return given


class VoxelizationOptions(GridOptions, StartOptions):
    """A check of the voxels of one clip."""

    section: ClassVar[str] = "driving.voxelization"

    num_image_points: int = Field(0, ge=0)
    """As in the training, where lidar points alone are not what is to be checked."""
    clip_index: int = Field(0, ge=0)
    """Which clip of the index."""
    plot_window_m: float = Field(400, gt=0)
    """Width of the map (m)."""


class ModelOptions(GridOptions, StartOptions):
    """Flux4D's network."""

    channels: tuple[int, ...] = (32, 64, 96, 128)
    """Channels of the U-Net's levels, finest first."""
    blocks: int = Field(2, ge=1)
    """Convolutions of each level, on the way down and on the way up."""
    features: int = Field(64, ge=1)
    """Channels that a voxel hands to its points."""
    motion_degree: int = Field(1, ge=0, le=3)
    """Degree of the velocity as a polynomial of time: 0 is constant, 1 has an acceleration."""
    iterations: int = Field(3, ge=1)
    """Steps, the first of which is the base model; later ones see the gradient of the loss on the input frames."""


class LossOptions(Options):
    """What the network is punished for."""

    ssim_lambda: float = Field(0.2, ge=0, le=1)
    """Weight of 1 - SSIM; the colours' mean absolute difference has the rest."""
    projected_depth: bool = True
    """Punish rendered depth that is not what the Pandar64 measured."""
    depth_lambda: float = Field(0.01, ge=0)
    """Weight of the mean absolute difference of depth (per m)."""
    velocity_lambda: float = Field(0.005, ge=0)
    """Weight of the mean speed of what was measured (per metre per clip time); the backdrop does not count."""
    flow_lambda: float = Field(1.0, ge=0)
    """Weight of the mean distance (m) of what stands up in an input frame, moved to the next, from what stands there;
    not in the paper; 0 leaves it out."""
    still_lambda: float = Field(0.1, ge=0)
    """Weight of the mean speed of what is where the other input frames have points as well; not in the paper."""
    velocity_reweighting: bool = True
    """A pixel's colour counts 1 + v_r times, its image-plane velocity in pixels per frame (at most 10)."""


class LearnOptions(ModelOptions, LossOptions):
    """How the network learns."""

    iters: int = Field(30_000, ge=1)
    """Steps."""
    camera: CameraName = "front_camera"
    """Camera whose images are learnt from."""
    data_factor: int = Field(1, ge=1)
    """Images are scaled down by this factor."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate of Adam after the warm-up."""
    warmup_iters: int = Field(1_000, ge=0)
    """Steps in which the learning rate rises to lr, at most a tenth of all."""
    final_lr_factor: float = Field(0.01, gt=0, le=1)
    """The learning rate falls, by the same factor at each step, to this part of lr."""
    grad_clip: float = Field(1.0, ge=0)
    """Longest gradient (2-norm over all parameters); 0 does not shorten."""
    targets_per_step: int = Field(4, ge=1)
    """Images of a clip that a step draws, of which one is of an input frame where there are two or more."""
    feedback_views: int = Field(3, ge=1)
    """Input images that a refining step sees the loss of, in training; afterwards it sees all."""
    grad_accum_steps: int = Field(1, ge=1)
    """Clips of a step, one after the other; their gradients are averaged."""
    log_every: int = Field(20, ge=1)
    """Steps between two points of the curves."""
    save_every: int = Field(200, ge=0)
    """Steps between two sets of pictures in step_XXXXXX; 0 writes none."""
    save_ckpt_every: int = Field(1_000, ge=1)
    """Steps between two ckpt_step_XXXXXX.pt."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between two saves of the state that a training continues from after a kill."""
    resume_from: str | None = None
    """Begin with the network, optimiser and step of this checkpoint, whose time is not counted."""
    resume_no_optim: bool = False
    """Of resume_from take the network alone, as far as its parts are the same; steps count from 0."""
    seed: int = Field(0, ge=0)
    """Seed of the network and of the order of clips and images."""

    def notices(self) -> list[str]:
        """Settings without effect, a line each."""
        found = []
        if self.resume_no_optim and self.resume_from is None:
            found.append("resume_no_optim: without effect, since resume_from is not set")
        if not self.projected_depth and "depth_lambda" in self.model_fields_set:
            found.append("depth_lambda: without effect, since projected_depth is off")
        if self.projected_depth and self.lidar_sensor_id == 1:
            found.append(f"projected_depth: without effect, since {NO_DEPTH}")
        return found


SMALL: dict[str, Any] = {
    "num_image_points": 24_000,
    "num_sky_points": 6_000,
    "point_cloud_range": [-60, -60, -4, 60, 60, 20],
    "voxel_size": 0.4,
    "channels": [16, 32],
    "blocks": 1,
    "features": 32,
    "iterations": 2,
    "iters": 80,
    "lr": 4e-3,
    "data_factor": 2,
    "targets_per_step": 2,
    "feedback_views": 2,
    "save_every": 0,
    "log_every": 2,
    "save_ckpt_every": 80,
}
"""A network and a schedule that suit a CPU and the sample logs."""


class OverfitOptions(LearnOptions):
    """Training on one clip."""

    section: ClassVar[str] = "driving.overfit"

    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {"iters": 10_000}, "small": SMALL}

    preset: Literal["default", "small"] = "default"
    """default: the reproduction's; small: for a CPU and the sample logs."""
    clip_index: int = Field(0, ge=0)
    """Which clip of the index."""
    fixed_target_frame: int | None = Field(None, ge=0)
    """Learn from the image of this frame of the clip alone."""


class TrainOptions(LearnOptions):
    """Training on many clips."""

    section: ClassVar[str] = "driving.train"

    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "small": {**SMALL, "cache_max_items": 16}}

    preset: Literal["default", "small"] = "default"
    """default: the paper's; small: for a CPU and the sample logs."""
    max_train_clips: int | None = Field(None, ge=1)
    """Take at most so many clips, evenly chosen."""
    cache_max_items: int = Field(2, ge=1)
    """Clips that each process keeps in memory, besides that of the step and those that are read ahead."""
    strict: bool = False
    """Stop at a clip that can't be read, instead of leaving it out and saying why."""


class FlowOptions(Options):
    """Pictures of image-plane velocity."""

    section: ClassVar[str] = "driving.flow"

    clip_index: int = Field(0, ge=0)
    """Which clip of the index."""
    mode: Literal["fixed_pose", "per_frame_pose", "both"] = "both"
    """fixed_pose: a camera that stands still, so that only what moves is seen to; per_frame_pose: each frame's own."""
    render_frames: str = "0-15"
    """Frames of the clip, such as 0-15 or 0,2,4."""
    frame_ref: int = Field(0, ge=0)
    """Frame of the clip whose pose is the fixed one."""


class EvaluateOptions(Options):
    """Evaluation on test clips."""

    section: ClassVar[str] = "driving.evaluate"

    max_eval_clips: int | None = Field(None, ge=1)
    """Measure at most so many clips, evenly chosen over all logs."""
    save_renders: bool = True
    """Write splats at each time, pictures, motion and a video of some clips."""
    save_max_clips: int | None = Field(None, ge=1)
    """Of each log at most so many; a clip at full size takes some 400 MB."""
    dynamic_mask: Literal["boxes", "points_dilated"] = "boxes"
    """What is dynamic: projected boxes faster than 1 m/s; or, dilated, points in moving boxes, as once reproduced."""
    strict: bool = False
    """Stop at a clip that can't be read, instead of leaving it out and saying why."""
