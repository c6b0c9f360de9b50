"""COLMAP models, as given or as estimated."""

from __future__ import annotations

from pathlib import Path

import pycolmap

from splatdag.formats.colmap import read_reconstruction
from splatdag.scene.lens import check_camera


def read_model(folder: Path) -> pycolmap.Reconstruction:
    """Read a COLMAP model whose photos can be undistorted.

    Raises:
        UserError: as `read_reconstruction`, or a camera can't be undistorted.
    """
    model = read_reconstruction(folder)
    for index in model.reg_image_ids():
        image = model.images[index]
        check_camera(model.cameras[image.camera_id], f"{folder}: {image.name}")
    return model
