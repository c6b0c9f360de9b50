"""Everything that a training changes, and that a checkpoint holds."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any

import torch

from splatdag.scene.averaging import Average
from splatdag.scene.batches import TrainingViews
from splatdag.scene.optimizers import decay, module_optimizers, optimizers_of, step_all
from splatdag.scene.options import SplatOptions
from splatdag.scene.splat_model import SplatModel, start_model
from splatdag.scene.validation import Validation
from splatdag.scene.views import View
from splatdag.splats.gaussians import Parameters
from splatdag.splats.normalisation import Normalisation
from splatdag.splats.strategies.densify import strategy_of
from splatdag.training.ranks import ALONE, Ranks

logger = logging.getLogger(__name__)


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
    ended: bool = False
    """Whether no step is left; what was trained is to be measured and published."""
    rank_seconds: float = 0.0
    """Wall time until the other ranks were there."""
    rank_memory_mb: float = 0.0
    """Largest allocation on a GPU of another rank, in MB."""


class Run:
    """A training between two steps: model, optimisers, strategy, which views come next, and the figures so far."""

    def __init__(
        self,
        views: list[View],
        frame: Normalisation,
        start: Parameters,
        options: SplatOptions,
        validation: Validation | None,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.options = options
        self.ranks = ranks
        self.device = device
        self.extent = frame.extent
        self.views = TrainingViews(views, frame, options, device, ranks)
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
        self.strategy = strategy_of(options.strategy, frame.extent, generator, ranks)
        self.average = Average(options)
        self.validation = validation
        self.result = Trained(self.model)

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

    def settle(self, keeps: bool) -> None:
        """Make sure that the ranks agree; with `keeps`, have at the first all that `state` holds."""
        if keeps:
            self.strategy.gather(self.model.parameters)
        self.ranks.check_equal(self.model.learnt(), self.result.step)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to continue."""
        model = self.model
        return {
            **self.end(),
            "moments": {name: optimizer.state[model.parameters[name]] for name, optimizer in self.optimizers.items()},
            "module_optimizers": {name: optimizer.state_dict() for name, optimizer in self.module_optimizers.items()},
            "strategy": self.strategy.state(),
            "average": self.average.state(),
            "views": self.views.state(),
            "validation": None if self.validation is None else self.validation.state(),
        }

    def end(self) -> dict[str, Any]:
        """What a checkpoint needs after the last step: only to measure is left."""
        model, result = self.model, self.result
        return {
            "parameters": {name: tensor.detach() for name, tensor in model.parameters.items()},
            "modules": {name: module.state_dict() for name, module in model.modules().items()},
            "ended": result.ended,
            "step": result.step,
            "curve": result.curve,
            "evaluations": result.evaluations,
            "seconds": [result.train_seconds, result.eval_seconds],
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Continue from `state()` or `end()` of another run."""
        result = self.result
        result.step, result.curve, result.evaluations = saved["step"], saved["curve"], saved["evaluations"]
        result.train_seconds, result.eval_seconds = saved["seconds"]
        result.ended = saved["ended"]
        for name in self.optimizers:
            self.model.parameters[name] = saved["parameters"][name].requires_grad_()
        for name, module in self.model.modules().items():
            module.load_state_dict(saved["modules"][name])
        if result.ended:
            return
        for name, optimizer in self.optimizers.items():
            tensor = self.model.parameters[name]
            optimizer.param_groups[0]["params"] = [tensor]
            optimizer.state.clear()
            optimizer.state[tensor] = saved["moments"][name]
        for name, optimizer in self.module_optimizers.items():
            optimizer.load_state_dict(saved["module_optimizers"][name])
        self.strategy.load(saved["strategy"])
        self.average.load(saved["average"])
        self.views.load(saved["views"])
        if self.validation is not None:
            self.validation.load(saved["validation"])
