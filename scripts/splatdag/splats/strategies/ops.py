"""Changes to the rows of all parameters together, one row per Gaussian, and to their optimisers' moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from splatdag.splats.gaussians import Parameters


class Optimizer(Protocol):
    """The part of torch's optimisers that is used here: `optimizers.Adam` has no more."""

    param_groups: list[dict[str, Any]]
    state: Any

    def step(self) -> Any:
        """Follow the gradient."""

    def zero_grad(self) -> None:
        """Forget the gradient."""


Optimizers = dict[str, Optimizer]
"""One optimiser per parameter, each with that parameter alone."""


def replace_rows(
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


def moments(optimizers: Optimizers, parameters: Parameters, name: str) -> list[Tensor]:
    """List the optimiser's moments of a parameter, one row per Gaussian; none before its first step."""
    state = optimizers[name].state.get(parameters[name], {})
    return [value for key, value in state.items() if key != "step"]
