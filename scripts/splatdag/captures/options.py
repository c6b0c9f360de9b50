"""Options of the captures' stages. Names are those of COLMAP and of gsplat 1.5.3's simple_trainer."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from splatdag.workflow.area import OwnGpuResources, OwnResources
from splatdag.workflow.options import Options


class CaptureResources(Options):
    """Resources of the jobs of a capture's stages; a change reruns nothing."""

    frames: OwnResources = OwnResources()
    pose: OwnResources = OwnResources()
    train: OwnGpuResources = OwnGpuResources()
    evaluate: OwnGpuResources = OwnGpuResources()


class FrameOptions(Options):
    """Photos from a video."""

    section: ClassVar[str] = "captures.frames"

    num_frames: int = Field(100, ge=2)
    """Parts of equal length that the video is cut into; the sharpest frame of each is taken."""
    min_change: float = Field(1.0, ge=0)
    """Mean change of brightness (0 to 255) since the frame before, below which the camera stood still; 0 keeps all."""


class PoseOptions(Options):
    """Camera poses from photos, by structure from motion (pycolmap)."""

    section: ClassVar[str] = "captures.pose"

    camera_model: Literal["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"] = "SIMPLE_RADIAL"
    """Camera model to estimate; photos in one folder share one camera."""
    matching: Literal["auto", "exhaustive", "sequential"] = "auto"
    """Pairs of photos to match: all, or neighbours in name order; auto takes all up to 200 photos."""
    max_image_size: int = Field(3200, ge=64)
    """Longest side at which features are looked for (pixels); larger photos are scaled down for it."""
    max_num_features: int = Field(8192, ge=100)
    """Features kept per photo."""
    min_registered: float = Field(0.5, gt=0, le=1)
    """Share of the photos that must be registered; with fewer the stage fails and names the others."""
    seed: int = Field(0, ge=0)
    """Seed of feature matching and mapping."""
