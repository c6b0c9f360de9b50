"""Clips rendered at several times in one call: colour, depth of what was measured, and image-plane velocity."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from splatdag.driving.gaussians import Gaussians
from splatdag.driving.rendering.motion import image_velocity, moved, velocity
from splatdag.splats.render import render

NEAR_PLANE = 0.1


@dataclass(frozen=True)
class Target:
    """One posed image of a clip."""

    name: str
    """Camera and frame, such as `front_camera/07`."""
    time: float
    """Clip time at which it was taken."""
    viewmat: Tensor
    """[4, 4]: the clip's ego frame to the camera."""
    K: Tensor
    """[3, 3] pixels, of the size that is rendered."""
    step: float
    """Clip time from this frame to the next."""

    def to(self, device: torch.device) -> Target:
        """Return a copy with its camera on a device."""
        return replace(self, viewmat=self.viewmat.to(device), K=self.K.to(device))


@dataclass(frozen=True)
class Drawn:
    """T images."""

    rgb: Tensor
    """[T, H, W, 3]; where nothing is, black."""
    depth: Tensor
    """[T, H, W] metres: expected depth of what was measured, without the backdrop; 0 where there is none of it."""
    flow: Tensor
    """[T, H, W, 2]: image-plane velocity, pixels from this frame to the next."""
    alpha: Tensor
    """[T, H, W]: how much is covered, by the backdrop too."""


def draw(gaussians: Gaussians, velocities: Tensor, targets: list[Target], width: int, height: int) -> Drawn:
    """Render Gaussians at the times of the targets.

    Args:
        gaussians: N, where they were measured.
        velocities: [N, D, 3], metres per clip time.
        targets: T, all of one size.
        width: pixels.
        height: pixels.
    """
    quats, scales, opacities, colors = gaussians.activated()
    measured = (~gaussians.backdrop).to(colors.dtype)[:, None]
    means, channels = [], []
    for target in targets:
        here = moved(gaussians.means, velocities, gaussians.times, target.time)
        depths = here @ target.viewmat[2, :3] + target.viewmat[2, 3]
        speed = velocity(velocities, target.time)
        flow = image_velocity(here, speed, target.viewmat, target.K, target.step)
        means.append(here)
        channels.append(torch.cat([colors, measured * depths[:, None], measured, flow], dim=1))
    images, alphas, _ = render(
        torch.stack(means), quats, scales, opacities, torch.stack(channels), torch.stack([t.viewmat for t in targets]),
        torch.stack([t.K for t in targets]), width, height, near_plane=NEAR_PLANE, antialiased=True,
    )  # fmt: skip
    weight = images[..., 4]
    depth = torch.where(weight > 1e-4, images[..., 3] / weight.clamp_min(1e-4), 0.0)
    return Drawn(images[..., :3], depth, images[..., 5:7], alphas[..., 0])
