"""Motion of Gaussians: polynomials of the clip's time, and image-plane velocities."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_PIXELS = 10.0
"""Image-plane velocities are cut to this length (pixels from one frame to the next)."""


def moved(means: Tensor, velocities: Tensor, times: Tensor, at: float | Tensor) -> Tensor:
    """Move Gaussians to a time.

    Args:
        means: [N, 3] metres, at `times`.
        velocities: [N, D, 3] metres per clip time, coefficients of a polynomial of D terms: v(t) = Σ v_j t^j.
        times: [N] clip times.
        at: clip time, one for all or [N] of each.

    Returns:
        [N, 3] metres.
    """
    places = means
    for power, own in enumerate(velocities.unbind(1), start=1):
        places = places + own * ((at**power - times**power) / power)[:, None]
    return places


def velocity(velocities: Tensor, at: float | Tensor) -> Tensor:
    """[N, 3] metres per clip time at a time, one for all or [N] of each, of coefficients [N, D, 3]."""
    times = at[:, None] if isinstance(at, Tensor) else at
    speed, *others = velocities.unbind(1)
    for power, own in enumerate(others, start=1):
        speed = speed + own * times**power
    return speed


def image_velocity(points: Tensor, velocities: Tensor, world_to_camera: Tensor, K: Tensor, step: float) -> Tensor:
    """Compute how far points move, until the next frame, in the image of a camera that stands still.

    Args:
        points: [N, 3] metres.
        velocities: [N, 3] metres per clip time.
        world_to_camera: [4, 4].
        K: [3, 3] pixels.
        step: clip time from this frame to the next.

    Returns:
        [N, 2] pixels, at most `LARGEST_PIXELS` long; 0 behind the camera.
    """
    rotation, shift = world_to_camera[:3, :3], world_to_camera[:3, 3]
    x, y, z = (points @ rotation.T + shift).unbind(1)
    vx, vy, vz = (velocities @ rotation.T).unbind(1)
    ahead = z > 0.1
    safe = torch.where(ahead, z, 1.0)
    flow = torch.stack([K[0, 0] * (vx * safe - x * vz), K[1, 1] * (vy * safe - y * vz)], dim=1) / safe[:, None] ** 2
    flow = torch.where(ahead[:, None], flow * step, 0.0)
    return flow * (LARGEST_PIXELS / flow.norm(dim=1, keepdim=True).clamp_min(LARGEST_PIXELS))
