"""One refinement after another, ours and gsplat's, on what was rendered by hand."""

from __future__ import annotations

import math
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy as GsplatStrategy

from splatdag.splats.strategies.densify import DefaultStrategy
from splatdag.splats.strategies.options import StrategyOptions

N, NOISE_SEED = 400, 11
SHAPES = {"means": (3,), "scales": (3,), "quats": (4,), "opacities": (), "sh0": (1, 3), "shN": (3, 3)}
Training = tuple[dict[str, torch.Tensor], dict[str, torch.optim.Optimizer]]


def training(count: int = N, seed: int = 0) -> Training:
    """Random Gaussians whose optimisers have momentum; about half are small, some transparent, some huge."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {
        name: torch.nn.Parameter(torch.randn((count, *shape), generator=generator)) for name, shape in SHAPES.items()
    }
    with torch.no_grad():
        parameters["scales"].mul_(0.8).add_(math.log(0.01))
        parameters["opacities"].mul_(4)
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam([value], lr=1e-3) for name, value in parameters.items()
    }
    for name, value in parameters.items():
        value.grad = torch.randn(value.shape, generator=generator)
        optimizers[name].step()
        value.grad = None
    return parameters, optimizers  # type: ignore[return-value]


def rendered(count: int, seed: int, cameras: int = 2) -> dict[str, Any]:
    """What a rendering with gradients leaves: a third of the Gaussians out of sight, long-tailed gradients."""
    generator = torch.Generator().manual_seed(seed)
    means2d = torch.zeros(cameras, count, 2)
    size = torch.rand((cameras, count, 1), generator=generator) ** 4 * 1e-5
    means2d.grad = size * torch.randn((cameras, count, 2), generator=generator)
    means2d.absgrad = 3 * means2d.grad.abs()  # type: ignore[attr-defined]
    radii = torch.randint(0, 5, (cameras, count, 2), generator=generator, dtype=torch.int32)
    return {
        "means2d": means2d, "radii": radii, "width": 64, "height": 48, "n_cameras": cameras, "gaussian_ids": None,
    }  # fmt: skip


def strategy(scene_scale: float = 1.0, **options: Any) -> DefaultStrategy:
    return DefaultStrategy(StrategyOptions(**options), scene_scale, torch.Generator().manual_seed(NOISE_SEED))


def run_ours(made: Training, steps: list[int], scene_scale: float = 1.0, cameras: int = 2, **options: Any) -> Training:
    ours = strategy(scene_scale, **options)
    for step in steps:
        ours.after_step(step, *made, [rendered(len(made[0]["means"]), step, cameras)], 0.0)
    return made


def run_gsplat(
    made: Training, steps: list[int], scene_scale: float = 1.0, cameras: int = 2, **options: Any
) -> Training:
    theirs = GsplatStrategy(**options)
    state = theirs.initialize_state(scene_scale)
    torch.manual_seed(NOISE_SEED)
    for step in steps:
        theirs.step_post_backward(*made, state, step, rendered(len(made[0]["means"]), step, cameras))
    return made


def assert_same(ours: Training, theirs: Training) -> None:
    """Parameters and moments equal, row by row."""
    for name, expected in theirs[0].items():
        found = ours[0][name]
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-5, atol=1e-6)
        state, other = ours[1][name].state[found], theirs[1][name].state[expected]
        assert state.keys() == other.keys()
        for key in state:
            torch.testing.assert_close(state[key], other[key], rtol=0, atol=0)


LOW = {"grow_grad2d": 5e-5, "refine_start_iter": 0, "refine_every": 5, "reset_every": 1000}
