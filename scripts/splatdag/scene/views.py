"""Posed views and the frame they are trained in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splatdag.scene.scratch_file import ScratchFile
from splatdag.splats.normalisation import Normalisation

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
    """Mask of the pixels that count, bool; None is all."""
    alpha_HW: Tensor | None = None
    """Opacity of a photo with transparency, uint8; None is opaque. Colours are not multiplied by it."""
    points_M3: np.ndarray | None = None
    """[M, 3] float64 points of the model that were seen in this photo, in the world (for the depth loss)."""
    file: ScratchFile | None = None
    """File with image, mask and opacity; None is memory. `to` reads them so that they do not stay in memory."""

    @property
    def center(self) -> np.ndarray:
        """The camera's position in the world."""
        rotation, translation = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return -rotation.T @ translation

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle for another process: pixels in a file are shared and not copied."""
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
        """Return image, mask and opacity, as far as the view has them."""
        return [plane for name in _PLANES if (plane := getattr(self, name)) is not None]

    def to(self, device: torch.device) -> View:
        """Return the view with image, mask and opacity in a device's memory."""
        in_file = self.file is not None
        return self.converted(lambda plane: plane.to(device, copy=in_file))

    def converted(self, convert: Callable[[Tensor], Tensor]) -> View:
        """Apply `convert` to image, mask and opacity of the view; it must copy them if they lie in a file."""

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
        """Compose the photo over black or white: colours [H, W, 3] in [0, 1]."""
        return composed(self.image_HW3, self.alpha_HW, white)


def composed(image_HW3: Tensor, alpha_HW: Tensor | None, white: bool = False) -> Tensor:
    """Compose 8-bit pixels and opacity over black or white: colours [H, W, 3] in [0, 1]."""
    image = image_HW3.float() / 255
    if alpha_HW is None:
        return image
    alpha = alpha_HW[..., None].float() / 255
    return image * alpha + (1 - alpha) if white else image * alpha


def camera_tensors(view: View, frame: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the world-to-camera matrix [1, 4, 4] in the frame of training and intrinsics [1, 3, 3], float32."""
    matrix = torch.tensor(frame.world_to_camera(view.world_to_camera), dtype=torch.float32, device=device)
    return matrix[None], torch.tensor(view.K, dtype=torch.float32, device=device)[None]
