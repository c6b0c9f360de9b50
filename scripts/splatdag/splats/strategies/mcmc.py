"""Gaussians as samples of a Markov chain: dead ones are moved, new ones are drawn, all are shaken.

Kheradmand et al., 3D Gaussian Splatting as Markov Chain Monte Carlo (2024), as `MCMCStrategy` of gsplat 1.5.3,
in plain torch for CPU and CUDA. Departure: a Gaussian that is moved starts without momentum.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from splatdag.splats.gaussians import Parameters, rotation_matrices
from splatdag.splats.strategies.ops import Optimizers, moments, replace_rows
from splatdag.splats.strategies.options import StrategyOptions

_GROWTH = 1.05
_MOST_COPIES = 51
"""Largest number of copies of one Gaussian in one refinement that its new opacity and scale account for."""
_NOISE_SLOPE, _NOISE_CENTER = 100.0, 0.005
"""Noise fades out where opacity rises above the centre."""


class McmcStrategy:
    """Relocation of transparent Gaussians, growth by 5 % up to a cap, and noise on the positions."""

    def __init__(self, options: StrategyOptions, generator: torch.Generator) -> None:
        self.options = options
        self.generator = generator

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to continue."""
        return {"rng": self.generator.get_state()}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another run."""
        self.generator.set_state(state["rng"].cpu())

    def gather(self, parameters: Parameters) -> None:
        """Do nothing: nothing is collected."""

    def before_backward(self, infos: list[dict[str, Any]]) -> None:
        """Do nothing: no gradient of the projection is needed."""

    @torch.no_grad()
    def after_step(
        self, step: int, parameters: Parameters, optimizers: Optimizers, infos: list[dict[str, Any]], means_lr: float
    ) -> None:
        """Relocate and grow when it is time, and add noise; arguments as in `densify.Strategy`."""
        options = self.options
        if options.refine_start_iter < step < options.refine_stop_iter and step % options.refine_every == 0:
            self._relocate(parameters, optimizers)
            self._grow(parameters, optimizers)
        self._shake(parameters, means_lr * options.noise_lr)

    def _relocate(self, parameters: Parameters, optimizers: Optimizers) -> None:
        """Put every dead Gaussian beside a living one, drawn by opacity; together they look as that one did."""
        opacity = torch.sigmoid(parameters["opacities"])
        is_dead = opacity <= self.options.min_opacity
        dead, alive = torch.where(is_dead)[0], torch.where(~is_dead)[0]
        if not len(dead) or not len(alive):
            return
        chosen = alive[self._drawn(opacity[alive], len(dead))]
        self._share(parameters, opacity, chosen)
        for name, tensor in parameters.items():
            tensor[dead] = tensor[chosen]
            for moment in moments(optimizers, parameters, name):
                moment[chosen] = 0
                moment[dead] = 0

    def _grow(self, parameters: Parameters, optimizers: Optimizers) -> None:
        """Add 5 %, up to the cap, as copies of Gaussians drawn by opacity."""
        assert self.options.cap_max is not None
        count = len(parameters["means"])
        new = min(self.options.cap_max, int(_GROWTH * count)) - count
        if new <= 0:
            return
        opacity = torch.sigmoid(parameters["opacities"])
        chosen = self._drawn(opacity, new)
        self._share(parameters, opacity, chosen)
        everything = torch.arange(count, device=chosen.device)
        replace_rows(parameters, optimizers, torch.cat([everything, chosen]), copies=new)

    def _drawn(self, weight: Tensor, count: int) -> Tensor:
        """Indices [count], drawn with replacement in proportion to weights [N]; any N, unlike torch.multinomial."""
        edges = weight.double().cumsum(dim=0)
        at = torch.rand(count, generator=self.generator, device=weight.device, dtype=torch.float64) * edges[-1]
        return torch.searchsorted(edges, at, right=True).clamp(max=len(weight) - 1)

    def _share(self, parameters: Parameters, opacity: Tensor, chosen: Tensor) -> None:
        """Give the chosen, of which there will be several copies, the opacity and size of one copy each."""
        copies = torch.bincount(chosen, minlength=len(opacity))[chosen] + 1
        new_opacity, factor = shared_look(opacity[chosen], copies)
        parameters["opacities"][chosen] = torch.logit(
            new_opacity.clamp(self.options.min_opacity, 1 - torch.finfo(torch.float32).eps)
        )
        parameters["scales"][chosen] += factor.log()[:, None]

    def _shake(self, parameters: Parameters, strength: float) -> None:
        """Noise of the shape of each Gaussian, for transparent ones (eq. 8)."""
        opacity = torch.sigmoid(parameters["opacities"])
        amount = torch.sigmoid(-_NOISE_SLOPE * (opacity - _NOISE_CENTER)) * strength
        noise = torch.randn(parameters["means"].shape, generator=self.generator, device=opacity.device)
        axes = rotation_matrices(parameters["quats"])
        variances = (2 * parameters["scales"]).exp()
        along = torch.einsum("nji,nj->ni", axes, noise * amount[:, None])
        parameters["means"] += torch.einsum("nij,nj->ni", axes, variances * along)


def shared_look(opacity: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity of one of several equal Gaussians in one place, and the factor on its size (eq. 9).

    Args:
        opacity: [N] of the one Gaussian that they replace.
        copies: [N] how many; more than 51 count as 51.

    Returns:
        Opacities [N] and factors [N], so that the copies together look as the one did.
    """
    copies = copies.clamp(1, _MOST_COPIES)
    new = 1 - (1 - opacity.double()) ** (1 / copies)
    orders = torch.arange(1, _MOST_COPIES + 1, device=opacity.device)
    weights = _weights().to(opacity.device)[copies]
    total = (weights * new[:, None] ** orders).sum(dim=1)
    return new.float(), (opacity.double() / total).float()


@functools.cache
def _weights() -> Tensor:
    """[n, k - 1]: (-1)^(k-1) C(n, k) / √k, float64; eq. 9 with its two sums taken together."""
    table = torch.zeros((_MOST_COPIES + 1, _MOST_COPIES), dtype=torch.float64)
    for n in range(_MOST_COPIES + 1):
        for k in range(1, n + 1):
            table[n, k - 1] = (-1) ** (k - 1) * math.comb(n, k) / math.sqrt(k)
    return table
