"""The training loop: posed views and starting Gaussians in, optimised Gaussians out, on the CPU and on CUDA."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from splatdag.splats.batches import Batch
from splatdag.splats.checkpoint import Checkpoint
from splatdag.splats.gaussians import Parameters
from splatdag.splats.losses import disparity_loss, photometric_loss
from splatdag.splats.model import SplatModel
from splatdag.splats.options import SplatOptions
from splatdag.splats.records import RunFiles
from splatdag.splats.training_state import Run, Trained
from splatdag.splats.validation import Validation
from splatdag.splats.views import Normalisation, View
from splatdag.workflow.errors import Stopped, UserError

logger = logging.getLogger(__name__)
_NOTE_EVERY = 10
"""Steps between two points of the loss curve."""
_REPORT_SECONDS = 5.0
"""Seconds between two lines of progress."""


def train(
    views: list[View],
    frame: Normalisation,
    start: Parameters,
    options: SplatOptions,
    checkpoint: Checkpoint,
    evaluate: Callable[[SplatModel, int], dict[str, Any]],
    files: RunFiles,
    device: torch.device,
) -> Trained:
    """Optimise Gaussians on views; continues from the checkpoint if there is one.

    Args:
        views: what to train on.
        frame: from the world to the frame of training.
        start: Gaussians to start from.
        options: of the training, `steps_scaler` applied.
        checkpoint: where the state is saved, every `checkpoint_every` steps and on SIGTERM.
        evaluate: called with the model and the steps done after every step in `eval_steps` and the last; returns
            figures to keep.
        files: simple_trainer's own files, written as it goes.
        device: where to train.

    Raises:
        Stopped: SIGTERM arrived; the state is saved.
        UserError: the loss is not finite, or no Gaussian is left.
    """
    views, validation = Validation.set_aside(views, frame, options, device)
    run = Run(views, frame, start, options, validation, device)
    model, result = run.model, run.result
    saved = checkpoint.load(device)
    files.begin(anew=saved is None)
    if saved is not None:
        run.load(saved)
        logger.info("continuing after step %d", result.step)
    stop = _StopRequest()
    clock, reported = time.perf_counter(), 0.0

    for step in range(result.step, options.max_steps):
        batches = run.views.next(step)
        background = _background(options, run.views.generator, device)
        sh_degree = min(step // options.sh_degree_interval, options.sh_degree)
        drawn = [_draw(model, batch, sh_degree, background) for batch in batches]
        loss = _regularisers(model.parameters, options)
        for batch, (image, _) in zip(batches, drawn, strict=True):
            share = len(batch.views) / sum(len(other.views) for other in batches)
            loss = loss + share * _loss(image, batch, background, options, frame.extent)
        infos = [info for _, info in drawn]
        run.strategy.before_backward(infos)
        loss.backward()
        run.optimise(step, infos)
        result.step = step + 1
        if not len(model.parameters["means"]):
            raise UserError(
                f"step {result.step}: every Gaussian was removed; lower strategy.prune_opa or opacity_reg, or raise"
                " strategy.prune_scale3d or strategy.prune_scale2d"
            )

        if step % _NOTE_EVERY == 0 or result.step == options.max_steps:
            result.curve += _figures(result.step, loss, drawn[0][0], batches[0], background)
        if time.perf_counter() - reported > _REPORT_SECONDS:
            reported = time.perf_counter()
            _report(result, options, result.train_seconds + reported - clock)
        ended = validation is not None and validation.ends(model, result.step)
        last = ended or result.step == options.max_steps
        evaluates, saves, keeps = _due(result.step, last, options, stop.requested)
        if evaluates or saves or keeps:
            _synchronise(device)
            result.train_seconds += time.perf_counter() - clock
            if last and validation is not None:
                result.step = validation.restore(model)
            if saves:
                files.save(result.step, model, result.train_seconds, last)
            if evaluates:
                begin = time.perf_counter()
                result.evaluations.append({"step": result.step, **evaluate(model, result.step)})
                result.eval_seconds += time.perf_counter() - begin
            if keeps and not last:
                checkpoint.save(run.state())
                if stop.requested:
                    raise Stopped(f"state saved after step {result.step}; run the same command again to continue")
            clock = time.perf_counter()
        if last:
            break
    return result


def _background(options: SplatOptions, generator: torch.Generator, device: torch.device) -> Tensor | None:
    if options.white_bg:
        return torch.ones(3, device=device)
    return torch.rand(3, generator=generator).to(device) if options.random_bkgd else None


def _draw(model: SplatModel, batch: Batch, sh_degree: int, background: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
    viewmats = batch.viewmats
    if model.pose_adjust is not None:
        viewmats = model.pose_adjust(viewmats, batch.views)
    image, _, info = model.draw(
        viewmats,
        batch.Ks,
        *batch.size,
        sh_degree=sh_degree,
        background=background,
        views=batch.views,
        render_mode="RGB+ED" if model.options.depth_loss else "RGB",
    )
    return image, info


def _loss(image: Tensor, batch: Batch, background: Tensor | None, options: SplatOptions, scene_scale: float) -> Tensor:
    loss = photometric_loss(image[..., :3], batch.targets(background), options.ssim_lambda, batch.masks_CHW)
    if options.depth_loss:
        loss = loss + options.depth_lambda * scene_scale * disparity_loss(image[..., 3:], batch.depths)
    return loss


def _regularisers(parameters: Parameters, options: SplatOptions) -> Tensor:
    total = parameters["means"].new_zeros(())
    if options.opacity_reg:
        total = total + options.opacity_reg * torch.sigmoid(parameters["opacities"]).mean()
    if options.scale_reg:
        total = total + options.scale_reg * parameters["scales"].exp().mean()
    return total


def _figures(step: int, loss: Tensor, image: Tensor, batch: Batch, background: Tensor | None) -> Iterator[list[float]]:
    """A row of step, loss and PSNR (dB) of what was just trained on; none for a crop where no pixel counts."""
    if not torch.isfinite(loss):
        raise UserError("the loss is not finite any more; lower the learning rates")
    error = (image.detach()[..., :3].clamp(0, 1) - batch.targets(background)).square()
    if batch.masks_CHW is not None:
        error = error[batch.masks_CHW]
    if error.numel():
        yield [step, loss.item(), -10 * math.log10(max(error.mean().item(), 1e-10))]


def _due(step: int, last: bool, options: SplatOptions, stop: bool) -> tuple[bool, bool, bool]:
    """Whether to evaluate, to write simple_trainer's files, and to keep the state, after so many steps."""
    saves = step in options.save_steps or (options.save_ply and step in options.ply_steps)
    return last or step in options.eval_steps, last or saves, stop or step % options.checkpoint_every == 0


def _report(result: Trained, options: SplatOptions, seconds: float) -> None:
    left = seconds / max(result.step, 1) * (options.max_steps - result.step)
    loss = result.curve[-1][1] if result.curve else float("nan")
    logger.info(
        "step %d of %d, loss %.4f, %d Gaussians, %.0f ms a step, %.0f s left",
        result.step, options.max_steps, loss, len(result.model.parameters["means"]), 1e3 * seconds / result.step, left,
    )  # fmt: skip


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _StopRequest:
    """Whether SIGTERM has arrived since; the loop looks between two steps."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.requested = True
