"""Photos and their COLMAP model as posed views, freed of lens distortion once, when they are loaded."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import torch

from splatdag.captures.lens import Lens
from splatdag.captures.model import read_model
from splatdag.splats.views import View
from splatdag.workflow.errors import UserError


@dataclass
class Scene:
    """A posed capture, ready for training."""

    views: list[View]
    """In name order."""
    points: np.ndarray
    """[N, 3] float64 points in the world, those seen in most photos first."""
    colors: np.ndarray
    """[N, 3] their colours in [0, 1]."""


def load_scene(
    model_folder: Path, photos: Path, data_factor: int, threads: int, max_image_size: int | None = None
) -> Scene:
    """Load all registered photos, undistorted and scaled down, and the model's points.

    Args:
        model_folder: COLMAP model.
        photos: folder that the model's image names are relative to.
        data_factor: scale photos down by this.
        threads: photos to decode at a time.
        max_image_size: scale photos down further, to this longest side (pixels).

    Raises:
        UserError: a photo is missing or unreadable, or a camera can't be used.
    """
    model = read_model(model_folder)
    images = sorted((model.images[index] for index in model.reg_image_ids()), key=lambda image: image.name)
    # Few lenses are kept: a model may have a camera for every photo, and a lens is as large as its photo.
    lens_of = functools.lru_cache(maxsize=2 * threads)(Lens)
    cv2.setNumThreads(1)

    def load(image: pycolmap.Image) -> View:
        camera = model.cameras[image.camera_id]
        lens = lens_of(camera.model.name, (camera.width, camera.height), tuple(camera.params))
        return _view(image, lens, photos, data_factor, max_image_size)

    with ThreadPoolExecutor(threads) as pool:
        views = list(pool.map(load, images))
    points = sorted(model.points3D.values(), key=lambda point: -point.track.length())
    return Scene(
        views,
        np.array([point.xyz for point in points], dtype=np.float64).reshape(-1, 3),
        np.array([point.color for point in points], dtype=np.float64).reshape(-1, 3) / 255,
    )


def _view(image: Any, lens: Lens, photos: Path, data_factor: int, max_image_size: int | None) -> View:
    pose = np.eye(4)
    pose[:3] = image.cam_from_world().matrix()
    if not np.isfinite(pose).all():
        raise UserError(f"{image.name}: its pose in the COLMAP model is not finite")
    path = photos / image.name
    pixels, K = lens.undistorted(read_photo(path), path)
    factor = max(data_factor, max(pixels.shape[:2]) / max_image_size) if max_image_size else data_factor
    height, width = (max(1, round(size / factor)) for size in pixels.shape[:2])
    K[0] *= width / pixels.shape[1]
    K[1] *= height / pixels.shape[0]
    if factor > 1:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return View(image.name, torch.from_numpy(np.ascontiguousarray(pixels)), pose, K)


def read_photo(path: Path) -> np.ndarray:
    """Read a photo as stored (no rotation by EXIF, as COLMAP sees it): [H, W, 3] uint8, RGB.

    Raises:
        UserError: the photo is missing or can't be decoded.
    """
    if not path.is_file():
        raise UserError(f"{path}: the COLMAP model names this photo, but it is not there")
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise UserError(f"{path}: can't be decoded; remove or replace this photo")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
