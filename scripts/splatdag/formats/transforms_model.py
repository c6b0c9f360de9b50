"""Cameras of nerfstudio and instant-ngp (`transforms.json`) as a COLMAP model."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pycolmap

from splatdag.formats.colmap import check_camera
from splatdag.formats.images import read_header, text
from splatdag.formats.transforms import Frame, Transforms
from splatdag.workflow.errors import UserError, listed

logger = logging.getLogger(__name__)
_SUPPORTED = frozenset({"OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE"})
_GL_TO_CV = np.diag([1.0, -1.0, -1.0, 1.0])
"""Change of camera axes from x right, y up, z back to x right, y down, z forward (its own inverse)."""
_RIGID = 1e-3
"""Largest deviation of RᵀR from the identity, in any entry, of a rotation R; files have six digits or fewer."""


def posed_model(file: Transforms) -> pycolmap.Reconstruction:
    """Convert the cameras of a transforms.json to a COLMAP model, with the points of its PLY file where it names one.

    Poses are camera-to-world with OpenGL axes (x right, y up, z back). nerfstudio says of `applied_transform` that
    it led from the original world to the saved one, for poses and points alike, so it is undone: the model is in
    the original world. Distortion is OpenCV's: k1, k2, p1, p2, then k3 and, in the denominator, k4.

    Args:
        file: the transforms.json.

    Returns:
        Model with a camera per photo, or per set of intrinsics that photos of one size share. Points have no tracks.

    Raises:
        UserError: what is wrong and in which frame.
    """
    if len(file.frames) < 2:
        raise UserError(f"{file.path}: only one frame; at least two are needed")
    if file.missing:
        logger.warning("left out, since their photos are not there: %s", listed(file.missing))
    to_original = _to_original(file)
    model = pycolmap.Reconstruction()
    cameras: dict[tuple[Any, ...], int] = {}
    for index, frame in enumerate(file.frames, start=1):
        where = f"{file.path}: {frame.name}"
        camera = _camera({**file.values, **frame.values}, where, read_header(file.path.parent / frame.name).size)
        key = (camera.model.name, camera.width, camera.height, *camera.params)
        if key not in cameras:
            cameras[key] = camera.camera_id = len(cameras) + 1
            model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(name=frame.name, camera_id=cameras[key], image_id=index)
        model.add_image_with_trivial_frame(image, _world_to_camera(frame, where, to_original))
    if file.points is not None:
        _add_points(model, file.points, to_original)
    return model


def _to_original(file: Transforms) -> np.ndarray:
    """Return the similarity [4, 4] from the saved world to the original one."""
    applied = np.eye(4)
    given = file.values.get("applied_transform")
    if given is not None:
        rows = _matrix(given, f"{file.path}: applied_transform")
        applied[:3] = rows[:3]
    scale = file.values.get("applied_scale", 1.0)
    if not isinstance(scale, int | float) or not math.isfinite(scale) or scale <= 0:
        raise UserError(f"{file.path}: applied_scale is {scale!r}, expected a positive number")
    size = abs(np.linalg.det(applied[:3, :3])) ** (1 / 3)
    if size < 1e-9 or not _is_rotation(applied[:3, :3] / size):
        raise UserError(f"{file.path}: applied_transform is no rotation, shift and scale; poses would be sheared")
    return np.linalg.inv(np.diag([scale, scale, scale, 1.0]) @ applied)


def _world_to_camera(frame: Frame, where: str, to_original: np.ndarray) -> pycolmap.Rigid3d:
    saved = _matrix(frame.values.get("transform_matrix"), f"{where}: transform_matrix")
    if not _is_rotation(saved[:3, :3]):
        raise UserError(f"{where}: transform_matrix is not rigid: its upper left 3×3 numbers are no rotation")
    camera_to_world = to_original @ saved @ _GL_TO_CV
    # A scale belongs to the position alone.
    left, _, right = np.linalg.svd(camera_to_world[:3, :3])
    rotation = (left @ right).T
    return pycolmap.Rigid3d(np.column_stack([rotation, -rotation @ camera_to_world[:3, 3]]))


def _matrix(given: Any, where: str) -> np.ndarray:
    """Read a matrix [4, 4] float64 from a list of 3 or 4 rows."""
    try:
        rows = np.array(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        rows = np.zeros(0)
    if rows.shape not in {(3, 4), (4, 4)}:
        raise UserError(f"{where}: expected 4 rows of 4 numbers")
    if not np.isfinite(rows).all():
        raise UserError(f"{where}: not finite")
    return np.vstack([rows[:3], [0, 0, 0, 1]])


def _is_rotation(matrix: np.ndarray) -> bool:
    return bool(np.abs(matrix.T @ matrix - np.eye(3)).max() < _RIGID and np.linalg.det(matrix) > 0)


def _camera(values: dict[str, Any], where: str, size: tuple[int, int]) -> pycolmap.Camera:
    """Return the camera of a photo of this size; intrinsics for another size of the same shape are scaled."""
    name = values.get("camera_model", "OPENCV")
    if name not in _SUPPORTED or values.get("is_fisheye"):
        kind = "fisheye" if values.get("is_fisheye") else name
        raise UserError(
            f"{where}: camera_model {kind} is not supported; undistort the photos to pinhole views first, for"
            " instance with `colmap image_undistorter`"
        )
    width, height = (_number(values, key, where, side) for key, side in zip("wh", size, strict=True))
    if width <= 0 or height <= 0 or abs(width / height * size[1] / size[0] - 1) > 0.02:
        raise UserError(f"{where}: the photo is {text(size)} pixels, but its camera has w {width:g}, h {height:g}")
    focal_x = _focal(values, "x", width, where)
    focal_y = _focal(values, "y", height, where)
    focal_x = focal_y if focal_x is None else focal_x
    focal_y = focal_x if focal_y is None else focal_y
    if focal_x is None or focal_y is None:
        raise UserError(f"{where}: no focal length; expected fl_x (pixels) or camera_angle_x (radians)")
    x, y = size[0] / width, size[1] / height
    cx, cy = _number(values, "cx", where, width / 2), _number(values, "cy", where, height / 2)
    k1, k2, k3, k4, p1, p2 = (_number(values, key, where, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    pinhole = [focal_x * x, focal_y * y, cx * x, cy * y]
    if k3 or k4:
        model, params = "FULL_OPENCV", [*pinhole, k1, k2, p1, p2, k3, k4, 0.0, 0.0]
    elif k1 or k2 or p1 or p2:
        model, params = "OPENCV", [*pinhole, k1, k2, p1, p2]
    else:
        model, params = "PINHOLE", pinhole
    camera = pycolmap.Camera(model=model, width=size[0], height=size[1], params=params)
    check_camera(camera, where)
    return camera


def _focal(values: dict[str, Any], axis: str, side: float, where: str) -> float | None:
    """Return the focal length in pixels, as given or from the angle of view along that axis."""
    if values.get(f"fl_{axis}") is not None:
        return _number(values, f"fl_{axis}", where, 0.0)
    if values.get(f"camera_angle_{axis}") is not None:
        return side / 2 / math.tan(_number(values, f"camera_angle_{axis}", where, 0.0) / 2)
    return None


def _number(values: dict[str, Any], key: str, where: str, default: float) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: {key} is {value!r}, expected a number")
    return float(value)


def _add_points(model: pycolmap.Reconstruction, path: Path, to_original: np.ndarray) -> None:
    try:
        vertices = plyfile.PlyData.read(str(path))["vertex"]
        points = np.column_stack([np.asarray(vertices[axis], dtype=np.float64) for axis in "xyz"])
        names = {field.name for field in vertices.properties}
        channels = ("red", "green", "blue")
        gray = np.full((len(points), 3), 128, np.uint8)
        colors = np.column_stack([vertices[c] for c in channels]) if names.issuperset(channels) else gray
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise UserError(f"{path}: can't read points from it: {' '.join(str(error).split())}") from None
    if colors.dtype != np.uint8:
        colors = np.rint(np.clip(colors, 0, 1) * 255) if colors.dtype.kind == "f" else np.clip(colors, 0, 255)
    finite = np.isfinite(points).all(axis=1)
    if not finite.any():
        raise UserError(f"{path}: no points in it")
    world = points[finite] @ to_original[:3, :3].T + to_original[:3, 3]
    for point, color in zip(world, colors[finite].astype(np.uint8), strict=True):
        model.add_point3D(point, pycolmap.Track(), color)
