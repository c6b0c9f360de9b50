"""COLMAP models on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

from splatdag.workflow.errors import UserError

_LEAST_BYTES = {"cameras": 24, "images": 73, "points3D": 51}
"""Of one entry in COLMAP's binary files, which begin with the number of entries (64 bits)."""
_FAR = 1e18
"""Coordinate from which squares of distances no longer fit into 32-bit floats."""


def read_reconstruction(folder: Path) -> pycolmap.Reconstruction:
    """Read a COLMAP model, binary or text.

    Raises:
        UserError: the model can't be read, has no registered images, or a pose or point that is not finite.
    """
    for name, size in _LEAST_BYTES.items():
        _check_whole(folder / f"{name}.bin", size)
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
    points = np.array([point.xyz for point in model.points3D.values()], dtype=np.float64)
    if not (np.abs(points) < _FAR).all():  # NaN is not smaller than anything
        raise UserError(f"{folder}: points of the COLMAP model are not finite; export it from COLMAP again")
    return model


def _check_whole(path: Path, entry_bytes: int) -> None:
    """Stop at a file that was cut short: COLMAP would ask for memory for as many entries as it claims to hold."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        count = int.from_bytes(stream.read(8), "little")
    size = path.stat().st_size
    if size < 8 + count * entry_bytes:
        raise UserError(f"{path}: damaged or cut short, it has only {size} bytes; export the model from COLMAP again")
