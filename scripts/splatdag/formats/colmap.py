"""COLMAP models on disk, and the lens distortion of their cameras."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap

from splatdag.workflow.errors import UserError

_DISTORTION = {
    "SIMPLE_PINHOLE": lambda p: (0.0, 0.0, 0.0, 0.0),
    "PINHOLE": lambda p: (0.0, 0.0, 0.0, 0.0),
    "SIMPLE_RADIAL": lambda p: (p[3], 0.0, 0.0, 0.0),
    "RADIAL": lambda p: (p[3], p[4], 0.0, 0.0),
    "OPENCV": lambda p: tuple(p[4:8]),
    "FULL_OPENCV": lambda p: tuple(p[4:12]),
}
"""Functions from the parameters of a COLMAP camera model to OpenCV's coefficients (k1, k2, p1, p2, ...)."""
_LEAST_BYTES = {"cameras": 24, "images": 73, "points3D": 51}
"""Least size (bytes) of one entry in COLMAP's binary files, which begin with the number of entries (64 bits)."""
_FAR = 1e18
"""Coordinate from which squares of distances no longer fit into 32-bit floats."""


def read_model(folder: Path) -> pycolmap.Reconstruction:
    """Read a COLMAP model, binary or text, whose photos can be undistorted.

    Raises:
        UserError: the model can't be read, has no registered images, a pose or point that is not finite, or a camera
            as `check_camera` refuses it.
    """
    for name, size in _LEAST_BYTES.items():
        _check_whole(folder / f"{name}.bin", size)
    for name, check in _SKIP.items():
        _check_entries(folder / f"{name}.bin", check)
    try:
        model = pycolmap.Reconstruction(str(folder))
    except Exception as error:  # pycolmap raises several types
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder}: can't read the COLMAP model: {reason[-200:]}; export it from COLMAP again"
        ) from None
    if not model.num_reg_images():
        raise UserError(f"{folder}: the COLMAP model has no registered images")
    for index in model.reg_image_ids():
        image = model.images[index]
        if not np.isfinite(image.cam_from_world().matrix()).all():
            raise UserError(f"{folder}: {image.name}: its pose is not finite")
        check_camera(model.cameras[image.camera_id], f"{folder}: {image.name}")
    points = np.array([point.xyz for point in model.points3D.values()], dtype=np.float64)
    if not (np.abs(points) < _FAR).all():  # NaN is not smaller than anything
        raise UserError(f"{folder}: points of the COLMAP model are not finite; export it from COLMAP again")
    return model


def check_camera(camera: pycolmap.Camera, where: str) -> None:
    """Stop early at a camera whose photos can't be undistorted.

    Raises:
        UserError: its model is not supported, or it has values that are not finite or no focal length.
    """
    name = camera.model.name
    if name not in _DISTORTION:
        raise UserError(
            f"{where}: camera model {name} is not supported; undistort the photos with"
            " `colmap image_undistorter`, or estimate a pinhole or radial one (pose.camera_model: OPENCV)"
        )
    if not np.isfinite(camera.params).all():
        raise UserError(f"{where}: a camera of the COLMAP model ({name}) has parameters that are not finite")
    if min(camera.width, camera.height, camera.focal_length_x, camera.focal_length_y) <= 0:
        raise UserError(f"{where}: a camera of the COLMAP model ({name}) has no size or no focal length")


def distortion(camera: pycolmap.Camera) -> tuple[float, ...]:
    """Return OpenCV's coefficients (k1, k2, p1, p2, …) of a supported camera; all are zero of a pinhole camera."""
    return _DISTORTION[camera.model.name](camera.params)


def _check_whole(path: Path, entry_bytes: int) -> None:
    """Stop at a file that was cut short: COLMAP would ask for memory for as many entries as it claims to hold."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        count = int.from_bytes(stream.read(8), "little")
    if path.stat().st_size < 8 + count * entry_bytes:
        raise _cut_short(path)


def _check_entries(path: Path, skip: Callable[[bytes, int], int]) -> None:
    """Stop at a file whose entries claim more parts than there are bytes: COLMAP would count on past the end."""
    if not path.is_file():
        return
    data = path.read_bytes()
    try:
        (count,) = struct.unpack_from("<Q", data)
        at = 8
        for _ in range(count):
            at = skip(data, at)
    except (struct.error, OverflowError):
        raise _cut_short(path) from None
    if at > len(data):
        raise _cut_short(path)


def _skip_rig(data: bytes, at: int) -> int:
    """Return the end of a rig: its id and sensors, all but the first with their pose, where that is known."""
    (sensors,) = struct.unpack_from("<I", data, at + 4)
    at += 8 + (8 if sensors else 0)
    for _ in range(sensors - 1):
        (known,) = struct.unpack_from("<B", data, at + 8)
        at += 9 + (56 if known else 0)
    return at


def _skip_frame(data: bytes, at: int) -> int:
    """Return the end of a frame: its ids, pose and data."""
    (parts,) = struct.unpack_from("<I", data, at + 64)
    return at + 68 + 16 * parts


def _skip_image(data: bytes, at: int) -> int:
    """Return the end of an image: its ids and pose, name, and points."""
    end = data.find(b"\0", at + 64)
    (points,) = struct.unpack_from("<Q", data, end + 1 if end >= 0 else len(data))
    return end + 9 + 24 * points


def _skip_point(data: bytes, at: int) -> int:
    """Return the end of a point: its id, position, colour and error, and the images that see it."""
    (seen,) = struct.unpack_from("<Q", data, at + 43)
    return at + 51 + 8 * seen


_SKIP = {"rigs": _skip_rig, "frames": _skip_frame, "images": _skip_image, "points3D": _skip_point}


def _cut_short(path: Path) -> UserError:
    size = path.stat().st_size
    return UserError(f"{path}: damaged or cut short, it has only {size} bytes; export the model from COLMAP again")
