"""Lenses: how a COLMAP camera's photos are freed of distortion."""

from __future__ import annotations

import cv2
import numpy as np
import pycolmap

from splatdag.formats.colmap import distortion


class Lens:
    """A camera's undistortion, worked out once for all its photos."""

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        parameters: tuple[float, ...],
        photo_size: tuple[int, int] | None = None,
    ) -> None:
        """Prepare the undistortion of a COLMAP camera.

        Args:
            name: COLMAP's name of the camera model.
            size: width and height (pixels).
            parameters: in COLMAP's order.
            photo_size: width and height of its photos, where they are scaled versions of what COLMAP saw.
        """
        self.size = photo_size or size
        camera = pycolmap.Camera(model=name, width=size[0], height=size[1], params=list(parameters))
        self.K = np.array(camera.calibration_matrix())
        self.K[0] *= self.size[0] / size[0]
        self.K[1] *= self.size[1] / size[1]
        self.distortion = np.array(distortion(camera))
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

    def intrinsics(self) -> np.ndarray:
        """Intrinsics of the undistorted photo, [3, 3] float64."""
        return (self.new_K if self.distortion.any() else self.K).copy()

    def undistorted(self, plane: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
        """Undistort an image [H, W] or [H, W, C] of the photo's size, and crop it to valid pixels."""
        return cv2.remap(plane, *self.maps, interpolation=interpolation) if self.distortion.any() else plane


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
