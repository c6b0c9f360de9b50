"""COLMAP models, as given or as estimated."""

from __future__ import annotations

from pathlib import Path

import pycolmap

from splatdag.workflow.errors import UserError


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
