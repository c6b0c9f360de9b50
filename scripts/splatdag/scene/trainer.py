"""The training loop: posed views and starting Gaussians in, optimised Gaussians out, on the CPU and on CUDA."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splatdag.scene.batches import Batch
from splatdag.scene.options import SplatOptions
from splatdag.scene.simple_trainer_files import RunFiles
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.training_state import Run, Trained
from splatdag.scene.validation import Validation
from splatdag.scene.views import View
from splatdag.splats.devices import OutOfDeviceMemory
from splatdag.splats.gaussians import Parameters
from splatdag.splats.losses import disparity_loss, photometric_loss
from splatdag.splats.normalisation import Normalisation
from splatdag.training.checkpoint import Checkpoint
from splatdag.training.rank_processes import check_batch, joined
from splatdag.training.ranks import Ranks
from splatdag.training.stop_request import StopRequest
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
    ranks: int = 1,
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
        ranks: GPUs to share the views of each step between; the first is `device`. (On the CPU, for tests, processes.)

    Raises:
        Stopped: SIGTERM arrived; the state is saved.
        OutOfDeviceMemory: the GPU is too small.
        UserError: the loss is not finite, no Gaussian is left, or a step has fewer views than there are ranks.
        RankFailed: the process of another GPU failed.
    """
    views, validation = Validation.set_aside(views, frame, options, device)
    check_batch(options.batch_size, ranks)
    begin = time.perf_counter()
    run: Run | None = None
    try:
        with joined(ranks, follow, Work(views, frame, start, options, checkpoint.path), device) as team:
            waited = time.perf_counter() - begin
            run = Run(views, frame, start, options, validation, device, team)
            saved = checkpoint.load(device)
            files.begin(anew=saved is None)
            if team.any(saved is not None, device):
                assert saved is not None
                with checkpoint.fitting():
                    run.load(saved)
                logger.info("continuing after step %d", run.result.step)
            run.result.rank_seconds = waited
            return _steps(run, _Keeper(checkpoint, evaluate, files))
    except torch.OutOfMemoryError:
        done = (run.result.step, len(run.model.parameters["means"])) if run is not None else (0, 0)
        raise OutOfDeviceMemory(device, *done) from None


@dataclass
class Work:
    """What another rank needs to take part."""

    views: list[View]
    """To train on, those of the validation left out."""
    frame: Normalisation
    start: Parameters
    options: SplatOptions
    checkpoint: Path
    """Where the state is, if the training is continued."""


def follow(work: Work, device: torch.device, ranks: Ranks) -> None:
    """Take part in `train` of the first rank."""
    run = Run(list(work.views), work.frame, work.start, work.options, None, device, ranks)
    work.views.clear()  # those that are on a GPU now need no other memory
    work.start.clear()
    if ranks.any(False, device):
        run.load(torch.load(work.checkpoint, map_location=device, weights_only=True)["state"])
    with suppress(Stopped):
        _steps(run, None)


@dataclass
class _Keeper:
    """What only the first rank does: to measure, and to write."""

    checkpoint: Checkpoint
    evaluate: Callable[[SplatModel, int], dict[str, Any]]
    files: RunFiles


def _steps(run: Run, keeper: _Keeper | None) -> Trained:
    model, result, options, validation = run.model, run.result, run.options, run.validation
    ranks, device = run.ranks, run.device
    stop = StopRequest()
    clock, reported = time.perf_counter(), 0.0

    if result.ended:
        result.rank_memory_mb = ranks.part(device)
        if keeper is not None:
            _keep(run, keeper, last=True, evaluates=True, saves=True, keeps=False)
        return result
    for step in range(result.step, options.max_steps):
        batches = run.views.next(step)
        background = _background(options, run.views.generator, device)
        sh_degree = min(step // options.sh_degree_interval, options.sh_degree)
        drawn = [_draw(model, batch, sh_degree, background) for batch in batches]
        loss = _regularisers(model.parameters, options) if ranks.first else torch.zeros((), device=device)
        for batch, (image, _) in zip(batches, drawn, strict=True):
            loss = loss + batch.share * _loss(image, batch, background, options, run.extent)
        infos = [info for _, info in drawn]
        run.strategy.before_backward(infos)
        if loss.requires_grad:  # not where this rank had no view
            loss.backward()
        run.optimise(step, infos)
        result.step = step + 1
        if not len(model.parameters["means"]):
            raise UserError(
                f"step {result.step}: every Gaussian was removed; lower strategy.prune_opa or opacity_reg, or raise"
                " strategy.prune_scale3d or strategy.prune_scale2d"
            )

        if step % options.strategy.refine_every == 0:
            run.settle(keeps=False)
        if step % _NOTE_EVERY == 0 or result.step == options.max_steps:
            result.curve += _figures(result.step, loss, drawn, batches, background, ranks)
            stop.agree(ranks, device)
        if keeper is not None and time.perf_counter() - reported > _REPORT_SECONDS:
            reported = time.perf_counter()
            _report(result, options, result.train_seconds + reported - clock)
        ended = Validation.is_due(options, result.step) and ranks.any(
            validation is not None and validation.ends(model, result.step), device
        )
        last = ended or result.step == options.max_steps
        evaluates, saves, keeps = _due(result.step, last, options, stop.seen(ranks))
        if evaluates or saves or keeps:
            _synchronise(device)
            run.settle(keeps and not last)
            result.train_seconds += time.perf_counter() - clock
            if last:
                result.rank_memory_mb = ranks.part(device)
            if keeper is not None:
                _keep(run, keeper, last, evaluates, saves, keeps)
            if not last:
                ranks.take_turns()
            if keeps and not last and stop.seen(ranks):
                ranks.part(device)
                raise Stopped(f"state saved after step {result.step}; run the same command again to continue")
            clock = time.perf_counter()
        if last:
            break
    return result


def _keep(run: Run, keeper: _Keeper, last: bool, evaluates: bool, saves: bool, keeps: bool) -> None:
    """Measure and write what is due; what was learnt is on disk before it is measured."""
    model, result = run.model, run.result
    if last and not result.ended:
        result.ended = True
        if run.validation is not None:
            result.step = run.validation.restore(model)
        keeper.checkpoint.save(run.end())
    if saves:
        keeper.files.save(result.step, model, result.train_seconds, last)
    if evaluates:
        begin = time.perf_counter()
        result.evaluations.append({"step": result.step, **keeper.evaluate(model, result.step)})
        result.eval_seconds += time.perf_counter() - begin
    if keeps and not last:
        keeper.checkpoint.save(run.state())


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
    info["views_of_step"] = batch.views_of_step
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


def _figures(
    step: int,
    loss: Tensor,
    drawn: list[tuple[Tensor, dict[str, Any]]],
    batches: list[Batch],
    background: Tensor | None,
    ranks: Ranks,
) -> Iterator[list[float]]:
    """A row of step, loss and PSNR (dB) of what was just trained on; none for a crop where no pixel counts.

    The PSNR is that of each rank's first batch.
    """
    loss = ranks.total(loss)
    if not torch.isfinite(loss):
        raise UserError("the loss is not finite any more; lower the learning rates")
    error = loss.new_zeros(0)
    if batches:
        error = (drawn[0][0].detach()[..., :3].clamp(0, 1) - batches[0].targets(background)).square()
        if batches[0].masks_CHW is not None:
            error = error[batches[0].masks_CHW]
    mean = ranks.mean(error).item()
    if not math.isnan(mean):
        yield [step, loss.item(), -10 * math.log10(max(mean, 1e-10))]


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
