"""Densification and pruning of Gaussians: gsplat's default strategy in plain torch, for CPU and CUDA.

Follows `DefaultStrategy` of gsplat 1.5.3, but that version's opacity reset never runs (an
operator-precedence slip); here it does. `cap_max` and its ranking by gradient are ours.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from splatdag.splats.gaussians import Parameters, rotation_matrices
from splatdag.splats.strategies.mcmc import McmcStrategy
from splatdag.splats.strategies.ops import Optimizers, moments, replace_rows
from splatdag.splats.strategies.options import StrategyOptions
from splatdag.training.ranks import ALONE, Ranks


class Strategy(Protocol):
    """Strategy of densification and pruning, as the training loop calls it."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to continue."""

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another run."""

    def gather(self, parameters: Parameters) -> None:
        """Bring what all ranks collected since the Gaussians were last changed to the first rank, for its `state`."""

    def before_backward(self, infos: list[dict[str, Any]]) -> None:
        """Look at what was rendered, before the gradients are there."""

    def after_step(
        self, step: int, parameters: Parameters, optimizers: Optimizers, infos: list[dict[str, Any]], means_lr: float
    ) -> None:
        """Change the set of Gaussians after an optimisation step; steps count from 0.

        Args:
            step: the step just done.
            parameters: changed in place: tensors of another length are put in.
            optimizers: their states follow the parameters.
            infos: what `render` returned in this step, for each batch of this rank's views; with `views_of_step`, how
                many views all ranks rendered, where there are others.
            means_lr: learning rate of the positions in the next step.
        """


def strategy_of(
    options: StrategyOptions, scene_scale: float, generator: torch.Generator, ranks: Ranks = ALONE
) -> Strategy:
    """The strategy that the options name; `scene_scale` in units of training, `generator` on the device."""
    if options.kind == "mcmc":
        return McmcStrategy(options, generator)
    return DefaultStrategy(options, scene_scale, generator, ranks)


class DefaultStrategy:
    """Densification by screen-space gradients, pruning by opacity and size, and opacity resets."""

    def __init__(
        self, options: StrategyOptions, scene_scale: float, generator: torch.Generator, ranks: Ranks = ALONE
    ) -> None:
        self.options = options
        self.ranks = ranks
        self.scene_scale = scene_scale
        self.generator = generator
        self.gradient_N: Tensor | None = None
        self.seen_N: Tensor | None = None
        self.radius_N: Tensor | None = None

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to continue."""
        return {
            "gradient_N": self.gradient_N,
            "seen_N": self.seen_N,
            "radius_N": self.radius_N,
            "rng": self.generator.get_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another run."""
        if self.ranks.first:  # what all ranks collected: it must be counted once
            self.gradient_N, self.seen_N, self.radius_N = state["gradient_N"], state["seen_N"], state["radius_N"]
        self.generator.set_state(state["rng"].cpu())

    def gather(self, parameters: Parameters) -> None:
        """Bring the ranks' gradients and sizes to the first; as in `Strategy`."""
        self._merge(parameters)
        if not self.ranks.first:
            self.gradient_N = self.seen_N = self.radius_N = None

    def before_backward(self, infos: list[dict[str, Any]]) -> None:
        """Ask for the gradients of the projected centres."""
        for info in infos:
            info["means2d"].retain_grad()

    @torch.no_grad()
    def after_step(
        self, step: int, parameters: Parameters, optimizers: Optimizers, infos: list[dict[str, Any]], means_lr: float
    ) -> None:
        """Collect gradients and, when it is time, grow, prune and reset; arguments as in `Strategy`."""
        options = self.options
        if step >= options.refine_stop_iter:
            return
        self._collect(infos, len(parameters["means"]))
        since_reset = step % options.reset_every
        if (
            step > options.refine_start_iter
            and step % options.refine_every == 0
            and since_reset >= options.pause_refine_after_reset
        ):
            self._merge(parameters)
            self._grow(step, parameters, optimizers)
            self._prune(step, parameters, optimizers)
            self.gradient_N = self.seen_N = self.radius_N = None
        if step > 0 and since_reset == 0:
            self._reset_opacities(parameters, optimizers)

    def _collect(self, infos: list[dict[str, Any]], count: int) -> None:
        own = sum(info["n_cameras"] for info in infos)
        for info in infos:
            cameras = info.get("views_of_step", own)  # the loss is a mean over all views of the step
            means2d, radii = info["means2d"], info["radii"]
            if self.gradient_N is None or self.seen_N is None or self.radius_N is None:
                self.gradient_N, self.seen_N, self.radius_N = torch.zeros((3, count), device=means2d.device).unbind()
            gradient = means2d.absgrad if self.options.absgrad else means2d.grad
            visible = (radii > 0).all(dim=-1)
            across, down = gradient.unbind(dim=-1)
            norm = torch.hypot(across * (info["width"] / 2), down * (info["height"] / 2)) * cameras * visible
            radius = radii.amax(dim=-1) * visible / max(info["width"], info["height"])
            ids = info.get("gaussian_ids")
            if ids is not None:  # packed: one row per Gaussian and camera that sees it
                self.gradient_N.index_add_(0, ids, norm)
                self.seen_N.index_add_(0, ids, visible.float())
                self.radius_N.index_reduce_(0, ids, radius.float(), "amax")
            else:
                self.gradient_N += norm.sum(dim=0)
                self.seen_N += visible.sum(dim=0)
                torch.maximum(self.radius_N, radius.amax(dim=0).float(), out=self.radius_N)

    def _merge(self, parameters: Parameters) -> None:
        """Combine what the ranks collected; every rank gets the result."""
        if self.ranks.alone:
            return
        if self.gradient_N is None or self.seen_N is None or self.radius_N is None:  # this rank had no view so far
            means = parameters["means"]
            self.gradient_N, self.seen_N, self.radius_N = means.new_zeros((3, len(means))).unbind()
        self.gradient_N, self.seen_N = self.ranks.total(torch.stack([self.gradient_N, self.seen_N])).unbind()
        self.radius_N = self.ranks.largest(self.radius_N)

    def _grow(self, step: int, parameters: Parameters, optimizers: Optimizers) -> None:
        assert self.gradient_N is not None
        assert self.seen_N is not None
        assert self.radius_N is not None
        options = self.options
        gradient = self.gradient_N / self.seen_N.clamp(min=1)
        small = parameters["scales"].exp().amax(dim=-1) <= options.grow_scale3d * self.scene_scale
        grows = gradient > options.grow_grad2d
        duplicate, split = grows & small, grows & ~small
        if step < options.refine_scale2d_stop_iter:
            split |= self.radius_N > options.grow_scale2d
        if options.cap_max is not None:
            duplicate, split = _within(max(0, options.cap_max - len(gradient)), gradient, duplicate, split)
        copied, divided = torch.where(duplicate)[0], torch.where(split)[0]
        rows = torch.cat([torch.where(~split)[0], copied])
        children = self._split(parameters, divided)
        replace_rows(parameters, optimizers, rows, len(copied), children)
        self.radius_N = torch.cat([self.radius_N[rows], self.radius_N[divided].repeat(2)])

    def _split(self, parameters: Parameters, rows: Tensor) -> Parameters:
        """Two children in place of each Gaussian: drawn from it, 1.6 times smaller."""
        scales = parameters["scales"][rows].exp()
        noise = torch.randn((2, len(rows), 3), generator=self.generator, device=scales.device)
        shift = torch.einsum("nij,bnj->bni", rotation_matrices(parameters["quats"][rows]), noise * scales)
        children = {name: torch.cat([tensor[rows]] * 2) for name, tensor in parameters.items()}
        children["means"] = (parameters["means"][rows] + shift).reshape(-1, 3)
        children["scales"] = children["scales"] - math.log(1.6)
        if self.options.revised_opacity:
            opacity = torch.sigmoid(children["opacities"])
            children["opacities"] = torch.logit((1 - torch.sqrt(1 - opacity)).clamp(1e-6, 1 - 1e-6))
        return children

    def _prune(self, step: int, parameters: Parameters, optimizers: Optimizers) -> None:
        assert self.radius_N is not None
        options = self.options
        keep = torch.sigmoid(parameters["opacities"]) >= options.prune_opa
        if step > options.reset_every:
            keep &= parameters["scales"].exp().amax(dim=-1) <= options.prune_scale3d * self.scene_scale
            if step < options.refine_scale2d_stop_iter:
                keep &= self.radius_N <= options.prune_scale2d
        if not keep.all():
            replace_rows(parameters, optimizers, torch.where(keep)[0])

    def _reset_opacities(self, parameters: Parameters, optimizers: Optimizers) -> None:
        ceiling = 2 * self.options.prune_opa
        if not 0 < ceiling < 1:  # nothing is pruned by opacity, or everything is already below
            return
        parameters["opacities"].clamp_(max=math.log(ceiling / (1 - ceiling)))
        for moment in moments(optimizers, parameters, "opacities"):
            moment.zero_()


def _within(room: int, gradient: Tensor, duplicate: Tensor, split: Tensor) -> tuple[Tensor, Tensor]:
    """Limit the masks [N] of what to duplicate and to split to `room` Gaussians, those with the largest gradients."""
    duplicate = duplicate & ~split  # one that is small in the scene and large on screen grows by one, not by two
    grows = duplicate | split
    if int(grows.sum()) > room:
        best = torch.topk(torch.where(grows, gradient, -1.0), room).indices
        chosen = torch.zeros_like(grows).index_fill_(0, best, True)
        duplicate, split = duplicate & chosen, split & chosen
    return duplicate, split
