"""Adam of one tensor, without torch's compiler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Adam:
    """Adam of one tensor (Kingma and Ba, 2015): torch's fused kernel, hence the bits of `torch.optim.Adam(fused=True)`.

    Making one of torch's own optimisers imports torch's compiler, which takes a second, and each of their steps takes
    several times as long on the host.
    """

    def __init__(self, tensor: Tensor, lr: float, betas: tuple[float, float], eps: float) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": [tensor], "lr": lr, "betas": betas, "eps": eps}]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Follow the gradient, if there is one."""
        (group,) = self.param_groups
        (tensor,) = group["params"]
        if tensor.grad is None:
            return
        state = self._state(tensor)
        state["step"] += 1
        torch._fused_adam_(
            [tensor], [tensor.grad], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]],
            lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=0.0, eps=group["eps"],
            amsgrad=False, maximize=False,
        )  # fmt: skip

    def zero_grad(self) -> None:
        """Forget the gradient."""
        (tensor,) = self.param_groups[0]["params"]
        tensor.grad = None

    def _state(self, tensor: Tensor) -> dict[str, Tensor]:
        if tensor not in self.state:
            self.state[tensor] = {
                "step": torch.zeros((), device=tensor.device),
                "exp_avg": torch.zeros_like(tensor),
                "exp_avg_sq": torch.zeros_like(tensor),
            }
        return self.state[tensor]
