"""Options of Flux4D's network: the Gaussians that a clip begins with, and what the network makes of them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, field_validator

from splatdag.driving.options import LiftOptions
from splatdag.workflow.options import Options


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
    """Largest number of lidar points' Gaussians, evenly chosen; null: all."""
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
    """Pixels of the input images, by chance, that become Gaussians, as in the training; 0 leaves them out."""
    clip_index: int = Field(0, ge=0)
    """Number of the clip in the index, from 0."""
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
