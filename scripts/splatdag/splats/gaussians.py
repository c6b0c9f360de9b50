"""The parameters of a set of Gaussians: how they start and what they mean."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

SH_C0 = 0.28209479177387814
"""Value of the constant spherical harmonic, 1 / (2 √π)."""

Parameters = dict[str, Tensor]
"""`means` [N, 3], log `scales` [N, 3], `quats` [N, 4] (wxyz, of any length), opacity logits `opacities` [N],
colours as spherical harmonics `sh0` [N, 1, 3] and `shN` [N, (degree + 1)² - 1, 3]; all float32."""


def from_points(
    points: np.ndarray,
    colors: np.ndarray,
    *,
    sh_degree: int,
    init_opacity: float,
    init_scale: float,
    generator: torch.Generator,
) -> Parameters:
    """Gaussians on points: round, as large as the distance to the three nearest, of the points' colours.

    Args:
        points: [N, 3] positions in the frame of training.
        colors: [N, 3] in [0, 1].
        sh_degree: degree of the spherical harmonics, 0 to 3.
        init_opacity: opacity of all.
        init_scale: factor on the size.
        generator: draws the rotations.
    """
    count = len(points)
    sh0 = torch.tensor((colors - 0.5) / SH_C0, dtype=torch.float32)[:, None]
    sizes = torch.tensor(np.log(neighbour_distances(points) * init_scale), dtype=torch.float32)
    return {
        "means": torch.tensor(points, dtype=torch.float32),
        "scales": sizes[:, None].repeat(1, 3),
        "quats": torch.rand((count, 4), generator=generator),
        "opacities": torch.full((count,), math.log(init_opacity / (1 - init_opacity))),
        "sh0": sh0,
        "shN": torch.zeros((count, (sh_degree + 1) ** 2 - 1, 3)),
    }


def random_points(
    count: int, center: np.ndarray, extent: float, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] in a cube of half side `extent` around `center` [3], and colours [N, 3]."""
    points = extent * (2 * torch.rand((count, 3), generator=generator) - 1)
    return center + points.double().numpy(), torch.rand((count, 3), generator=generator).double().numpy()


def neighbour_distances(points: np.ndarray) -> np.ndarray:
    """Root mean square distance [N] of every point to its three nearest; points that coincide get a small one."""
    if len(points) < 2:
        return np.full(len(points), 0.1)
    distances, _ = cKDTree(points).query(points, k=min(4, len(points)))
    mean = np.sqrt((distances[:, 1:] ** 2).mean(axis=1))
    return np.maximum(mean, 1e-4 * max(float(np.median(mean)), 1e-6))


def colors_of(parameters: Parameters) -> Tensor:
    """All spherical-harmonics coefficients [N, K, 3], as `render` takes them."""
    return torch.cat([parameters["sh0"], parameters["shN"]], dim=1)


def rotation_matrices(quats: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] of quaternions [N, 4] (wxyz, of any length)."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(dim=-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).reshape(-1, 3, 3)  # fmt: skip
