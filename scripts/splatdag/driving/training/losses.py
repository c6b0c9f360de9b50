"""Loss of Flux4D: on images, depths and speeds, since most things stand still (arXiv 2512.03210, eq. 4 and A.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from splatdag.driving.clips.clip_scene import View
from splatdag.driving.network.model import Moving
from splatdag.driving.rendering.rendering import Drawn, draw
from splatdag.driving.training_options import LossOptions
from splatdag.splats.losses import photometric_loss


def clip_loss(
    moving: Moving, views: list[View], size: tuple[int, int], options: LossOptions
) -> tuple[Tensor, Drawn, Tensor]:
    """Compute the loss of a clip's Gaussians on some of its views.

    Args:
        moving: Gaussians and how they move.
        views: T, on the same device.
        size: width and height of the views.
        options: weights of the terms.

    Returns:
        the loss, what was drawn, and the weight [T, H, W] of each pixel's colour, which is at least 1.
    """
    drawn = draw(moving.gaussians, moving.velocities, [view.target for view in views], *size)
    images = torch.stack([view.image for view in views]).float() / 255
    weights = torch.ones_like(drawn.alpha)
    loss = photometric_loss(drawn.rgb, images, options.ssim_lambda)
    if options.velocity_reweighting:
        weights = 1 + drawn.flow.detach().norm(dim=-1)  # rendered with the weights of the colours: 0 where nothing is
        excess = (weights - 1)[..., None] * (drawn.rgb - images).abs()
        loss = loss + (1 - options.ssim_lambda) * excess.mean()
    if options.projected_depth:
        errors = [
            (depth.flatten()[view.hits] - view.depths).abs() for depth, view in zip(drawn.depth, views, strict=True)
        ]
        hits = sum(len(error) for error in errors)
        loss = loss + options.depth_lambda * torch.cat(errors).sum() / max(1, hits)
    if options.velocity_lambda:
        measured = (~moving.gaussians.backdrop).to(loss.dtype)
        speeds = moving.velocities.flatten(1).norm(dim=1)
        loss = loss + options.velocity_lambda * (measured * speeds).sum() / measured.sum().clamp_min(1)
    return loss, drawn, weights
