"""Options of the captures' stages. Names are those of COLMAP and of gsplat 1.5.3's simple_trainer."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from splatdag.workflow.options import Options
from splatdag.workflow.site import LEAST_MEM_MB


class ResourceOptions(Options):
    """What the jobs of one stage ask a cluster for, where a capture needs other than the usual."""

    mem_mb: int | None = Field(None, ge=LEAST_MEM_MB)
    """Memory (MB) of the first attempt; the second asks for twice as much."""
    runtime: int | None = Field(None, ge=1)
    """Time limit (minutes) of the first attempt; the second asks for twice as much."""
    threads: int | None = Field(None, ge=1)
    """CPUs."""


class TrainResources(ResourceOptions):
    """What a training asks for."""

    gpus: int | None = Field(None, ge=1)
    """GPUs, which share the views of each step."""


class CaptureResources(Options):
    """What a capture's stages ask for; not a part of what they compute, so that a change reruns nothing."""

    frames: ResourceOptions = ResourceOptions()
    pose: ResourceOptions = ResourceOptions()
    train: TrainResources = TrainResources()
    evaluate: ResourceOptions = ResourceOptions()


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
