"""The frame that a scene is trained in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FAR = 1_000
"""Distance of the cameras from the origin, in their radii, from which single precision is not enough."""


_LEAST_RADIUS = 0.5
"""Least radius of the cameras for the extent, in median distances of the points from the cameras' centre."""


@dataclass(frozen=True)
class Normalisation:
    """A shift and a scale from the world to the frame of training: x' = (x - center) / scale.

    Our own frames are not rotated, so that spherical harmonics mean the same in the world; simple_trainer's are.
    """

    center: np.ndarray
    """[3] float64, in world units."""
    scale: float
    """World units per unit of training."""
    extent: float
    """Radius of the cameras in units of training: `scene_scale`, which learning rate and densification use."""
    rotation: np.ndarray | None = None
    """[3, 3] R in x' = R (x - center) / scale; None is no rotation."""

    def points(self, world: np.ndarray) -> np.ndarray:
        """Positions [..., 3] from the world to the frame of training."""
        shifted = (world - self.center) / self.scale
        return shifted if self.rotation is None else shifted @ self.rotation.T

    def world_to_camera(self, matrix: np.ndarray) -> np.ndarray:
        """A camera of the world in the normalised one, [4, 4] float64; what it sees is unchanged but for the scale."""
        matrix = matrix.copy()
        matrix[:3, 3] = (matrix[:3, :3] @ self.center + matrix[:3, 3]) / self.scale
        if self.rotation is not None:
            matrix[:3, :3] = matrix[:3, :3] @ self.rotation.T
        return matrix

    def offset(self) -> np.ndarray:
        """Return the shift [3] (whole world units) to keep out of a float32 file; zero unless the origin is far off."""
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


def simple_trainer_frames(world_to_camera: np.ndarray, points: np.ndarray) -> list[Normalisation]:
    """The frames that gsplat 1.5's simple_trainer may have trained in, with normalize_world_space; its own one first.

    The world is turned so that the mean camera looks upright, shifted to where the optical axes come closest to the
    origin (median), and scaled to a median distance of the cameras of one; then turned to the principal axes of the
    points, about their median, and around x if most points are above their mean. Which way an axis points is the
    choice of the library that works out eigenvectors, and the last turn is missing before 1.5: so there are four.

    Args:
        world_to_camera: [V, 4, 4] all cameras of the COLMAP model.
        points: [N, 3] all its points.

    Returns:
        No frame where the cameras or points have no extent.
    """
    turns, shifts = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3]
    centers = -np.einsum("vji,vj->vi", turns, shifts)
    up = -turns[:, 1].mean(axis=0)
    upright = _rotation(up / np.linalg.norm(up), np.array([0.0, -1.0, 0.0])) if np.linalg.norm(up) else None
    if upright is None or len(points) < 3:
        return []
    forward, centers = turns[:, 2] @ upright.T, centers @ upright.T
    middle = np.median(centers - (forward * centers).sum(axis=1, keepdims=True) * forward, axis=0)
    scale = float(np.median(np.linalg.norm(centers - middle, axis=1)))
    if not scale:
        return []
    centers = (centers - middle) / scale
    points = (points.astype(np.float32).astype(np.float64) @ upright.T - middle) / scale
    median = np.median(points, axis=0)
    axes = np.linalg.eigh(np.cov(points - median, rowvar=False))[1].T[::-1].copy()
    axes[0] *= np.sign(np.linalg.det(axes))
    heights = (points - median) @ axes[2]
    signs = [(1, 1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, -1)]
    if np.median(heights) > np.mean(heights):
        signs = signs[2:] + signs[:2]
    extent = 1.1 * float(np.linalg.norm(centers - centers.mean(axis=0), axis=1).max())
    center = upright.T @ (middle + scale * median)
    return [Normalisation(center, scale, extent, np.diag(of) @ axes @ upright) for of in signs]


def _rotation(one: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    """The rotation [3, 3] that turns a unit vector into another by the shortest way; None where they are opposite."""
    cosine, (x, y, z) = float(one @ other), np.cross(one, other)
    if cosine <= -1:
        return None
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)
