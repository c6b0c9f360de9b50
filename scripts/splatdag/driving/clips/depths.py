"""Depths of an image's pixels, from the lidar points around them."""

from __future__ import annotations

import numpy as np
from scipy.spatial import Delaunay, QhullError

from splatdag.driving.clips.lift import Lifted, pixels_of
from splatdag.driving.logs.pandaset import Camera
from splatdag.splats.cpu.triangles import cover_triangles

_AROUND = 3
"""Lidar points that a triangle needs."""
_REACH = 3.0
"""Largest distance of a pixel with a depth from the nearest corner, in medians of the triangles' shortest sides."""
_EDGE = 0.6
"""Share by which the corners' depths may differ; where they differ by more, the corner nearest to the pixel counts."""


class Depths:
    """The lidar points in an image, joined to triangles (Delaunay)."""

    def __init__(self, camera: Camera, frame: int, given: Lifted, width: int, height: int) -> None:
        """Join the points of a frame that lie in the image.

        Args:
            camera: whose image it is.
            frame: of the log.
            given: its points.
            width: of the image (pixels).
            height: of the image.
        """
        points = given.points + given.origin
        pixels, depths, inside = pixels_of(camera, frame, points, width, height)
        self.pixels, first = np.unique(pixels[inside], axis=0, return_index=True)
        self.depths = depths[inside][first]
        self.triangles = _joined(self.pixels)
        corners = self.pixels[self.triangles]
        sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).min(axis=1)
        self.reach = _REACH * max(1.0, float(np.median(sides))) if len(sides) else 0.0
        self.cover = np.full((height, width), -1, np.int32)
        """[H, W]: the triangle that a pixel's centre lies in; -1 where there is none."""
        cover_triangles(corners, self.cover)

    def at(self, pixels: np.ndarray) -> np.ndarray:
        """[N] metres along z of pixels [N, 2] (x, y); infinity where no point is near, or none around."""
        column, row = pixels.astype(np.int64).T
        found = self.cover[row, column]
        known = np.flatnonzero(found >= 0)
        triangles = self.triangles[found[known]]
        corners, depths, pixels = self.pixels[triangles], self.depths[triangles], pixels[known]
        away = np.linalg.norm(corners - pixels[:, None], axis=2)
        nearest = np.take_along_axis(depths, away.argmin(axis=1)[:, None], axis=1)[:, 0]
        inverse = (_weights(corners, pixels) / depths).sum(axis=1)  # planes are linear in 1 / depth
        low, high = depths.min(axis=1), depths.max(axis=1)
        smooth = np.clip(1 / np.maximum(inverse, 1e-6), low, high)
        told = np.where(high > (1 + _EDGE) * low, nearest, smooth)
        result = np.full(len(found), np.inf)
        result[known] = np.where(away.min(axis=1) <= self.reach, told, np.inf)
        return result


def _joined(pixels: np.ndarray) -> np.ndarray:
    """[T, 3] rows of pixels [N, 2]; none if these are too few, or all on a line."""
    if len(pixels) > _AROUND:
        try:
            return Delaunay(pixels).simplices
        except QhullError:
            pass
    return np.zeros((0, 3), np.int32)


def _weights(corners: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """[N, 3] barycentric coordinates of pixels [N, 2] in triangles [N, 3, 2]."""
    (ax, ay), (bx, by) = (corners[:, 0] - corners[:, 2]).T, (corners[:, 1] - corners[:, 2]).T
    x, y = (pixels - corners[:, 2]).T
    area = ax * by - ay * bx
    area = np.where(np.abs(area) > 1e-12, area, np.inf)
    first, second = (x * by - y * bx) / area, (ax * y - ay * x) / area
    return np.stack([first, second, 1 - first - second], axis=1)
