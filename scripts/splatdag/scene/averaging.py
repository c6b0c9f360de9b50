"""The mean of the last steps' Gaussians, which is calmer than any one of them (Polyak and Juditsky, 1992)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splatdag.scene.options import SplatOptions
from splatdag.splats.gaussians import Parameters


class Average:
    """Sums up the parameters of the last `average_steps` steps, and puts their mean in place after the last.

    Steps before the end of densification don't count, since rows change their meaning in it.
    """

    def __init__(self, options: SplatOptions) -> None:
        self.first = max(options.max_steps - options.average_steps, options.strategy.refine_stop_iter)
        self.last = options.max_steps - 1
        self.steps = 0
        self.means: dict[str, Tensor] = {}

    def state(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        return {"steps": self.steps, "means": self.means}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another run."""
        self.steps, self.means = state["steps"], state["means"]

    @torch.no_grad()
    def after_step(self, step: int, parameters: Parameters) -> None:
        """Take in the parameters after a step, counted from 0; after the last they become the mean."""
        if step < self.first:
            return
        self.steps += 1
        if not self.means:
            self.means = {name: tensor.clone() for name, tensor in parameters.items()}
        else:
            for name, mean in self.means.items():
                mean.lerp_(parameters[name], 1 / self.steps)
        if step == self.last:
            for name, tensor in parameters.items():
                tensor.copy_(self.means[name])
