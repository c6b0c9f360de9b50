"""Voxels: which points lie in which cube of a grid, and means over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from splatdag.driving.network.sparse import Level, levels


@dataclass(frozen=True)
class Grid:
    """A box of cubes in the ego frame of a clip."""

    low: tuple[float, float, float]
    """Lowest corner (m)."""
    size: float
    """Edge of a cube (m)."""
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, point_cloud_range: tuple[float, ...], voxel_size: float) -> Grid:
        """The grid over x0, y0, z0, x1, y1, z1 (m)."""
        low, high = point_cloud_range[:3], point_cloud_range[3:]
        x, y, z = (max(1, round((b - a) / voxel_size)) for a, b in zip(low, high, strict=True))
        return cls((low[0], low[1], low[2]), voxel_size, (x, y, z))


@dataclass(frozen=True)
class Voxels:
    """The voxels that a set of points occupies."""

    rows: Tensor
    """[M] int64: the points that lie in the grid."""
    of_rows: Tensor
    """[M] int64: the voxel of each, as a row of the first level."""
    pyramid: list[Level]

    def mean(self, features: Tensor) -> Tensor:
        """[V, C]: means over the points of each voxel, of features [N, C] of all points."""
        count = len(self.pyramid[0].coordinates)
        sums = features.new_zeros((count, features.shape[1])).index_add(
            0, self.of_rows, features.index_select(0, self.rows)
        )
        return sums / torch.bincount(self.of_rows, minlength=count).clamp_min(1)[:, None]

    def spread(self, features: Tensor, count: int) -> Tensor:
        """[count, C]: each point has what its voxel has, of features [V, C]; zero outside of the grid."""
        return features.new_zeros((count, features.shape[1])).index_copy(
            0, self.rows, features.index_select(0, self.of_rows)
        )


def voxelised(means: Tensor, grid: Grid, depth: int) -> Voxels:
    """Sort points [N, 3] into a grid.

    Args:
        means: in the grid's frame (m); no gradient flows through their place.
        grid: where.
        depth: levels of the pyramid.
    """
    at = ((means.detach() - means.new_tensor(grid.low)) / grid.size).floor().long()
    inside = ((at >= 0) & (at < at.new_tensor(grid.shape))).all(dim=1)
    rows = torch.nonzero(inside)[:, 0]
    _, y, z = grid.shape
    keys = (at[rows, 0] * y + at[rows, 1]) * z + at[rows, 2]
    distinct, of_rows = torch.unique(keys, return_inverse=True)
    coordinates = torch.stack([distinct // (y * z), distinct // z % y, distinct % z], dim=1)
    return Voxels(rows, of_rows, levels(coordinates, grid.shape, depth))
