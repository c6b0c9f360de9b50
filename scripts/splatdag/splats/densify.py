"""Where Gaussians are added and removed: gsplat's default strategy in plain torch, for CPU and CUDA.

Source: Kerbl et al. 2023, section 5.2, as in gsplat 1.5.3's DefaultStrategy, whose opacity reset never runs (an
operator-precedence slip); here it does. `cap_max` and its ranking by gradient are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from splatdag.splats.gaussians import Parameters
from splatdag.splats.options import StrategyOptions

Optimizers = dict[str, torch.optim.Optimizer]
"""One optimiser per parameter, each with that parameter alone."""


class Strategy:
    """Densification by screen-space gradients, pruning by opacity and size, and opacity resets."""

    def __init__(self, options: StrategyOptions, scene_scale: float, generator: torch.Generator) -> None:
        self.options = options
        self.scene_scale = scene_scale
        self.generator = generator
        self.gradient_N: Tensor | None = None
        self.seen_N: Tensor | None = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to continue."""
        return {"gradient_N": self.gradient_N, "seen_N": self.seen_N, "rng": self.generator.get_state()}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another run."""
        self.gradient_N, self.seen_N = state["gradient_N"], state["seen_N"]
        self.generator.set_state(state["rng"])

    def before_backward(self, info: dict[str, Any]) -> None:
        """Ask for the gradient of the projected centres."""
        info["means2d"].retain_grad()

    @torch.no_grad()
    def after_step(self, step: int, parameters: Parameters, optimizers: Optimizers, info: dict[str, Any]) -> None:
        """Collect gradients and, when it is time, refine. Steps count from 0.

        Args:
            step: the step just done.
            parameters: changed in place: tensors of another length are put in.
            optimizers: their states follow the parameters.
            info: what `render` returned for this step.
        """
        options = self.options
        if step >= options.refine_stop_iter:
            return
        self._collect(info)
        since_reset = step % options.reset_every
        if (
            step > options.refine_start_iter
            and step % options.refine_every == 0
            and since_reset >= options.pause_refine_after_reset
        ):
            self._grow(parameters, optimizers)
            self._prune(step, parameters, optimizers)
            self.gradient_N = self.seen_N = None
        if step > 0 and since_reset == 0:
            self._reset_opacities(parameters, optimizers)

    def _collect(self, info: dict[str, Any]) -> None:
        means2d = info["means2d"]
        gradient = means2d.absgrad if self.options.absgrad else means2d.grad
        half_size = gradient.new_tensor([info["width"] / 2, info["height"] / 2]) * info["n_cameras"]
        visible = (info["radii"] > 0).all(dim=-1)
        norm = (gradient * half_size).norm(dim=-1) * visible
        if self.gradient_N is None or self.seen_N is None:
            self.gradient_N, self.seen_N = torch.zeros_like(norm[0]), torch.zeros_like(norm[0])
        self.gradient_N += norm.sum(dim=0)
        self.seen_N += visible.sum(dim=0)

    def _grow(self, parameters: Parameters, optimizers: Optimizers) -> None:
        assert self.gradient_N is not None
        assert self.seen_N is not None
        options = self.options
        gradient = self.gradient_N / self.seen_N.clamp(min=1)
        grows = gradient > options.grow_grad2d
        if options.cap_max is not None:
            room = max(0, options.cap_max - len(gradient))
            if int(grows.sum()) > room:
                best = torch.topk(torch.where(grows, gradient, -1.0), room).indices
                grows = torch.zeros_like(grows).index_fill_(0, best, True)
        small = parameters["scales"].exp().amax(dim=-1) <= options.grow_scale3d * self.scene_scale
        split, duplicate = grows & ~small, grows & small
        rows = torch.cat([torch.where(~split)[0], torch.where(duplicate)[0]])
        children = self._split(parameters, torch.where(split)[0])
        _replace(parameters, optimizers, rows, torch.where(duplicate)[0].numel(), children)

    def _split(self, parameters: Parameters, rows: Tensor) -> Parameters:
        """Two children in place of each Gaussian: drawn from it, 1.6 times smaller."""
        scales = parameters["scales"][rows].exp()
        noise = torch.randn((2, len(rows), 3), generator=self.generator).to(scales)
        shift = torch.einsum("nij,bnj->bni", rotation_matrices(parameters["quats"][rows]), noise * scales)
        children = {name: torch.cat([tensor[rows]] * 2) for name, tensor in parameters.items()}
        children["means"] = (parameters["means"][rows] + shift).reshape(-1, 3)
        children["scales"] = children["scales"] - math.log(1.6)
        if self.options.revised_opacity:
            opacity = torch.sigmoid(children["opacities"])
            children["opacities"] = torch.logit((1 - torch.sqrt(1 - opacity)).clamp(1e-6, 1 - 1e-6))
        return children

    def _prune(self, step: int, parameters: Parameters, optimizers: Optimizers) -> None:
        options = self.options
        keep = torch.sigmoid(parameters["opacities"]) >= options.prune_opa
        if step > options.reset_every:
            keep &= parameters["scales"].exp().amax(dim=-1) <= options.prune_scale3d * self.scene_scale
        if not keep.all():
            _replace(parameters, optimizers, torch.where(keep)[0])

    def _reset_opacities(self, parameters: Parameters, optimizers: Optimizers) -> None:
        ceiling = 2 * self.options.prune_opa
        if not 0 < ceiling < 1:  # nothing is pruned by opacity, or everything is already below
            return
        parameters["opacities"].clamp_(max=math.log(ceiling / (1 - ceiling)))
        for value in _moments(optimizers["opacities"], parameters["opacities"]).values():
            value.zero_()


def rotation_matrices(quats: Tensor) -> Tensor:
    """Rotation matrices [N, 3, 3] of quaternions [N, 4] (wxyz, of any length)."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(dim=-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).reshape(-1, 3, 3)  # fmt: skip


def _moments(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    return {key: value for key, value in optimizer.state[parameter].items() if key != "step"}


def _replace(
    parameters: Parameters,
    optimizers: Optimizers,
    rows: Tensor,
    copies: int = 0,
    added: Parameters | None = None,
) -> None:
    """Keep `rows`, of which the last `copies` are duplicates, and append `added`; what is new has no momentum."""

    def moved(old: Tensor, appended: Tensor | None, fresh: Callable[[Tensor], Tensor]) -> Tensor:
        kept = old[rows]
        if copies:
            kept[-copies:] = fresh(kept[-copies:])
        return kept if appended is None else torch.cat([kept, fresh(appended)])

    for name, old in parameters.items():
        optimizer = optimizers[name]
        appended = None if added is None else added[name]
        new = moved(old.detach(), appended, lambda values: values).requires_grad_()
        state = optimizer.state.pop(old, {})
        optimizer.param_groups[0]["params"] = [new]
        optimizer.state[new] = {
            key: value if key == "step" else moved(value, appended, torch.zeros_like) for key, value in state.items()
        }
        parameters[name] = new
