"""Posed views and the frame they are trained in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splatdag.splats.scratch_file import ScratchFile

_FAR = 1_000
"""Distance of the cameras from the origin, in their radii, from which single precision is not enough."""
_LEAST_RADIUS = 0.5
"""Of the cameras, as they count for the extent, in median distances of the points."""

_PLANES = ("image_HW3", "mask_HW", "alpha_HW")


@dataclass
class View:
    """One photo with its camera, free of lens distortion."""

    name: str
    image_HW3: Tensor
    """Colours, uint8."""
    world_to_camera: np.ndarray
    """[4, 4] float64, OpenCV axes (x right, y down, z forward)."""
    K: np.ndarray
    """[3, 3] intrinsics in pixels; the centre of the first pixel is at (0.5, 0.5)."""
    mask_HW: Tensor | None = None
    """Which pixels count, bool; None is all."""
    alpha_HW: Tensor | None = None
    """Opacity of a photo with transparency, uint8; None is opaque. Colours are not multiplied by it."""
    points_M3: np.ndarray | None = None
    """[M, 3] float64 points of the model that were seen in this photo, in the world (for the depth loss)."""
    file: ScratchFile | None = None
    """What image, mask and opacity lie in; None is memory. `to` reads them so that they do not stay in memory."""

    @property
    def center(self) -> np.ndarray:
        """The camera's position in the world."""
        rotation, translation = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return -rotation.T @ translation

    def __getstate__(self) -> dict[str, Any]:
        """For another process, where a file is shared and not copied."""
        state = dict(self.__dict__)
        if self.file is not None:
            state |= {name: self.file.place(state[name]) for name in _PLANES if state[name] is not None}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        file = state["file"]
        if file is not None:
            state |= {name: file.part(state[name]) for name in _PLANES if state[name] is not None}
        self.__dict__.update(state)

    def planes(self) -> list[Tensor]:
        """Image, mask and opacity, as far as it has them."""
        return [plane for name in _PLANES if (plane := getattr(self, name)) is not None]

    def to(self, device: torch.device) -> View:
        """The view with image, mask and opacity in a device's memory."""
        in_file = self.file is not None
        return self.converted(lambda plane: plane.to(device, copy=in_file))

    def converted(self, convert: Callable[[Tensor], Tensor]) -> View:
        """The view with what `convert` makes of image, mask and opacity; it must copy them if they lie in a file."""

        def read(plane: Tensor | None) -> Tensor | None:
            if plane is None or self.file is None:
                return None if plane is None else convert(plane)
            self.file.expect(plane)
            made = convert(plane)
            self.file.release(plane)
            return made

        image = read(self.image_HW3)
        assert image is not None
        return replace(self, image_HW3=image, mask_HW=read(self.mask_HW), alpha_HW=read(self.alpha_HW), file=None)

    def target(self, white: bool = False) -> Tensor:
        """Colours [H, W, 3] in [0, 1]; what is transparent shows black, or white."""
        image = self.image_HW3.float() / 255
        if self.alpha_HW is None:
            return image
        alpha = self.alpha_HW[..., None].float() / 255
        return image * alpha + (1 - alpha) if white else image * alpha


@dataclass(frozen=True)
class Normalisation:
    """A shift and a scale from the world to the frame of training: x' = (x - center) / scale.

    Rotations are left alone, so spherical harmonics mean the same in both frames.
    """

    center: np.ndarray
    """[3] float64, in world units."""
    scale: float
    """World units per unit of training."""
    extent: float
    """Radius of the cameras in units of training: `scene_scale`, which learning rate and densification use."""

    def points(self, world: np.ndarray) -> np.ndarray:
        """Positions [..., 3] from the world to the frame of training."""
        return (world - self.center) / self.scale

    def world_to_camera(self, view: View) -> np.ndarray:
        """A camera of the normalised world, [4, 4] float64; what it sees is unchanged but for the scale."""
        matrix = view.world_to_camera.copy()
        matrix[:3, 3] = (matrix[:3, :3] @ self.center + matrix[:3, 3]) / self.scale
        return matrix

    def offset(self) -> np.ndarray:
        """What has to stay out of a float32 file: whole units, and zero unless the scene is far from the origin."""
        far = np.abs(self.center).max() > _FAR * self.scale
        return np.round(self.center) if far else np.zeros(3)


def normalisation(centers: np.ndarray, points: np.ndarray, normalize: bool = True) -> Normalisation:
    """Centre the cameras and make their median distance one.

    Where the cameras have no extent (one camera, or all in one place), the distance of the points stands in. The
    extent, which is simple_trainer's `scene_scale` else, is at least half the distance of the points: with cameras
    close together everything would be large beside it, hence split and pruned.

    Args:
        centers: [V, 3] camera positions in the world.
        points: [N, 3] points of the scene in the world.
        normalize: False leaves the world's units and origin, and only measures the extent; but an origin so far
            away that single precision would not do (georeferenced inputs) is moved among the cameras by whole units.
    """
    center = centers.mean(axis=0)
    distances = np.linalg.norm(centers - center, axis=1)
    depth = float(np.median(np.linalg.norm(points - center, axis=1))) if len(points) else 1.0
    scale = float(np.median(distances))
    radius = max(float(distances.max()), _LEAST_RADIUS * depth)
    if scale <= 1e-3 * depth:
        scale = depth or 1.0
        radius = radius or 1.0
    if not normalize:
        far = np.abs(center).max() > _FAR * max(radius, 1.0)
        return Normalisation(np.round(center) if far else np.zeros(3), 1.0, 1.1 * radius)
    return Normalisation(center, scale, 1.1 * radius / scale)


def camera_tensors(view: View, frame: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """World-to-camera matrix [1, 4, 4] in the frame of training and intrinsics [1, 3, 3], float32."""
    matrix = torch.tensor(frame.world_to_camera(view), dtype=torch.float32, device=device)
    return matrix[None], torch.tensor(view.K, dtype=torch.float32, device=device)[None]
