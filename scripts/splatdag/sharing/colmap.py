"""Cameras and points of a COLMAP model, for recordings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap

from splatdag.sharing.cameras import Cameras
from splatdag.workflow.errors import UserError


@dataclass(frozen=True)
class ColmapModel:
    """A COLMAP model; lens distortion is left out."""

    names: list[str]
    """Of the registered photos, sorted."""
    cameras: Cameras
    """[N] one for each photo."""
    sizes: np.ndarray
    """[N, 2] width and height in pixels."""
    points: np.ndarray
    """[P, 3]"""
    colors: np.ndarray
    """[P, 3] uint8; red, green, blue."""

    def moved(self, by: np.ndarray) -> ColmapModel:
        """The model with its world moved by a vector [3]."""
        poses = self.cameras.world_to_camera.copy()
        poses[:, :, 3] -= poses[:, :, :3] @ by
        return replace(self, cameras=replace(self.cameras, world_to_camera=poses), points=self.points + by)

    def camera(self, name: str, size: tuple[int, int]) -> Cameras:
        """The camera of a photo whose picture has another size (width and height in pixels)."""
        index = self.names.index(name)
        scale = np.diag([*(np.array(size) / self.sizes[index]), 1.0])
        return Cameras((scale @ self.cameras.Ks[index])[None], self.cameras.world_to_camera[index][None])

    def without(self, names: list[str]) -> Cameras:
        """The cameras of the other photos."""
        others = [index for index, name in enumerate(self.names) if name not in set(names)]
        return Cameras(self.cameras.Ks[others], self.cameras.world_to_camera[others])


def read_colmap(folder: Path) -> ColmapModel:
    """Read a COLMAP model, binary or text.

    Raises:
        UserError: it can't be read.
    """
    try:
        model = pycolmap.Reconstruction(str(folder))
    except Exception as error:  # pycolmap raises several types
        raise UserError(f"{folder}: can't read the COLMAP model: {' '.join(str(error).split())[-200:]}") from None
    images = sorted((model.images[index] for index in model.reg_image_ids()), key=lambda image: image.name)
    cameras = [model.cameras[image.camera_id] for image in images]
    return ColmapModel(
        names=[image.name for image in images],
        cameras=Cameras(
            np.array([camera.calibration_matrix() for camera in cameras]).reshape(-1, 3, 3),
            np.array([image.cam_from_world().matrix() for image in images]).reshape(-1, 3, 4),
        ),
        sizes=np.array([(camera.width, camera.height) for camera in cameras]).reshape(-1, 2),
        points=np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3),
        colors=np.array([point.color for point in model.points3D.values()], np.uint8).reshape(-1, 3),
    )
