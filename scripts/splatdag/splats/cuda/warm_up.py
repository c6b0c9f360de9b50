"""Warm-up of CUDA: the imports, kernels and libraries of a training's first step, loaded while photos are decoded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from splatdag.splats.losses import photometric_loss
from splatdag.splats.render import render

_SIZES = ((64, 64), (65, 33))
"""Width and height: Triton compiles anew for sizes that are multiples of 16."""


def warm_up(device: torch.device) -> Callable[[], None]:
    """Take tiny steps on a CUDA device, in a thread; returns a function that waits for their end.

    The second or two would else be lost in the training's first step. On the CPU there is nothing to do.
    """
    if device.type != "cuda":
        return lambda: None
    pool = ThreadPoolExecutor(1, "warm_up")
    steps = pool.submit(_steps, device)

    def wait() -> None:
        steps.result()
        pool.shutdown()

    return wait


def _steps(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    count = 64
    for width, height in _SIZES:
        means = torch.randn((count, 3), generator=generator) + torch.tensor([0.0, 0.0, 5.0])
        opacities = torch.full((count,), 0.5, device=device)
        image, _, _ = render(
            means.to(device).requires_grad_(),
            torch.randn((count, 4), generator=generator).to(device),
            torch.full((count, 3), 0.2, device=device),
            opacities,
            torch.zeros((count, 16, 3), device=device),
            torch.eye(4, device=device)[None],
            torch.tensor([[[50.0, 0, width / 2], [0, 50.0, height / 2], [0, 0, 1]]], device=device),
            width,
            height,
            sh_degree=3,
        )
        photometric_loss(image, torch.zeros_like(image), 0.2).backward()
    torch.cuda.synchronize(device)
