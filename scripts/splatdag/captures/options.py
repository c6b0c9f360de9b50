"""Options of the captures' stages. Names are those of COLMAP and of gsplat 1.5.3's simple_trainer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from splatdag.splats.options import SplatOptions
from splatdag.workflow.options import Options


class PoseOptions(Options):
    """Camera poses from photos, by structure from motion (pycolmap)."""

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


class TrainOptions(SplatOptions):
    """Training of one capture."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        **SplatOptions.presets,
        "small": {**SplatOptions.presets["small"], "max_image_size": 640},
    }

    data_factor: int = Field(1, ge=1)
    """Photos are scaled down by this factor, after undistortion."""
    max_image_size: int | None = Field(None, ge=16)
    """Photos whose longest side is larger are scaled down further, to this (pixels)."""
    test_every: int = Field(8, ge=2)
    """Every n-th photo, from the first in name order, is held out for evaluation."""
