"""Images as bytes to write: OpenCV's own writing of files says nothing of a full disk."""

from __future__ import annotations

import cv2
import numpy as np


def encoded(image: np.ndarray, suffix: str, quality: int = 92) -> bytes:
    """An image [H, W, 3] RGB or [H, W] uint8 as a file of the kind `suffix` (.jpg, of this quality, or .png)."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    _, data = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image, settings)
    return data.tobytes()
