"""The frame that a scene is trained in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FAR = 1_000
"""Distance of the cameras from the origin, in their radii, from which single precision is not enough."""


_LEAST_RADIUS = 0.5
"""Of the cameras, as they count for the extent, in median distances of the points."""


@dataclass(frozen=True)
class Normalisation:
    """A shift and a scale from the world to the frame of training: x' = (x - center) / scale.

    Rotations are left alone, so spherical harmonics mean the same in both frames.
    """

    center: np.ndarray
    """[3] float64, in world units."""
    scale: float
    """World units per unit of training."""
    extent: float
    """Radius of the cameras in units of training: `scene_scale`, which learning rate and densification use."""

    def points(self, world: np.ndarray) -> np.ndarray:
        """Positions [..., 3] from the world to the frame of training."""
        return (world - self.center) / self.scale

    def world_to_camera(self, matrix: np.ndarray) -> np.ndarray:
        """A camera of the world in the normalised one, [4, 4] float64; what it sees is unchanged but for the scale."""
        matrix = matrix.copy()
        matrix[:3, 3] = (matrix[:3, :3] @ self.center + matrix[:3, 3]) / self.scale
        return matrix

    def offset(self) -> np.ndarray:
        """What has to stay out of a float32 file: whole units, and zero unless the scene is far from the origin."""
        far = np.abs(self.center).max() > _FAR * self.scale
        return np.round(self.center) if far else np.zeros(3)


def normalisation(centers: np.ndarray, points: np.ndarray, normalize: bool = True) -> Normalisation:
    """Centre the cameras and make their median distance one.

    Where the cameras have no extent (one camera, or all in one place), the distance of the points stands in. The
    extent, which is simple_trainer's `scene_scale` else, is at least half the distance of the points: with cameras
    close together everything would be large beside it, hence split and pruned.

    Args:
        centers: [V, 3] camera positions in the world.
        points: [N, 3] points of the scene in the world.
        normalize: False leaves the world's units and origin, and only measures the extent; but an origin so far
            away that single precision would not do (georeferenced inputs) is moved among the cameras by whole units.
    """
    center = centers.mean(axis=0)
    distances = np.linalg.norm(centers - center, axis=1)
    depth = float(np.median(np.linalg.norm(points - center, axis=1))) if len(points) else 1.0
    scale = float(np.median(distances))
    radius = max(float(distances.max()), _LEAST_RADIUS * depth)
    if scale <= 1e-3 * depth:
        scale = depth or 1.0
        radius = radius or 1.0
    if not normalize:
        far = np.abs(center).max() > _FAR * max(radius, 1.0)
        return Normalisation(np.round(center) if far else np.zeros(3), 1.0, 1.1 * radius)
    return Normalisation(center, scale, 1.1 * radius / scale)
