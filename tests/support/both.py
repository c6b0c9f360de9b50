"""What the tests on CUDA share: the marks, the same Gaussians for both devices, and the largest differences found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from splatdag.splats.render import render

NEEDS_CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LARGEST: dict[str, float] = {}
"""Largest relative L2 difference so far between the CPU and CUDA, by quantity; printed at the end of the tests."""


def gaussians(count: int, sh_degree: int, cameras: int = 1) -> dict[str, Tensor]:
    """Gaussians in front of cameras that stand side by side, as `render` takes them; the first at the origin."""
    generator = torch.Generator().manual_seed(count)
    viewmats = torch.eye(4).repeat(cameras, 1, 1)
    viewmats[:, 0, 3] = 0.3 * torch.arange(cameras)
    return {
        "means": torch.randn((count, 3), generator=generator) * 0.7 + torch.tensor([0.0, 0.0, 4.0]),
        "quats": torch.randn((count, 4), generator=generator),
        "scales": 0.02 + 0.2 * torch.rand((count, 3), generator=generator) ** 2,
        "opacities": torch.rand((count,), generator=generator) * 0.95 + 0.02,
        "colors": torch.randn((count, (sh_degree + 1) ** 2, 3), generator=generator) * 0.3,
        "viewmats": viewmats,
    }


def intrinsics(cameras: int, width: int, height: int, device: torch.device) -> Tensor:
    """[C, 3, 3] in pixels, the principal point off the middle."""
    K = [[0.9 * width, 0, width / 2 + 3], [0, 0.9 * width, height / 2 - 2], [0, 0, 1]]
    return torch.tensor(K, device=device).repeat(cameras, 1, 1)


def rendered(
    inputs: dict[str, Tensor], width: int, height: int, device: torch.device, **options: Any
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Image, alpha, and the gradients of a weighted sum of both by every input and by means2d; all moved to the CPU."""
    leaves = {name: value.detach().clone().to(device).requires_grad_() for name, value in inputs.items()}
    Ks = intrinsics(len(inputs["viewmats"]), width, height, device)
    image, alpha, info = render(**leaves, Ks=Ks, width=width, height=height, **options)
    shared = inputs["means"].dim() == 2  # else each camera has means of its own, and means2d no gradient
    if shared:
        info["means2d"].retain_grad()
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(device)
    ((image * weights).sum() + alpha.square().sum()).backward()
    gradients = {
        name: torch.zeros_like(inputs[name]) if leaf.grad is None else leaf.grad.cpu() for name, leaf in leaves.items()
    }
    if shared:
        gradients["means2d"] = info["means2d"].grad.cpu()
    if options.get("absgrad"):
        gradients["absgrad"] = info["means2d"].absgrad.cpu()
    return image.detach().cpu(), alpha.detach().cpu(), gradients


def assert_alike(ours: dict[str, Tensor], theirs: dict[str, Tensor], bound: float) -> None:
    """The same quantities, each within `bound` of the other in relative L2; the differences are noted."""
    assert ours.keys() == theirs.keys()
    for name, other in theirs.items():
        error = float((ours[name] - other).norm() / other.norm().clamp_min(1e-30))
        LARGEST[name] = max(error, LARGEST.get(name, 0.0))
        assert error < bound, f"{name}: {error:.1e}"
