"""Options of the sample inputs."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from splatdag.workflow.options import SampleOptions

CAMERAS = ("front_camera", "front_left_camera", "front_right_camera", "left_camera", "right_camera", "back_camera")
"""Cameras of the sample logs, named as PandaSet's."""
SEQUENCES = tuple(
    f"{number:03d}"
    for first, last in (
        (1, 6), (8, 8), (11, 21), (23, 24), (27, 30), (32, 35), (37, 48), (50, 59), (62, 74), (77, 80), (84, 86),
        (88, 95), (97, 106), (109, 110), (112, 113), (115, 117), (119, 120), (122, 124), (139, 139), (149, 149),
        (158, 158),
    )
    for number in range(first, last + 1)
)  # fmt: skip
"""The names of PandaSet's 103 logs."""


class RoomOptions(SampleOptions):
    """The sample capture: photos of a room, ray-traced."""

    section: ClassVar[str] = "samples.room"
    made: ClassVar[str] = "photos of a made-up room, ray-traced"

    photos: int = Field(36, ge=8, le=1000)
    """Photos to take, half of them at each of two heights."""
    width: int = Field(320, ge=32)
    """Width of a photo (pixels)."""
    height: int = Field(240, ge=32)
    """Height of a photo (pixels)."""
    seed: int = Field(0, ge=0)
    """Seed of textures, jitter and noise."""


class StreetOptions(SampleOptions):
    """The sample driving logs: ray-traced streets in PandaSet's layout."""

    section: ClassVar[str] = "samples.street"
    made: ClassVar[str] = "made-up streets in PandaSet's layout, ray-traced"

    logs: int = Field(2, ge=1, le=103)
    """Logs to make, named as PandaSet's first so many; every third from the second on turns at a crossing."""
    frames: int = Field(16, ge=1, le=100)
    """Frames of a log, ten a second; PandaSet's have 80."""
    width: int = Field(240, ge=32, le=1920)
    """Width of an image (pixels), 9/16 of it high; PandaSet's is 1920."""
    cameras: tuple[str, ...] = CAMERAS
    """Cameras that record."""
    points: int = Field(3000, ge=64)
    """Firings of the Pandar64 in a sweep, most of which come back; the PandarGT has half as many (real: 115200)."""
    semseg: Literal["some", "all", "none"] = "some"
    """Logs that have classes of points: every second one, all, or none."""
    packed: Literal["some", "all", "none"] = "some"
    """Logs whose tables are .pkl.gz: every second one, all, or none."""
    seed: int = Field(0, ge=0)
    """Seed of streets, traffic, textures and noise."""

    @field_validator("cameras")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or set(names) - set(CAMERAS):
            raise ValueError(f"expected some of {', '.join(CAMERAS)}")
        return names

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of an image (pixels)."""
        return self.width, round(self.width * 9 / 16)
