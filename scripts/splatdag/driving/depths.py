"""Depths of an image's pixels, from the lidar points around them."""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.spatial import Delaunay, QhullError

from splatdag.driving.lift import Lifted, pixels_of, project
from splatdag.driving.pandaset import Camera

_AROUND = 3
"""Lidar points that a triangle needs."""
_REACH = 3.0
"""How far a corner may be from a pixel whose depth is told, in typical lengths of a triangle's shortest side."""
_EDGE = 0.6
"""By which share the corners' depths may differ; where they do more, the nearest alone counts."""


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
        pixels, inside = pixels_of(camera, frame, points, width, height)
        self.pixels, first = np.unique(pixels[inside], axis=0, return_index=True)
        self.depths = project(camera, frame, points)[1][inside][first]
        self.triangles = _joined(self.pixels)
        corners = self.pixels[self.triangles]
        sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).min(axis=1)
        self.reach = _REACH * max(1.0, float(np.median(sides))) if len(sides) else 0.0
        self.cover = np.full((height, width), -1, np.int32)
        """[H, W]: the triangle that a pixel's centre lies in; -1 where there is none."""
        _draw(corners, self.cover)

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


@njit(nogil=True, cache=True, error_model="numpy")
def _draw(corners: np.ndarray, cover: np.ndarray) -> None:
    """Write into cover [H, W] which triangle of corners [T, 3, 2] each pixel's centre lies in."""
    height, width = cover.shape
    for number in range(len(corners)):
        (x0, y0), (x1, y1), (x2, y2) = corners[number]
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        if area == 0:
            continue
        left, right = min(x0, x1, x2), max(x0, x1, x2)
        top, bottom = min(y0, y1, y2), max(y0, y1, y2)
        for row in range(max(0, int(np.ceil(top - 0.5))), min(height - 1, int(np.floor(bottom - 0.5))) + 1):
            for column in range(max(0, int(np.ceil(left - 0.5))), min(width - 1, int(np.floor(right - 0.5))) + 1):
                x, y = column + 0.5, row + 0.5
                a = ((x1 - x) * (y2 - y) - (y1 - y) * (x2 - x)) / area
                b = ((x2 - x) * (y0 - y) - (y2 - y) * (x0 - x)) / area
                if a >= 0 and b >= 0 and a + b <= 1:
                    cover[row, column] = number
