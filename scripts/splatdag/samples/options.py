"""Options of the sample inputs."""

from __future__ import annotations

from pydantic import Field

from splatdag.workflow.options import Options


class RoomOptions(Options):
    """The sample capture: photos of a room, ray-traced."""

    photos: int = Field(36, ge=8, le=1000)
    """Photos to take, half of them at each of two heights."""
    width: int = Field(320, ge=32)
    """Width of a photo (pixels)."""
    height: int = Field(240, ge=32)
    """Height of a photo (pixels)."""
    seed: int = Field(0, ge=0)
    """Seed of textures, jitter and noise."""
