"""The loss of one training step on a clip, and the reconstruction of a clip by a trained network."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from splatdag.driving.clips.clip_loader import Prepared
from splatdag.driving.clips.clip_scene import ClipScene, View
from splatdag.driving.network.model import Feedback, Flux4D, Moving, numbers, with_numbers
from splatdag.driving.network.voxels import Voxels
from splatdag.driving.rendering.rendering import Drawn
from splatdag.driving.training.losses import clip_loss
from splatdag.driving.training.motion_losses import sweep_loss
from splatdag.driving.training_options import LearnOptions, LossOptions
from splatdag.workflow.errors import UserError


def feedback_of(views: list[View], size: tuple[int, int], options: LossOptions) -> Feedback:
    """Make the feedback of a refining step: the gradient of the loss on input views, as Gaussians are now.

    Args:
        views: of input frames; a network is never shown what it has to predict.
        size: width and height of the views.
        options: of the loss.
    """
    assert all(view.given for view in views)

    def gradient(moving: Moving) -> Tensor:
        with torch.enable_grad():
            given = numbers(moving.gaussians).detach().requires_grad_()
            now = Moving(with_numbers(moving.gaussians, given), moving.velocities.detach())
            loss, _, _ = clip_loss(now, views, size, options)
            (found,) = torch.autograd.grad(loss, given)
        return found

    return gradient


def training_step(
    model: Flux4D, given: Prepared, slot: int, options: LearnOptions, frames: tuple[int, ...]
) -> tuple[Tensor, Drawn, Tensor, list[View]]:
    """Compute the loss on some images of a clip, averaged over the model's iterations.

    Args:
        model: the network.
        given: the clip, on the device of the network.
        slot: number of this clip in the training; which images are drawn follows from it and the seed.
        options: of the training.
        frames: of the clip, to learn from.

    Returns:
        the loss, and of the last step what was drawn, the weights of its pixels, and the views that were drawn.
    """
    scene, rng = given.scene, np.random.default_rng([options.seed, 1, slot])
    device = scene.start.means.device
    views = [view.to(device) for view in chosen_views(scene, frames, options.targets_per_step, rng)]
    inputs = scene.given
    seen = [inputs[index].to(device) for index in rng.permutation(len(inputs))[: options.feedback_views]]
    results = model(scene.start, feedback_of(seen, scene.size, options), given.voxels)
    losses = []
    for moving in results:
        loss, drawn, weights = clip_loss(moving, views, scene.size, options)
        losses.append(loss)
    total = torch.stack(losses).mean()
    velocities = results[0].velocities
    if options.flow_lambda:
        total = total + options.flow_lambda * sweep_loss(scene.start, velocities, given.upright, rng)
    if options.still_lambda:
        total = total + options.still_lambda * (given.still * velocities.flatten(1).norm(dim=1)).mean()
    return total, drawn, weights, views


def chosen_views(scene: ClipScene, frames: tuple[int, ...], count: int, rng: np.random.Generator) -> list[View]:
    """Choose views of some frames to learn from: of several, one is of an input frame, the others of frames to predict.

    Raises:
        UserError: the clip has no image of such a frame.
    """
    given = [view for view in scene.given if view.frame in frames]
    predicted = [view for view in scene.predicted if view.frame in frames]
    if not given and not predicted:
        raise UserError(f"clip {scene.clip.clip_id} has no image of frame {', '.join(map(str, frames))}")
    of_given = count if not predicted else min(1, count - 1)
    chosen = [predicted[index] for index in rng.permutation(len(predicted))[: count - of_given * bool(given)]]
    return chosen + [given[index] for index in rng.permutation(len(given))[:of_given]]


def reconstruct(model: Flux4D, scene: ClipScene, options: LossOptions, voxels: Voxels | None = None) -> Moving:
    """Reconstruct a clip with a trained network, which sees the input frames alone."""
    device = scene.start.means.device
    seen = [view.to(device) for view in scene.given]
    with torch.no_grad():
        return model(scene.start, feedback_of(seen, scene.size, options), voxels)[-1]


def initial_state(model: Flux4D, scene: ClipScene) -> Moving:
    """Take a clip's first Gaussians, standing still, which a network begins with."""
    start = scene.start
    return Moving(start, start.means.new_zeros((len(start), model.terms, 3)))


def learning_rate(step: int, options: LearnOptions) -> float:
    """Compute the learning rate at a step, counted from 0: a linear rise, then an exponential fall."""
    warmup = min(options.warmup_iters, options.iters // 10)
    rising = min(1.0, (step + 1) / (warmup + 1))
    falling = max(0, step - warmup) / max(1, options.iters - warmup)
    return options.lr * rising * options.final_lr_factor**falling


def psnr_of(drawn: Drawn, views: list[View]) -> float:
    """Compute the PSNR (dB) of what was drawn."""
    images = torch.stack([view.image for view in views]).float() / 255
    error = (drawn.rgb.detach().clamp(0, 1) - images).square().mean().item()
    return -10 * math.log10(max(error, 1e-10))
