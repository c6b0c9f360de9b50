"""Cameras and points of a COLMAP model, for recordings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from splatdag.formats.colmap import read_model
from splatdag.recording.cameras import Cameras


@dataclass(frozen=True)
class ColmapModel:
    """A COLMAP model; lens distortion is left out."""

    names: list[str]
    """Names of the registered photos, sorted."""
    cameras: Cameras
    """[N] one for each photo."""
    points: np.ndarray
    """[P, 3] positions in the world."""
    colors: np.ndarray
    """[P, 3] uint8; red, green, blue."""

    def moved(self, by: np.ndarray) -> ColmapModel:
        """Return the model with its world moved by a vector [3]."""
        poses = self.cameras.world_to_camera.copy()
        poses[:, :, 3] -= poses[:, :, :3] @ by
        return replace(self, cameras=replace(self.cameras, world_to_camera=poses), points=self.points + by)

    def camera(self, name: str, size: tuple[int, int]) -> Cameras:
        """Return the camera of a photo, scaled to a picture of another size (width and height in pixels)."""
        index = self.names.index(name)
        own = self.cameras.at([index])
        scale = np.diag([*(np.array(size) / own.sizes[0]), 1.0])
        return replace(own, Ks=scale @ own.Ks, sizes=np.array([size]))

    def without(self, names: list[str]) -> Cameras:
        """Return the cameras of the other photos."""
        left_out = set(names)
        return self.cameras.at([index for index, name in enumerate(self.names) if name not in left_out])


def read_colmap(folder: Path) -> ColmapModel:
    """Read a COLMAP model, binary or text.

    Raises:
        UserError: as `read_model`.
    """
    model = read_model(folder)
    images = sorted((model.images[index] for index in model.reg_image_ids()), key=lambda image: image.name)
    cameras = [model.cameras[image.camera_id] for image in images]
    return ColmapModel(
        names=[image.name for image in images],
        cameras=Cameras(
            np.array([camera.calibration_matrix() for camera in cameras]).reshape(-1, 3, 3),
            np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4),
            np.array([(camera.width, camera.height) for camera in cameras]).reshape(-1, 2),
        ),
        points=np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3),
        colors=np.array([point.color for point in model.points3D.values()], np.uint8).reshape(-1, 3),
    )
