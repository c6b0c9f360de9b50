"""Photography of the samples: camera poses, exposure, noise and JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

_JPEG_QUALITY = 95


def look_at(eye: np.ndarray, aim: np.ndarray, up: tuple[float, float, float], roll: float = 0.0) -> np.ndarray:
    """World-to-camera matrix [4, 4], OpenCV axes, of a camera at `eye` that looks at `aim`.

    Args:
        eye: [3] position.
        aim: [3] what it looks at.
        up: direction that is up in the world.
        roll: about the viewing direction (radians).
    """
    forward = (aim - eye) / np.linalg.norm(aim - eye)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    right, down = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    pose = np.eye(4)
    pose[:3, :3] = right, down, forward
    pose[:3, 3] = -pose[:3, :3] @ eye
    return pose


def developed(linear: np.ndarray, exposure: float, noise: float, rng: np.random.Generator | None) -> np.ndarray:
    """A photo [H, W, 3] in 8-bit sRGB of radiance [H, W, 3] (float32).

    Args:
        linear: radiance; 1 is white.
        exposure: that it is multiplied by.
        noise: standard deviation of the sensor's noise, of white.
        rng: of the noise; None is none.
    """
    linear = np.clip(exposure * linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    if rng is not None:
        srgb += noise * rng.standard_normal(srgb.shape, dtype=np.float32)
    return np.rint(255 * np.clip(srgb, 0, 1)).astype(np.uint8)


def jpeg(pixels: np.ndarray) -> bytes:
    """A JPEG file of pixels [H, W, 3] (red, green, blue), colours at full resolution."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return data.getvalue()
