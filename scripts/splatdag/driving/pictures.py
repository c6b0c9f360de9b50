"""Pictures that show whether lidar, cameras and poses fit."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from splatdag.driving.clips.clip_scene import View
from splatdag.driving.rendering.motion import LARGEST_PIXELS
from splatdag.driving.rendering.rendering import Drawn
from splatdag.formats.images import encoded
from splatdag.workflow.publish import write_bytes

FARTHEST = 80.0
"""Depth (m) that is darkest, or reddest."""
BACKGROUND = 24
"""Grey of a map where there is nothing."""


def write_png(path: Path, rgb: np.ndarray) -> None:
    """Write an image [H, W, 3] or [H, W] uint8."""
    write_bytes(path, encoded(rgb, ".png"))


def write_jpg(path: Path, rgb: np.ndarray) -> None:
    """Write an image [H, W, 3] uint8 with some loss."""
    write_bytes(path, encoded(rgb, ".jpg"))


def by_value(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """[N, 3] uint8: colours of values [N] from low (blue) to high (red)."""
    if not len(values):  # which OpenCV refuses
        return np.empty((0, 3), np.uint8)
    scaled = np.clip(255 * (values - low) / max(high - low, 1e-9), 0, 255).astype(np.uint8)
    return cv2.applyColorMap(scaled[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]


def with_points(
    image: np.ndarray, pixels: np.ndarray, depths: np.ndarray, colors: np.ndarray, radius: int
) -> np.ndarray:
    """A copy of an image [H, W, 3] with squares of 2 · `radius` + 1 pixels at points [N, 2], the nearest on top."""
    drawn = image.copy()
    for (x, y), color in zip(*(given[np.argsort(-depths)] for given in (pixels, colors)), strict=True):
        column, row = int(x), int(y)
        drawn[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1] = color
    return drawn


def depth_image(pixels: np.ndarray, depths: np.ndarray, width: int, height: int) -> np.ndarray:
    """[H, W] float32 metres: the nearest point's depth where one lies in the pixel, else 0."""
    image = np.full(height * width, np.inf, np.float32)
    column, row = pixels.astype(np.int64).T
    np.minimum.at(image, row * width + column, depths.astype(np.float32))
    image[np.isinf(image)] = 0
    return image.reshape(height, width)


def depth_gray(depths: np.ndarray, farthest: float) -> np.ndarray:
    """[H, W] uint8: near is bright, `farthest` (m) and beyond dark grey, no point black."""
    shade = 255 - 200 * np.clip(depths / farthest, 0, 1)
    return np.where(depths > 0, shade, 0).astype(np.uint8)


def birds_eye(
    points: np.ndarray, values: np.ndarray, ranges: tuple[float, float, float, float], size: int = 1000
) -> np.ndarray:
    """A map of points [N, 2 or 3] (m), x to the right and y up; its longer side is `size` pixels.

    Args:
        points: x and y are used.
        values: [N], told by colour from their 2nd to their 98th percentile; the largest lies on top.
        ranges: least and largest x, least and largest y (m).
        size: pixels.
    """
    least, extent = np.array(ranges[::2]), np.array([ranges[1] - ranges[0], ranges[3] - ranges[2]])
    width, height = np.maximum(1, np.round(size * extent / extent.max())).astype(np.int64)
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    low, high = np.percentile(values, [2, 98]) if len(values) else (0.0, 1.0)
    order = np.argsort(values)
    at = np.floor((points[order, :2] - least) / extent * (width, height)).astype(np.int64)
    inside = ((at >= 0) & (at < (width, height))).all(axis=1)
    column, row = at[inside].T
    image[height - 1 - row, column] = by_value(values[order][inside], float(low), float(high))
    return image


def around(window: float) -> tuple[float, float, float, float]:
    """Least and largest x, least and largest y of a map that is so wide (m), the origin in its middle."""
    return -window / 2, window / 2, -window / 2, window / 2


def write_step(folder: Path, drawn: Drawn, weights: Tensor, views: list[View]) -> None:
    """Write pred_rgb, gt_rgb, pred_depth, gt_depth and rgb_weight .png of the first image that a step drew."""
    view = views[0]
    write_png(folder / "pred_rgb.png", as_uint8(drawn.rgb[0]))
    write_png(folder / "gt_rgb.png", view.image.cpu().numpy())
    write_png(folder / "pred_depth.png", depth_gray(drawn.depth[0].detach().cpu().numpy(), FARTHEST))
    write_png(folder / "gt_depth.png", depth_gray(view.depth_image().cpu().numpy(), FARTHEST))
    write_png(folder / "rgb_weight.png", as_uint8((weights[0] - 1) / LARGEST_PIXELS))


def as_uint8(values: Tensor) -> np.ndarray:
    """Values in 0 to 1 as 8 bits; others are cut."""
    return (values.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
