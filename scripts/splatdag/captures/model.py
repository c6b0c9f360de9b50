"""COLMAP models, as given or as estimated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

from splatdag.captures.lens import check_camera
from splatdag.workflow.errors import UserError


def read_model(folder: Path) -> pycolmap.Reconstruction:
    """Read a COLMAP model, binary or text.

    Raises:
        UserError: the model can't be read, has no registered images, a pose that is not finite, or a camera that
            can't be undistorted.
    """
    try:
        model = pycolmap.Reconstruction(str(folder))
    except Exception as error:  # pycolmap raises several types
        reason = " ".join(str(error).split())
        raise UserError(f"{folder}: can't read the COLMAP model: {reason[-200:]}") from None
    if not model.num_reg_images():
        raise UserError(f"{folder}: the COLMAP model has no registered images")
    for index in model.reg_image_ids():
        image = model.images[index]
        if not np.isfinite(image.cam_from_world().matrix()).all():
            raise UserError(f"{folder}: {image.name}: its pose is not finite")
        check_camera(model.cameras[image.camera_id], f"{folder}: {image.name}")
    return model
