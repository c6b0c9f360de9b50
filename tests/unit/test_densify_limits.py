"""When nothing is refined, the reset, which gsplat lacks, caps, and a saved strategy."""

from __future__ import annotations

import math

import pytest
import torch
from gsplat.strategy import DefaultStrategy as GsplatStrategy
from gsplat.strategy.ops import reset_opa
from support.refinements import LOW, NOISE_SEED, N, assert_same, rendered, run_ours, strategy, training

from splatdag.splats.strategies.densify import DefaultStrategy
from splatdag.splats.strategies.options import StrategyOptions


@pytest.mark.parametrize("step", [0, 5, 10, 12])
def test_nothing_is_refined_at_the_first_steps_or_between(step: int) -> None:
    """refine_start_iter itself is too early, as in gsplat."""
    settings = {**LOW, "refine_start_iter": 10}
    parameters, optimizers = training()
    before = {name: value.detach().clone() for name, value in parameters.items()}
    run_ours((parameters, optimizers), [step], **settings)
    assert all(torch.equal(parameters[name], value) for name, value in before.items())


@pytest.mark.parametrize("step", [20, 25, 1000])
def test_nothing_happens_from_the_last_refinement_on(step: int) -> None:
    """Not even a reset of the opacities (step 1000)."""
    parameters, optimizers = training()
    before = dict(parameters)
    values = {name: value.detach().clone() for name, value in parameters.items()}
    run_ours((parameters, optimizers), [step], **{**LOW, "refine_stop_iter": 20})
    assert all(parameters[name] is value for name, value in before.items())
    assert all(torch.equal(parameters[name], value) for name, value in values.items())


@pytest.mark.parametrize(("step", "pruned"), [(25, False), (30, False), (35, True)])
def test_large_gaussians_are_pruned_only_after_the_first_reset(step: int, pruned: bool) -> None:
    settings = {**LOW, "grow_grad2d": 1.0, "prune_opa": 0.0, "reset_every": 30, "prune_scale3d": 0.05}
    parameters, optimizers = training()
    large = int((parameters["scales"].exp().amax(dim=1) > 0.05).sum())
    assert large > 5
    run_ours((parameters, optimizers), [step], **settings)
    assert len(parameters["means"]) == N - large * pruned


def test_no_refinement_happens_in_the_pause_after_a_reset() -> None:
    settings = {**LOW, "reset_every": 20, "pause_refine_after_reset": 6}
    for step, changed in ((20, False), (25, False), (30, True)):
        parameters, optimizers = training()
        run_ours((parameters, optimizers), [step], **settings)
        assert (len(parameters["means"]) != N) == changed


def test_a_reset_clamps_opacities_and_forgets_only_their_momentum() -> None:
    parameters, optimizers = training()
    before = {name: value.detach().clone() for name, value in parameters.items()}
    moments = {name: optimizers[name].state[value]["exp_avg"].clone() for name, value in parameters.items()}
    run_ours((parameters, optimizers), [30], **{**LOW, "refine_every": 1000, "reset_every": 30, "prune_opa": 0.01})
    ceiling = math.log(0.02 / 0.98)
    expected = before["opacities"].clamp(max=ceiling)
    assert (before["opacities"] > ceiling).any()
    assert (before["opacities"] < ceiling).any()
    torch.testing.assert_close(parameters["opacities"].detach(), expected, rtol=1e-6, atol=0)
    for name, value in parameters.items():
        state = optimizers[name].state[value]
        if name == "opacities":
            assert (state["exp_avg"] == 0).all()
            assert (state["exp_avg_sq"] == 0).all()
        else:
            assert torch.equal(value, before[name])
            assert torch.equal(state["exp_avg"], moments[name])
            assert (state["exp_avg_sq"] > 0).any()


def test_a_reset_does_what_gsplat_s_does_when_called() -> None:
    """Its strategy never calls it: `step % reset_every == 0 & step > 0` is never true in 1.5.3."""
    ours, theirs = training(), training()
    run_ours(ours, [30], **{**LOW, "refine_every": 1000, "reset_every": 30, "prune_opa": 0.01})
    reset_opa(*theirs, {}, value=0.02)
    assert_same(ours, theirs)


@pytest.mark.parametrize("prune_opa", [0.0, 0.5, 0.9])
def test_without_a_ceiling_between_zero_and_one_opacities_are_not_reset(prune_opa: float) -> None:
    parameters, optimizers = training()
    before = parameters["opacities"].detach().clone()
    run_ours((parameters, optimizers), [30], **{**LOW, "refine_every": 1000, "reset_every": 30, "prune_opa": prune_opa})
    assert torch.equal(parameters["opacities"], before)


def test_there_is_no_reset_at_step_zero() -> None:
    parameters, optimizers = training()
    before = parameters["opacities"].detach().clone()
    run_ours((parameters, optimizers), [0], **LOW)
    assert torch.equal(parameters["opacities"], before)


@pytest.mark.parametrize("room", [0, 1, 7, 40])
def test_under_a_cap_the_largest_gradients_grow(room: int) -> None:
    """Against gsplat, given only the largest gradients."""
    settings = {**LOW, "prune_opa": 0.0}
    info = rendered(N, seed=5, cameras=1)
    visible = (info["radii"] > 0).all(dim=-1)[0]
    norms = (info["means2d"].grad[0] * torch.tensor([32.0, 24.0])).norm(dim=-1) * visible
    assert (norms > LOW["grow_grad2d"]).sum() > 40
    ours = training()
    strategy(**settings, cap_max=N + room).after_step(5, *ours, [info], 0.0)
    assert len(ours[0]["means"]) == N + room

    few = rendered(N, seed=5, cameras=1)
    few["means2d"].grad[0, norms.argsort(descending=True)[room:]] = 0
    theirs, reference = training(), GsplatStrategy(**settings)
    torch.manual_seed(NOISE_SEED)
    reference.step_post_backward(*theirs, reference.initialize_state(1.0), 5, few)
    assert_same(ours, theirs)


@pytest.mark.parametrize("cap", [N // 2, N, N + 13])
def test_a_cap_is_never_exceeded_by_growth(cap: int) -> None:
    parameters, optimizers = training()
    ours = strategy(**{**LOW, "grow_grad2d": 1e-6, "prune_opa": 0.001}, cap_max=cap)
    largest = 0
    for step in range(1, 60):
        ours.after_step(step, parameters, optimizers, [rendered(len(parameters["means"]), seed=step)], 0.0)
        largest = max(largest, len(parameters["means"]))
    assert largest <= max(cap, N)
    assert cap <= N or largest == cap


def test_a_saved_strategy_continues_as_if_never_stopped() -> None:
    whole = run_ours(training(), list(range(1, 12)), **LOW)
    made, first = training(), strategy(**LOW)
    for step in range(1, 8):
        first.after_step(step, *made, [rendered(len(made[0]["means"]), seed=step)], 0.0)
    second = DefaultStrategy(StrategyOptions(**LOW), 1.0, torch.Generator().manual_seed(999))
    second.load(first.state())
    for step in range(8, 12):
        second.after_step(step, *made, [rendered(len(made[0]["means"]), seed=step)], 0.0)
    for name, value in whole[0].items():
        assert torch.equal(made[0][name], value)
