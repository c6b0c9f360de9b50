"""Adam in the three kinds that simple_trainer knows, with learning rates that follow batch size and step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from splatdag.scene.options import SplatOptions
from splatdag.scene.splat_model import SplatModel
from splatdag.splats.gaussians import Parameters
from splatdag.splats.strategies.ops import Optimizer, Optimizers
from splatdag.training.adam import Adam
from splatdag.training.ranks import ALONE, Ranks


def decay(step: int, options: SplatOptions) -> float:
    """Return the factor on the learning rates of positions and cameras at a step, counted from 0."""
    return options.final_lr_factor ** (step / options.max_steps)


def optimizers_of(parameters: Parameters, options: SplatOptions, scene_scale: float, batch_size: int) -> Optimizers:
    """Make one optimiser per parameter.

    Learning rates grow with the root of the batch size and the moments' memory shrinks with it (Malladi et al., On
    the SDEs and Scaling Rules for Adaptive Gradient Algorithms, 2022), as in simple_trainer.
    """
    rates = {
        "means": options.means_lr * scene_scale,
        "scales": options.scales_lr,
        "quats": options.quats_lr,
        "opacities": options.opacities_lr,
        "sh0": options.sh0_lr,
        "shN": options.shN_lr,
        "features": options.sh0_lr,
        "colors": options.sh0_lr,
    }
    shared: dict[str, Any] = {
        "eps": 1e-15 / math.sqrt(batch_size),
        "betas": (max(0.0, 1 - batch_size * 0.1), max(0.0, 1 - batch_size * 0.001)),
    }

    def optimizer(tensor: Tensor, rate: float) -> Optimizer:
        if options.sparse_grad:
            return torch.optim.SparseAdam([tensor], lr=rate, **shared)
        if options.visible_adam:
            return VisibleAdam(tensor, lr=rate, **shared)
        return Adam(tensor, lr=rate, **shared)

    return {name: optimizer(tensor, rates[name] * math.sqrt(batch_size)) for name, tensor in parameters.items()}


def module_optimizers(model: SplatModel, batch_size: int) -> dict[str, torch.optim.Optimizer]:
    """Make the optimisers of the networks for cameras and colours, as far as the model has them."""
    options, root_of_batch = model.options, math.sqrt(batch_size)
    found: dict[str, torch.optim.Optimizer] = {}
    if model.pose_adjust is not None:
        rate = options.pose_opt_lr * root_of_batch
        groups = [{"params": [model.pose_adjust.embeds.weight], "lr": rate, "initial_lr": rate}]
        found["pose"] = torch.optim.Adam(groups, weight_decay=options.pose_opt_reg)
    if model.app_module is not None:
        rate = options.app_opt_lr * root_of_batch
        codes, head = model.app_module.embeds.parameters(), model.app_module.color_head.parameters()
        found["app_embeds"] = torch.optim.Adam(codes, lr=10 * rate, weight_decay=options.app_opt_reg)
        found["app_head"] = torch.optim.Adam(head, lr=rate)
    return found


class VisibleAdam(Adam):
    """Adam that leaves rows alone which the step's views do not show, and has no bias correction.

    Mallick et al., Taming 3DGS (2024); the update is that of gsplat's SelectiveAdam.
    """

    rows: Tensor | None = None
    """Indices of the rows to update in the next step."""

    @torch.no_grad()
    def step(self) -> None:
        """Update the rows in `rows`."""
        assert self.rows is not None
        (group,) = self.param_groups
        (tensor,) = group["params"]
        if tensor.grad is None:
            return
        state = self._state(tensor)
        first, second = group["betas"]
        gradient = tensor.grad[self.rows]
        mean = state["exp_avg"][self.rows].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"][self.rows].lerp_(gradient.square(), 1 - second)
        state["exp_avg"][self.rows], state["exp_avg_sq"][self.rows] = mean, square
        tensor[self.rows] -= group["lr"] * mean / (square.sqrt() + group["eps"])


def step_all(optimizers: Optimizers, infos: list[dict[str, Any]], options: SplatOptions, ranks: Ranks = ALONE) -> None:
    """Take every optimiser's step; with `visible_adam` or `sparse_grad` only on Gaussians that the views show."""
    rows = None
    if options.visible_adam or options.sparse_grad:
        (means,) = optimizers["means"].param_groups[0]["params"]
        own = visible_rows(infos) if infos else means.new_empty(0, dtype=torch.int64)
        rows = ranks.union(own, len(means))
    for optimizer in optimizers.values():
        (tensor,) = optimizer.param_groups[0]["params"]
        if isinstance(optimizer, VisibleAdam):
            optimizer.rows = rows
        elif rows is not None and tensor.grad is not None:
            values = tensor.grad[rows]
            tensor.grad = torch.sparse_coo_tensor(
                rows[None], values, tensor.shape, is_coalesced=True, check_invariants=False
            )
        optimizer.step()
        optimizer.zero_grad()


def visible_rows(infos: list[dict[str, Any]]) -> Tensor:
    """Return the indices of the Gaussians that any of the views shows, ascending."""
    found = []
    for info in infos:
        shown = (info["radii"] > 0).all(dim=-1)
        ids = info.get("gaussian_ids")
        found.append(torch.where(shown.any(dim=0))[0] if ids is None else ids[shown])
    return torch.cat(found).unique()
