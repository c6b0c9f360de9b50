"""Training of Gaussians on posed views: the step, its state, and evaluations in between."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from splatdag.scene.averaging import Average
from splatdag.scene.batches import Batch, TrainingViews
from splatdag.scene.optimizers import decay, module_optimizers, optimizers_of, step_all
from splatdag.scene.options import SplatOptions
from splatdag.scene.simple_trainer_files import RunFiles
from splatdag.scene.splat_model import SplatModel, start_model
from splatdag.scene.validation import Validation
from splatdag.scene.views import View
from splatdag.splats.cuda.extension import ensure_extension
from splatdag.splats.gaussians import Parameters
from splatdag.splats.losses import disparity_loss, photometric_loss
from splatdag.splats.normalisation import Normalisation
from splatdag.splats.strategies.densify import strategy_of
from splatdag.training.checkpoint import StateFile
from splatdag.training.loop import Figures, Progress, Result, run_training
from splatdag.training.ranks import ALONE, Ranks
from splatdag.workflow.errors import UserError

logger = logging.getLogger(__name__)
ADVICE = (
    "lower strategy.cap_max, batch_size or max_image_size, raise strategy.grow_grad2d or data_factor, or set packed"
)
"""Advice where the GPU's memory is too small."""
_FIGURES_EVERY = 10
"""Steps between two points of the curves."""


@dataclass
class TrainingData:
    """The views, Gaussians and options that a training begins with, on each rank."""

    views: list[View]
    frame: Normalisation
    """Transformation from the world to the frame of training."""
    initial: Parameters
    """Gaussians to start from."""
    options: SplatOptions
    """Options with `steps_scaler` applied."""


@dataclass
class Evaluator:
    """Evaluation and files of rank 0."""

    evaluate: Callable[[SplatModel, int], dict[str, Any]]
    """Called with the model and the steps done, after every step in `eval_steps` and the last; returns figures."""
    files: RunFiles
    validation: Validation | None


def train(
    views: list[View],
    frame: Normalisation,
    initial: Parameters,
    options: SplatOptions,
    state_file: StateFile,
    evaluate: Callable[[SplatModel, int], dict[str, Any]],
    files: RunFiles,
    device: torch.device,
    ranks: int = 1,
) -> Result[SplatTraining]:
    """Optimise Gaussians on views; continues from the saved state if there is one.

    Args:
        views: to train on.
        frame: from the world to the frame of training.
        initial: Gaussians to start from.
        options: of the training, `steps_scaler` applied.
        state_file: where the state is saved.
        evaluate: called with the model and the steps done after every step in `eval_steps` and the last; returns
            figures to keep.
        files: simple_trainer's own files, written as it goes.
        device: where to train.
        ranks: GPUs to share the views of each step between; the first is `device`. (On the CPU, for tests, processes.)

    Raises:
        Stopped, OutOfDeviceMemory, RankFailed: as `run_training`.
        UserError: the loss is not finite, no Gaussian is left, or a step has fewer views than there are ranks.
    """
    views, validation = Validation.set_aside(views, frame, options, device)
    check_batch(options.batch_size, ranks)
    data = TrainingData(views, frame, initial, options)
    return run_training(
        partial(SplatTraining, data, evaluator=Evaluator(evaluate, files, validation)),
        state_file,
        device,
        ranks,
        advice=ADVICE,
        make_worker=partial(_worker_training, data),
        prepare=ensure_extension,
    )


def check_batch(batch_size: int, ranks: int) -> None:
    """Raise UserError where a step has fewer views than there are GPUs."""
    if batch_size < ranks:
        raise UserError(
            f"batch_size: {batch_size} can't be shared by {ranks} GPUs; make it {ranks} or more, or ask for fewer GPUs"
        )


def _worker_training(data: TrainingData, device: torch.device, ranks: Ranks) -> SplatTraining:
    training = SplatTraining(replace(data, views=list(data.views)), device, ranks)
    data.views.clear()  # those that are on a GPU now need no other memory
    data.initial.clear()
    return training


class SplatTraining:
    """Gaussians in training: model, optimisers, strategy, order of the views, and figures so far."""

    def __init__(
        self, data: TrainingData, device: torch.device, ranks: Ranks = ALONE, evaluator: Evaluator | None = None
    ) -> None:
        """Begin before the first step; the views may move to the device.

        Args:
            data: to learn from.
            device: of this rank.
            ranks: this rank among the others.
            evaluator: of rank 0.
        """
        options, extent = data.options, data.frame.extent
        self.options, self.device, self.ranks, self.evaluator = options, device, ranks, evaluator
        self.extent = extent
        self.views = TrainingViews(data.views, data.frame, options, device, ranks)
        batch_size = self.views.batch_size
        if batch_size < options.batch_size:
            logger.warning("batch_size lowered to %d, the number of views", batch_size)
        cap = options.strategy.cap_max
        if cap is not None and cap < len(data.initial["means"]):
            logger.warning(
                "strategy.cap_max: %d, but training starts with %d Gaussians; lower max_init_points or init_num_pts",
                cap, len(data.initial["means"]),
            )  # fmt: skip
        self.model = start_model(data.initial, options, len(data.views), device)
        self.optimizers = optimizers_of(self.model.parameters, options, extent, batch_size)
        self.means_lr = options.means_lr * extent * math.sqrt(batch_size)
        self.module_optimizers = module_optimizers(self.model, batch_size)
        generator = torch.Generator(device).manual_seed(options.seed + 1)
        self.strategy = strategy_of(options.strategy, extent, generator, ranks)
        self.average = Average(options)
        self.progress = Progress()
        self.step = 0
        self.steps = options.max_steps
        self.checkpoint_every = options.checkpoint_every
        self.evaluations: list[dict[str, Any]] = []
        """Figures of each evaluation of the held-out views, with its step, in order."""
        self.eval_seconds = 0.0
        """Wall time of the evaluations (seconds)."""

    @property
    def gaussians(self) -> int:
        """Number of Gaussians."""
        return len(self.model.parameters["means"])

    @property
    def _validation(self) -> Validation | None:
        return None if self.evaluator is None else self.evaluator.validation

    def tensors(self) -> list[Tensor]:
        """List all that is learnt."""
        return list(self.model.learnt())

    def begin(self, progress: Progress, resumed: bool) -> None:
        """Write cfg.yml; where the training begins anew, first remove the files of an older run."""
        self.progress = progress
        if self.evaluator is not None:
            self.evaluator.files.begin(anew=not resumed)

    def advance(self) -> Figures | None:
        """Take one step on the next views.

        Raises:
            UserError: the loss is not finite, or no Gaussian is left.
        """
        options, step = self.options, self.step
        batches = self.views.next(step)
        background = _background(options, self.views.generator, self.device)
        sh_degree = min(step // options.sh_degree_interval, options.sh_degree)
        drawn = [_draw(self.model, batch, sh_degree, background) for batch in batches]
        parameters = self.model.parameters
        loss = _regularisers(parameters, options) if self.ranks.first else torch.zeros((), device=self.device)
        for batch, (image, _) in zip(batches, drawn, strict=True):
            loss = loss + batch.share * _loss(image, batch, background, options, self.extent)
        infos = [info for _, info in drawn]
        self.strategy.before_backward(infos)
        if loss.requires_grad:  # not where this rank had no view
            loss.backward()
        self.optimise(step, infos)
        self.step = step + 1
        if not self.gaussians:
            raise UserError(
                f"step {self.step}: every Gaussian was removed; lower strategy.prune_opa or opacity_reg, or raise"
                " strategy.prune_scale3d or strategy.prune_scale2d"
            )
        if step % options.strategy.refine_every == 0:
            self.ranks.check_replicas(self.tensors(), self.step)
        noted = step % _FIGURES_EVERY == 0 or self.step == options.max_steps
        figures = self._figures(loss, drawn, batches, background) if noted else None
        if Validation.is_due(options, self.step):
            validation = self._validation
            if self.ranks.any(validation is not None and validation.ends(self.model, self.step), self.device):
                self.steps = self.step
        return figures

    def optimise(self, step: int, infos: list[dict[str, Any]]) -> None:
        """Follow the gradients of all ranks by one step; then add, remove and average Gaussians where it is time."""
        self.ranks.sum_gradients(self.model.learnt())
        rate = decay(step, self.options)
        self.optimizers["means"].param_groups[0]["lr"] = self.means_lr * rate
        if "pose" in self.module_optimizers:
            (group,) = self.module_optimizers["pose"].param_groups
            group["lr"] = group["initial_lr"] * rate
        step_all(self.optimizers, infos, self.options, self.ranks)
        for optimizer in self.module_optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        means_lr = self.means_lr * decay(step + 1, self.options)
        self.strategy.after_step(step, self.model.parameters, self.optimizers, infos, means_lr)
        self.average.after_step(step, self.model.parameters)

    def _figures(
        self,
        loss: Tensor,
        drawn: list[tuple[Tensor, dict[str, Any]]],
        batches: list[Batch],
        background: Tensor | None,
    ) -> Figures:
        """Compute loss and PSNR of the step, the latter of each rank's first batch."""
        loss = self.ranks.total(loss)
        if not torch.isfinite(loss):
            raise UserError("the loss is not finite any more; lower the learning rates")
        error = loss.new_zeros(0)
        if batches:
            error = (drawn[0][0].detach()[..., :3].clamp(0, 1) - batches[0].targets(background)).square()
            if batches[0].masks_CHW is not None:
                error = error[batches[0].masks_CHW]
        mean = self.ranks.mean(error).item()
        return Figures(loss.item(), mean if math.isnan(mean) else -10 * math.log10(max(mean, 1e-10)))

    def due(self, last: bool) -> list[Callable[[], None]]:
        """Write simple_trainer's files and evaluate, after the steps that the options name; `finish` has the last."""
        options, step = self.options, self.step
        if last:
            return []
        saves = step in options.save_steps or (options.save_ply and step in options.ply_steps)
        evaluates = step in options.eval_steps
        return [*([partial(self._write, last=False)] if saves else []), *([self._evaluate] if evaluates else [])]

    def finish(self) -> None:
        """Take the best of the steps, if views were set aside to choose it by; write and evaluate it."""
        if self._validation is not None:
            self.step = self._validation.restore(self.model)
        self._write(last=True)
        self._evaluate()

    def _write(self, last: bool) -> None:
        assert self.evaluator is not None
        self.evaluator.files.save(self.step, self.model, self.progress.seconds, last)

    def _evaluate(self) -> None:
        assert self.evaluator is not None
        begin = time.perf_counter()
        self.evaluations.append({"step": self.step, **self.evaluator.evaluate(self.model, self.step)})
        self.eval_seconds += time.perf_counter() - begin

    def state(self) -> dict[str, Any]:
        """Collect the state from which the training continues; after the last step, only what evaluation needs."""
        model, validation = self.model, self._validation
        state: dict[str, Any] = {
            "parameters": {name: tensor.detach() for name, tensor in model.parameters.items()},
            "modules": {name: module.state_dict() for name, module in model.modules().items()},
            "validation": None if validation is None else validation.state(),
            "step": self.step,
            "evaluations": self.evaluations,
            "eval_seconds": self.eval_seconds,
        }
        if self.step >= self.steps:
            return state
        self.strategy.gather(model.parameters)
        return state | {
            "moments": {name: optimizer.state[model.parameters[name]] for name, optimizer in self.optimizers.items()},
            "module_optimizers": {name: optimizer.state_dict() for name, optimizer in self.module_optimizers.items()},
            "strategy": self.strategy.state(),
            "average": self.average.state(),
            "views": self.views.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another process."""
        self.step, self.evaluations, self.eval_seconds = (
            state[name] for name in ("step", "evaluations", "eval_seconds")
        )
        for name in self.optimizers:
            self.model.parameters[name] = state["parameters"][name].requires_grad_()
        for name, module in self.model.modules().items():
            module.load_state_dict(state["modules"][name])
        if self._validation is not None:
            self._validation.load(state["validation"])
        if "moments" not in state:  # no step is left
            self.steps = self.step
            return
        for name, optimizer in self.optimizers.items():
            tensor = self.model.parameters[name]
            optimizer.param_groups[0]["params"] = [tensor]
            optimizer.state.clear()
            optimizer.state[tensor] = state["moments"][name]
        for name, optimizer in self.module_optimizers.items():
            optimizer.load_state_dict(state["module_optimizers"][name])
        self.strategy.load(state["strategy"])
        self.average.load(state["average"])
        self.views.load(state["views"])

    def close(self) -> None:
        """Free nothing: the memory is freed with this object."""


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
