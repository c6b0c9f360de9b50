"""Small photo sets with known cameras."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest

from splatdag.formats.photoset import PhotoSet
from splatdag.scene.load import Scene
from splatdag.scene.views import View
from support.scenes import arc, colmap_model, write_model

WIDTH, HEIGHT = 200, 150
LENSES = {
    "barrel": ("SIMPLE_RADIAL", [150, 100, 75, -0.2]),
    "pincushion": ("SIMPLE_RADIAL", [150, 100, 75, 0.2]),
    "radial, off centre": ("RADIAL", [140, 93.3, 80.7, -0.25, 0.08]),
    "tangential": ("OPENCV", [150, 140, 103, 72, 0.12, -0.05, 0.012, -0.015]),
    "rational": ("FULL_OPENCV", [150, 150, 100, 75, 0.3, 0.05, 0.002, 0.001, 0.01, 0.15, 0.02, 0.001]),
}
lenses = pytest.mark.parametrize("lens", LENSES)


def camera_of(lens: str) -> pycolmap.Camera:
    model, params = LENSES[lens]
    return pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=params)


def pinhole() -> pycolmap.Camera:
    return pycolmap.Camera(model="SIMPLE_PINHOLE", width=WIDTH, height=HEIGHT, params=[150, 100, 75])


def dataset(
    folder: Path, photos: dict[str, np.ndarray], camera: pycolmap.Camera, points: np.ndarray | None = None
) -> Path:
    """Photos (BGR, as OpenCV writes them), posed on an arc, and their model; returns the model's folder."""
    for name, pixels in photos.items():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / name), pixels)
    points = np.zeros((1, 3)) if points is None else points
    poses = dict(zip(photos, arc(max(2, len(photos))), strict=False))
    return write_model(folder / "model", colmap_model(poses, camera, points, np.full((len(points), 3), 128)))


def scene_of(folder: Path, *size: int | None) -> Scene:
    return Scene(folder / "model", PhotoSet(folder), *size)


def loaded(folder: Path, data_factor: int = 1, max_image_size: int | None = None) -> list[View]:
    scene = scene_of(folder, data_factor, max_image_size)
    return scene.load(scene.names, threads=2).views


def white() -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 255, np.uint8)


DOTS = np.array(
    [[0, 0, 0], [0.6, 0.4, 0.2], [-0.7, 0.35, 0], [0.5, -0.5, 0.3], [-0.5, -0.5, -0.2], [1.1, 0.0, 0.5]], float
)


def photo_with_dots(centers: np.ndarray, fine: int = 8) -> np.ndarray:
    """Round blurred dots at pixel positions (first pixel's centre 0.5, 0.5), integrated over each pixel."""
    x = (np.arange(WIDTH * fine) + 0.5) / fine
    y = (np.arange(HEIGHT * fine) + 0.5) / fine
    image = np.zeros((HEIGHT, WIDTH))
    for cx, cy in centers:
        bell_x = np.exp(-0.5 * ((x - cx) / 1.7) ** 2).reshape(WIDTH, fine).mean(axis=1)
        bell_y = np.exp(-0.5 * ((y - cy) / 1.7) ** 2).reshape(HEIGHT, fine).mean(axis=1)
        image += 250 * np.outer(bell_y, bell_x)
    return np.repeat(image.clip(0, 255).round().astype(np.uint8)[:, :, None], 3, axis=2)


def centroid(image: np.ndarray, near: np.ndarray, radius: int) -> np.ndarray:
    """Centre of brightness around a position; pixel centres are at half-integers."""
    column, row = np.floor(near).astype(int)
    top, left = row - radius, column - radius
    patch = image[top : row + radius + 1, left : column + radius + 1].astype(float)
    assert patch.shape == (2 * radius + 1, 2 * radius + 1)
    y, x = np.indices(patch.shape)
    return np.array([(patch * (x + left + 0.5)).sum(), (patch * (y + top + 0.5)).sum()]) / patch.sum()


def colours(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), mask)
