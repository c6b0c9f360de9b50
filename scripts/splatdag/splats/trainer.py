"""The training loop: posed views and starting Gaussians in, optimised Gaussians out, on the CPU and on CUDA."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from splatdag.splats.checkpoint import Checkpoint
from splatdag.splats.densify import Optimizers, Strategy
from splatdag.splats.gaussians import Parameters, colors_of
from splatdag.splats.losses import photometric_loss
from splatdag.splats.options import SplatOptions
from splatdag.splats.render import render
from splatdag.splats.views import Normalisation, View, camera_tensors
from splatdag.workflow.errors import Stopped, UserError

logger = logging.getLogger(__name__)
_NOTE_EVERY = 10
"""Steps between two points of the loss curve."""
_REPORT_SECONDS = 5.0
"""Seconds between two lines of progress."""


@dataclass
class Trained:
    """What a training ends with."""

    parameters: Parameters
    step: int
    """Steps done."""
    curve: list[list[float]] = field(default_factory=list)
    """Rows of step, loss and PSNR of the view trained on."""
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    """What `evaluate` returned, with its step, in order."""
    train_seconds: float = 0.0
    """Wall time of the loop, evaluations and saves left out, over all attempts."""
    eval_seconds: float = 0.0
    """Wall time of the evaluations."""


def draw(
    parameters: Parameters,
    camera: tuple[Tensor, Tensor],
    width: int,
    height: int,
    options: SplatOptions,
    sh_degree: int,
    background: Tensor | None = None,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Render parameters, which are logarithms and logits, as one view: image [1, H, W, 3], alpha and info."""
    viewmats, Ks = camera
    return render(
        parameters["means"],
        parameters["quats"],
        parameters["scales"].exp(),
        torch.sigmoid(parameters["opacities"]),
        colors_of(parameters),
        viewmats,
        Ks,
        width,
        height,
        sh_degree=sh_degree,
        near_plane=options.near_plane,
        far_plane=options.far_plane,
        antialiased=options.antialiased,
        absgrad=options.strategy.absgrad,
        backgrounds=background,
    )


def train(
    views: list[View],
    frame: Normalisation,
    start: Parameters,
    options: SplatOptions,
    checkpoint: Checkpoint,
    evaluate: Callable[[Parameters], dict[str, Any]],
    device: torch.device,
) -> Trained:
    """Optimise Gaussians on views; continues from the checkpoint if there is one.

    Args:
        views: what to train on.
        frame: from the world to the frame of training.
        start: Gaussians to start from.
        options: of the training.
        checkpoint: where the state is saved, every `checkpoint_every` steps and on SIGTERM.
        evaluate: called after every step in `eval_steps` and the last; returns figures to keep.
        device: where to train.

    Raises:
        Stopped: SIGTERM arrived; the state is saved.
    """
    sampler = _Sampler(len(views), torch.Generator().manual_seed(options.seed))
    strategy = Strategy(options.strategy, frame.extent, torch.Generator().manual_seed(options.seed + 1))
    result = Trained({name: tensor.to(device).requires_grad_() for name, tensor in start.items()}, 0)
    optimizers = _optimizers(result.parameters, options, frame.extent)
    saved = checkpoint.load(device)
    if saved is not None:
        _restore(saved, result, optimizers, strategy, sampler)
        logger.info("continuing after step %d", result.step)
    cameras = [camera_tensors(view, frame, device) for view in views]
    images = [view.image_HW3.to(device) for view in views]
    eval_steps = {*options.eval_steps, options.max_steps}
    stop = _StopRequest()
    clock, reported = time.perf_counter(), 0.0

    for step in range(result.step, options.max_steps):
        index = sampler.next()
        target = images[index][None].float() / 255
        height, width = target.shape[1:3]
        background = torch.rand((1, 3), generator=sampler.generator).to(device) if options.random_bkgd else None
        sh_degree = min(step // options.sh_degree_interval, options.sh_degree)
        image, _, info = draw(result.parameters, cameras[index], width, height, options, sh_degree, background)
        loss = photometric_loss(image, target, options.ssim_lambda) + _regularisers(result.parameters, options)
        strategy.before_backward(info)
        loss.backward()
        _set_means_lr(optimizers, options, frame.extent, step)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        strategy.after_step(step, result.parameters, optimizers, info)
        result.step = step + 1

        if step % _NOTE_EVERY == 0 or result.step == options.max_steps:
            if not torch.isfinite(loss):
                raise UserError(f"the loss is not finite at step {result.step}; lower the learning rates")
            error = (image.detach().clamp(0, 1) - target).square().mean()
            result.curve.append([result.step, loss.item(), -10 * torch.log10(error).item()])
        if time.perf_counter() - reported > _REPORT_SECONDS:
            reported = time.perf_counter()
            _report(result, options, result.train_seconds + reported - clock)
        due = stop.requested or result.step % options.checkpoint_every == 0
        if result.step in eval_steps or due:
            _synchronise(device)
            result.train_seconds += time.perf_counter() - clock
            if result.step in eval_steps:
                begin = time.perf_counter()
                result.evaluations.append({"step": result.step, **evaluate(result.parameters)})
                result.eval_seconds += time.perf_counter() - begin
            if due and result.step < options.max_steps:
                checkpoint.save(_state(result, optimizers, strategy, sampler))
                if stop.requested:
                    raise Stopped(f"state saved after step {result.step}; run the same command again to continue")
            clock = time.perf_counter()
    return result


def _optimizers(parameters: Parameters, options: SplatOptions, scene_scale: float) -> Optimizers:
    rates = {name: getattr(options, f"{name}_lr") for name in parameters}
    rates["means"] *= scene_scale
    return {
        name: torch.optim.Adam([tensor], lr=rates[name], eps=1e-15, fused=True) for name, tensor in parameters.items()
    }


def _set_means_lr(optimizers: Optimizers, options: SplatOptions, scene_scale: float, step: int) -> None:
    decay = 0.01 ** (step / options.max_steps)
    optimizers["means"].param_groups[0]["lr"] = options.means_lr * scene_scale * decay


def _regularisers(parameters: Parameters, options: SplatOptions) -> Tensor | float:
    total: Tensor | float = 0.0
    if options.opacity_reg:
        total = total + options.opacity_reg * torch.sigmoid(parameters["opacities"]).mean()
    if options.scale_reg:
        total = total + options.scale_reg * parameters["scales"].exp().mean()
    return total


def _report(result: Trained, options: SplatOptions, seconds: float) -> None:
    left = seconds / max(result.step, 1) * (options.max_steps - result.step)
    loss = result.curve[-1][1] if result.curve else float("nan")
    logger.info(
        "step %d of %d, loss %.4f, %d Gaussians, %.0f ms a step, %.0f s left",
        result.step, options.max_steps, loss, len(result.parameters["means"]), 1e3 * seconds / result.step, left,
    )  # fmt: skip


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Sampler:
    """Every view once in random order, then again."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count = count
        self.generator = generator
        self.left: list[int] = []

    def next(self) -> int:
        if not self.left:
            self.left = torch.randperm(self.count, generator=self.generator).tolist()
        return self.left.pop()


class _StopRequest:
    """Whether SIGTERM has arrived since; the loop looks between two steps."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.requested = True


def _state(result: Trained, optimizers: Optimizers, strategy: Strategy, sampler: _Sampler) -> dict[str, Any]:
    return {
        "parameters": {name: tensor.detach() for name, tensor in result.parameters.items()},
        "moments": {name: optimizer.state[result.parameters[name]] for name, optimizer in optimizers.items()},
        "strategy": strategy.state(),
        "sampler": {"left": sampler.left, "rng": sampler.generator.get_state()},
        "step": result.step,
        "curve": result.curve,
        "evaluations": result.evaluations,
        "seconds": [result.train_seconds, result.eval_seconds],
    }


def _restore(
    saved: dict[str, Any], result: Trained, optimizers: Optimizers, strategy: Strategy, sampler: _Sampler
) -> None:
    for name, optimizer in optimizers.items():
        tensor = saved["parameters"][name].requires_grad_()
        result.parameters[name] = tensor
        optimizer.param_groups[0]["params"] = [tensor]
        optimizer.state.clear()
        optimizer.state[tensor] = saved["moments"][name]
    strategy.load({**saved["strategy"], "rng": saved["strategy"]["rng"].cpu()})
    sampler.left = saved["sampler"]["left"]
    sampler.generator.set_state(saved["sampler"]["rng"].cpu())
    result.step, result.curve, result.evaluations = saved["step"], saved["curve"], saved["evaluations"]
    result.train_seconds, result.eval_seconds = saved["seconds"]
