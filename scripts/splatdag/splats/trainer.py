"""The training loop: posed views and starting Gaussians in, optimised Gaussians out, on the CPU and on CUDA."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from splatdag.splats.batches import Batch, TrainingViews
from splatdag.splats.checkpoint import Checkpoint
from splatdag.splats.densify import strategy_of
from splatdag.splats.gaussians import Parameters
from splatdag.splats.losses import disparity_loss, photometric_loss
from splatdag.splats.model import SplatModel, start_model
from splatdag.splats.optimizers import decay, module_optimizers, optimizers_of, step_all
from splatdag.splats.options import SplatOptions
from splatdag.splats.records import RunFiles
from splatdag.splats.validation import Validation
from splatdag.splats.views import Normalisation, View
from splatdag.workflow.errors import Stopped, UserError

logger = logging.getLogger(__name__)
_NOTE_EVERY = 10
"""Steps between two points of the loss curve."""
_REPORT_SECONDS = 5.0
"""Seconds between two lines of progress."""


@dataclass
class Trained:
    """What a training ends with."""

    model: SplatModel
    step: int = 0
    """Steps done."""
    curve: list[list[float]] = field(default_factory=list)
    """Rows of step, loss and PSNR of the views trained on."""
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    """What `evaluate` returned, with its step, in order."""
    train_seconds: float = 0.0
    """Wall time of the loop, evaluations and saves left out, over all attempts."""
    eval_seconds: float = 0.0
    """Wall time of the evaluations."""


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
    run = _Run(views, frame, start, options, validation, device)
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


class _Run:
    """Everything that a training changes, and that a checkpoint holds."""

    def __init__(
        self,
        views: list[View],
        frame: Normalisation,
        start: Parameters,
        options: SplatOptions,
        validation: Validation | None,
        device: torch.device,
    ) -> None:
        self.options = options
        self.views = TrainingViews(views, frame, options, device)
        batch_size = self.views.batch_size
        if batch_size < options.batch_size:
            logger.warning("batch_size lowered to %d, the number of views", batch_size)
        cap = options.strategy.cap_max
        if cap is not None and cap < len(start["means"]):
            logger.warning(
                "strategy.cap_max: %d, but training starts with %d Gaussians; lower max_init_points or init_num_pts",
                cap, len(start["means"]),
            )  # fmt: skip
        self.model = start_model(start, options, len(views), device)
        self.optimizers = optimizers_of(self.model.parameters, options, frame.extent, batch_size)
        self.means_lr = options.means_lr * frame.extent * math.sqrt(batch_size)
        self.module_optimizers = module_optimizers(self.model, batch_size)
        generator = torch.Generator(device).manual_seed(options.seed + 1)
        self.strategy = strategy_of(options.strategy, frame.extent, generator)
        self.validation = validation
        self.result = Trained(self.model)

    def optimise(self, step: int, infos: list[dict[str, Any]]) -> None:
        """Follow the gradients by one step; then add and remove Gaussians where it is time."""
        rate = decay(step, self.options)
        self.optimizers["means"].param_groups[0]["lr"] = self.means_lr * rate
        if "pose" in self.module_optimizers:
            (group,) = self.module_optimizers["pose"].param_groups
            group["lr"] = group["initial_lr"] * rate
        step_all(self.optimizers, infos, self.options)
        for optimizer in self.module_optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        means_lr = self.means_lr * decay(step + 1, self.options)
        self.strategy.after_step(step, self.model.parameters, self.optimizers, infos, means_lr)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to continue."""
        model, result = self.model, self.result
        return {
            "parameters": {name: tensor.detach() for name, tensor in model.parameters.items()},
            "moments": {name: optimizer.state[model.parameters[name]] for name, optimizer in self.optimizers.items()},
            "modules": {name: module.state_dict() for name, module in model.modules().items()},
            "module_optimizers": {name: optimizer.state_dict() for name, optimizer in self.module_optimizers.items()},
            "strategy": self.strategy.state(),
            "views": self.views.state(),
            "validation": None if self.validation is None else self.validation.state(),
            "step": result.step,
            "curve": result.curve,
            "evaluations": result.evaluations,
            "seconds": [result.train_seconds, result.eval_seconds],
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from `state()` of another run."""
        for name, optimizer in self.optimizers.items():
            tensor = saved["parameters"][name].requires_grad_()
            self.model.parameters[name] = tensor
            optimizer.param_groups[0]["params"] = [tensor]
            optimizer.state.clear()
            optimizer.state[tensor] = saved["moments"][name]
        for name, module in self.model.modules().items():
            module.load_state_dict(saved["modules"][name])
        for name, optimizer in self.module_optimizers.items():
            optimizer.load_state_dict(saved["module_optimizers"][name])
        self.strategy.load(saved["strategy"])
        self.views.load(saved["views"])
        if self.validation is not None:
            self.validation.load(saved["validation"])
        result = self.result
        result.step, result.curve, result.evaluations = saved["step"], saved["curve"], saved["evaluations"]
        result.train_seconds, result.eval_seconds = saved["seconds"]


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
