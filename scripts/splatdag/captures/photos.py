"""Photos and their COLMAP model as posed views, freed of lens distortion once, when they are loaded."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import torch

from splatdag.splats.views import View
from splatdag.workflow.errors import UserError

logger = logging.getLogger(__name__)

_DISTORTION = {
    "SIMPLE_PINHOLE": lambda p: (0.0, 0.0, 0.0, 0.0),
    "PINHOLE": lambda p: (0.0, 0.0, 0.0, 0.0),
    "SIMPLE_RADIAL": lambda p: (p[3], 0.0, 0.0, 0.0),
    "RADIAL": lambda p: (p[3], p[4], 0.0, 0.0),
    "OPENCV": lambda p: tuple(p[4:8]),
    "FULL_OPENCV": lambda p: tuple(p[4:12]),
}
"""COLMAP camera model to OpenCV's (k1, k2, p1, p2, ...)."""


@dataclass
class Scene:
    """A posed capture, ready for training."""

    views: list[View]
    """In name order."""
    points: np.ndarray
    """[N, 3] float64 points in the world, those seen in most photos first."""
    colors: np.ndarray
    """[N, 3] their colours in [0, 1]."""


def read_model(folder: Path) -> pycolmap.Reconstruction:
    """Read a COLMAP model, binary or text.

    Raises:
        UserError: the model can't be read, or has no registered images.
    """
    try:
        model = pycolmap.Reconstruction(str(folder))
    except Exception as error:  # pycolmap raises several types
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: can't read the COLMAP model: {reason[-200:]}") from None
    if not model.num_reg_images():
        raise UserError(f"{folder}: the COLMAP model has no registered images")
    return model


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
    lenses = {index: _Lens(camera, model_folder) for index, camera in model.cameras.items()}
    cv2.setNumThreads(1)

    def load(image: pycolmap.Image) -> View:
        return _view(image, lenses[image.camera_id], photos, data_factor, max_image_size)

    with ThreadPoolExecutor(threads) as pool:
        views = list(pool.map(load, images))
    points = sorted(model.points3D.values(), key=lambda point: -point.track.length())
    return Scene(
        views,
        np.array([point.xyz for point in points], dtype=np.float64).reshape(-1, 3),
        np.array([point.color for point in points], dtype=np.float64).reshape(-1, 3) / 255,
    )


def _view(image: Any, lens: _Lens, photos: Path, data_factor: int, max_image_size: int | None) -> View:
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


class _Lens:
    """A camera's undistortion, worked out once for all its photos."""

    def __init__(self, camera: pycolmap.Camera, model_folder: Path) -> None:
        name, parameters = camera.model.name, list(camera.params)
        if name not in _DISTORTION:
            raise UserError(
                f"{model_folder}: camera model {name} is not supported; undistort the photos with"
                " `colmap image_undistorter`, or estimate another (pose.camera_model: OPENCV)"
            )
        if not np.isfinite(parameters).all():
            raise UserError(f"{model_folder}: camera {camera.camera_id} has parameters that are not finite")
        self.size = (camera.width, camera.height)
        self.K = np.array(camera.calibration_matrix())
        self.distortion = np.array(_DISTORTION[name](parameters))
        if self.distortion.any():
            self._prepare()

    def _prepare(self) -> None:
        """Choose the largest image without invalid pixels; black rims would hold most of the error."""
        shifted = _shifted(self.K, -0.5)  # OpenCV's first pixel has its centre at 0, COLMAP's at 0.5
        new, (left, top, width, height) = cv2.getOptimalNewCameraMatrix(shifted, self.distortion, self.size, 0)
        maps = cv2.initUndistortRectifyMap(shifted, self.distortion, None, new, self.size, cv2.CV_32FC1)
        x, y = (m[top : top + height, left : left + width] for m in maps)
        inside = (x >= 0) & (x <= self.size[0] - 1) & (y >= 0) & (y <= self.size[1] - 1)
        while not inside.all():
            inside, (x, y), trim = _trimmed(inside, (x, y))
            left, top = left + trim[0], top + trim[1]
        self.maps = (np.ascontiguousarray(x), np.ascontiguousarray(y))
        self.new_K = _shifted(new, 0.5)
        self.new_K[0, 2] -= left
        self.new_K[1, 2] -= top

    def undistorted(self, pixels: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """The photo without distortion, and its intrinsics."""
        if pixels.shape[1::-1] != self.size:
            size, expected = ("×".join(map(str, pair)) for pair in (pixels.shape[1::-1], self.size))
            raise UserError(f"{path}: the photo is {size} pixels, but its COLMAP camera is {expected}")
        if not self.distortion.any():
            return pixels, self.K.copy()
        return cv2.remap(pixels, *self.maps, interpolation=cv2.INTER_LINEAR), self.new_K.copy()


def _shifted(K: np.ndarray, by: float) -> np.ndarray:
    shifted = K.copy()
    shifted[:2, 2] += by
    return shifted


def _trimmed(
    inside: np.ndarray, maps: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], tuple[int, int]]:
    """Cut the rim row or column that holds the largest share of invalid pixels."""
    shares = [(~line).mean() for line in (inside[0], inside[-1], inside[:, 0], inside[:, -1])]
    side = int(np.argmax(shares))
    cut = [np.s_[1:, :], np.s_[:-1, :], np.s_[:, 1:], np.s_[:, :-1]][side]
    return inside[cut], (maps[0][cut], maps[1][cut]), (int(side == 2), int(side == 0))
