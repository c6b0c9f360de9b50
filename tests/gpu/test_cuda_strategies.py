"""Our densification and MCMC against gsplat's own strategies, on CUDA, fed with what is rendered there.

Split and moved Gaussians are compared row by row: both sides draw the same numbers.
"""

from __future__ import annotations

import math
from typing import Any

import gsplat.strategy.ops
import pytest
import torch
from gsplat.relocation import compute_relocation
from gsplat.strategy import DefaultStrategy as GsplatDefault
from gsplat.strategy import MCMCStrategy as GsplatMcmc
from support.both import CUDA, NEEDS_CUDA, gaussians, intrinsics
from torch import Tensor

from splatdag.splats.render import render
from splatdag.splats.strategies.densify import DefaultStrategy
from splatdag.splats.strategies.mcmc import McmcStrategy, shared_look
from splatdag.splats.strategies.options import StrategyOptions

pytestmark = NEEDS_CUDA
COUNT, SIZE, NOISE_SEED = 2_000, (96, 64), 11
STEPS = range(1, 17)
Training = tuple[dict[str, Tensor], dict[str, torch.optim.Optimizer]]


def training() -> Training:
    """Gaussians as they are trained, their optimisers with momentum; equal each time."""
    inputs = gaussians(COUNT, 1)
    values = {
        "means": inputs["means"],
        "scales": inputs["scales"].log(),
        "quats": inputs["quats"],
        "opacities": torch.logit(inputs["opacities"].square()),
        "sh0": inputs["colors"][:, :1],
        "shN": inputs["colors"][:, 1:],
    }
    parameters: dict[str, Tensor] = {name: torch.nn.Parameter(value.to(CUDA)) for name, value in values.items()}
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam([value], lr=2e-3, fused=True) for name, value in parameters.items()
    }
    gradients = {
        name: torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(CUDA)
        for name, value in values.items()
    }
    optimise((parameters, optimizers), gradients)
    return parameters, optimizers


def optimise(made: Training, gradients: dict[str, Tensor]) -> None:
    for name, optimizer in made[1].items():
        made[0][name].grad = gradients[name].clone()
        optimizer.step()
        optimizer.zero_grad()


def seen(parameters: dict[str, Tensor], step: int, cameras: int, **options: Any) -> tuple[dict, dict[str, Tensor]]:
    """What a step renders, other cameras each time, with the gradients of a loss by it and by the parameters."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
    viewmats = gaussians(1, 0, cameras)["viewmats"]
    viewmats[:, 1, 3] = 0.1 * (step % 5 - 2)
    image, _, info = render(
        leaves["means"], leaves["quats"], leaves["scales"].exp(), torch.sigmoid(leaves["opacities"]),
        torch.cat([leaves["sh0"], leaves["shN"]], dim=1), viewmats.to(CUDA), intrinsics(cameras, *SIZE, CUDA),
        *SIZE, sh_degree=1, **options,
    )  # fmt: skip
    info["means2d"].retain_grad()
    target = torch.rand(image.shape, generator=torch.Generator().manual_seed(step)).to(CUDA)
    (image - target).abs().mean().backward()
    return {"gaussian_ids": None, **info}, {name: leaf.grad for name, leaf in leaves.items()}


def assert_same(ours: Training, theirs: Training) -> None:
    """Parameters and moments equal, row by row."""
    for name, expected in theirs[0].items():
        found = ours[0][name]
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-4, atol=1e-5)
        state, other = ours[1][name].state[found], theirs[1][name].state[expected]
        for key in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(state[key], other[key], rtol=1e-4, atol=1e-9)


class Counted(GsplatDefault):
    """gsplat's strategy, with sums of what it does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.duplicated = self.split = self.pruned = 0

    def _grow_gs(self, *arguments: Any) -> tuple[int, int]:
        duplicated, split = super()._grow_gs(*arguments)
        self.duplicated += duplicated
        self.split += split
        return duplicated, split

    def _prune_gs(self, *arguments: Any) -> int:
        pruned: int = super()._prune_gs(*arguments)
        self.pruned += pruned
        return pruned


OFTEN = {"refine_start_iter": 2, "refine_every": 4, "reset_every": 1_000, "grow_grad2d": 2e-4, "grow_scale3d": 0.12}
ON_SCREEN = {"refine_scale2d_stop_iter": 15, "grow_scale2d": 0.1, "prune_scale2d": 0.14, "prune_scale3d": 10.0}
# Of several cameras, gsplat takes the size on screen in any one of them, we take the largest: one camera there.
CASES = [
    pytest.param(2, {}, {}, 50, id="plain"),
    pytest.param(2, {}, {"packed": True}, 50, id="packed"),
    pytest.param(2, {"absgrad": True, "grow_grad2d": 1e-3}, {"absgrad": True}, 50, id="absolute gradients"),
    pytest.param(2, {"revised_opacity": True}, {}, 50, id="revised opacity"),
    pytest.param(1, {"reset_every": 3, **ON_SCREEN}, {}, 200, id="size on screen"),
    pytest.param(2, {"reset_every": 3, "prune_scale3d": 0.19}, {}, 200, id="large ones pruned"),
]
"""Cameras, options, how it is rendered, and how many are pruned at least: 99 are by their opacity."""


def without_resets(ours: DefaultStrategy) -> DefaultStrategy:
    """gsplat 1.5.3 never resets opacities; what its reset does is compared on its own."""
    ours._reset_opacities = lambda parameters, optimizers: None  # type: ignore[method-assign]
    return ours


@pytest.mark.parametrize(("cameras", "changes", "rendering", "least_pruned"), CASES)
def test_refinements_add_and_remove_the_rows_that_gsplat_s_do(
    cameras: int, changes: dict[str, Any], rendering: dict[str, Any], least_pruned: int
) -> None:
    """Sixteen steps, four refinements, on what is rendered of our Gaussians; optimisation in between."""
    options = {**OFTEN, **changes}
    ours, theirs, reference = training(), training(), Counted(**options)
    generator = torch.Generator(CUDA).manual_seed(NOISE_SEED)
    strategy = without_resets(DefaultStrategy(StrategyOptions(**options), 1.0, generator))
    state = reference.initialize_state(1.0)
    torch.manual_seed(NOISE_SEED)
    for step in STEPS:
        info, gradients = seen(ours[0], step, cameras, **rendering)
        for made in (ours, theirs):
            optimise(made, gradients)
        strategy.after_step(step, *ours, [info], 0.0)
        reference.step_post_backward(*theirs, state, step, info, packed=rendering.get("packed", False))
        assert len(ours[0]["means"]) == len(theirs[0]["means"]), f"step {step}"
    assert min(reference.duplicated, reference.split) > 50
    assert reference.pruned > least_pruned
    assert_same(ours, theirs)


def test_a_reset_of_opacities_is_that_of_gsplat_when_called() -> None:
    """Its strategy never calls it: `step % reset_every == 0 & step > 0` is never true in 1.5.3."""
    ours, theirs = training(), training()
    chosen = StrategyOptions(reset_every=30, prune_opa=0.01)
    info, _ = seen(ours[0], 0, 2)
    DefaultStrategy(chosen, 1.0, torch.Generator(CUDA)).after_step(30, *ours, [info], 0.0)
    gsplat.strategy.ops.reset_opa(*theirs, {}, value=0.02)
    assert (ours[0]["opacities"] == math.log(0.02 / 0.98)).sum() > COUNT / 2
    assert_same(ours, theirs)


class Drawn:
    """Rows drawn evenly, whatever the weights: the same ones for both strategies."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(5)

    def __call__(self, weights: Tensor, count: int, replacement: bool = True) -> Tensor:
        return torch.randint(0, len(weights), (count,), generator=self.generator).to(weights.device)


@pytest.mark.parametrize("cap_max", [COUNT + 150, 10 * COUNT])
def test_relocation_and_growth_do_what_gsplat_s_do_with_the_same_rows(
    cap_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three refinements. Sizes to 0.2 %: gsplat's kernel sums equation 9 in single precision."""
    options = {"cap_max": cap_max, "refine_start_iter": 0, "refine_every": 1, "noise_lr": 0.0, "min_opacity": 0.05}
    monkeypatch.setattr(gsplat.strategy.ops, "_multinomial_sample", Drawn())
    ours, theirs = training(), training()
    strategy = McmcStrategy(StrategyOptions(kind="mcmc", **options), torch.Generator(CUDA))
    monkeypatch.setattr(strategy, "_drawn", Drawn())
    reference = GsplatMcmc(**options)
    state = reference.initialize_state()
    moved = torch.zeros(cap_max, dtype=torch.bool, device=CUDA)
    for step in (1, 2, 3):
        dead = torch.where(torch.sigmoid(ours[0]["opacities"]) <= options["min_opacity"])[0]
        moved[dead] = True
        strategy.after_step(step, *ours, [], 0.0)
        reference.step_post_backward(*theirs, state, step, {}, lr=0.0)
        assert len(ours[0]["means"]) == len(theirs[0]["means"])
    count = len(ours[0]["means"])
    assert count == min(cap_max, int(1.05 * int(1.05 * int(1.05 * COUNT))))
    moved = moved[:count]
    assert 100 < int(moved.sum()) < count / 2
    for name, expected in theirs[0].items():
        torch.testing.assert_close(ours[0][name].detach(), expected.detach(), rtol=1e-4, atol=2e-3)
        for key in ("exp_avg", "exp_avg_sq"):
            found, other = ours[1][name].state[ours[0][name]][key], theirs[1][name].state[expected][key]
            assert torch.equal(found[~moved], other[~moved])
            assert not found[moved].any()  # ours alone: what is moved starts without momentum


def test_copies_share_opacity_and_size_as_in_gsplat_s_kernel() -> None:
    generator = torch.Generator().manual_seed(0)
    opacity = torch.rand(1000, generator=generator).clamp(0.005, 0.999)
    copies = torch.randint(1, 30, (1000,), generator=generator)
    table = torch.tensor([[math.comb(n, k) for k in range(51)] for n in range(51)], dtype=torch.float32)
    theirs = compute_relocation(opacity.to(CUDA), torch.ones((1000, 3), device=CUDA), copies.to(CUDA), table.to(CUDA))
    ours = shared_look(opacity, copies)
    torch.testing.assert_close(ours[0], theirs[0].cpu(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours[1], theirs[1][:, 0].cpu(), rtol=2e-3, atol=1e-5)


def test_noise_has_the_spread_of_gsplat_s() -> None:
    count = 100_000
    shape = {
        "means": torch.zeros((count, 3)),
        "scales": torch.tensor([0.5, 1.0, 0.2]).log().repeat(count, 1),
        "quats": torch.tensor([0.4, -0.2, 0.8, 0.3]).repeat(count, 1),
        "opacities": torch.logit(torch.tensor(0.01)).repeat(count),
    }
    ours = {name: value.clone().to(CUDA) for name, value in shape.items()}
    chosen = StrategyOptions(kind="mcmc", cap_max=count, noise_lr=10.0)
    McmcStrategy(chosen, torch.Generator(CUDA).manual_seed(1)).after_step(1, ours, {}, [], 0.2)
    theirs = {name: value.clone().to(CUDA) for name, value in shape.items()}
    gsplat.strategy.ops.inject_noise_to_position(params=theirs, optimizers={}, state={}, scaler=2.0)
    spread = [torch.cov(parameters["means"].T).cpu() for parameters in (ours, theirs)]
    torch.testing.assert_close(spread[0], spread[1], rtol=0.05, atol=2e-3)
