"""Markov-chain Monte Carlo: eq. 9 as written, what moves and what is drawn, and noise of the right shape."""

from __future__ import annotations

import math
from typing import Any

import gsplat.strategy.mcmc
import gsplat.strategy.ops
import numpy as np
import pytest
import torch
from gsplat.strategy import MCMCStrategy
from support.refinements import training

from splatdag.splats.strategies.mcmc import McmcStrategy, shared_look
from splatdag.splats.strategies.options import StrategyOptions


def strategy(**options: float) -> McmcStrategy:
    settings = {"kind": "mcmc", "cap_max": 500, "refine_start_iter": 0, "refine_every": 5, "noise_lr": 0.0}
    return McmcStrategy(StrategyOptions(**{**settings, **options}), torch.Generator().manual_seed(3))


def both_sums(opacity: float, copies: int) -> tuple[float, float]:
    """Eq. 9 of the paper with its two sums, term by term."""
    new = 1 - (1 - opacity) ** (1 / copies)
    total = 0.0
    for i in range(1, copies + 1):
        for k in range(i):
            total += math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1)
    return new, opacity / total


@pytest.mark.parametrize("copies", [1, 2, 3, 10, 51])
@pytest.mark.parametrize("opacity", [0.006, 0.3, 0.95, 0.9999])
def test_copies_share_opacity_and_size_by_equation_nine(opacity: float, copies: int) -> None:
    new, factor = shared_look(torch.tensor([opacity]), torch.tensor([copies]))
    expected = both_sums(float(torch.tensor(opacity)), copies)
    assert float(new) == pytest.approx(expected[0], rel=1e-5)
    assert float(factor) == pytest.approx(expected[1], rel=1e-5)


def test_copies_together_are_as_opaque_as_the_one_was() -> None:
    new, _ = shared_look(torch.full((3,), 0.8), torch.tensor([1, 2, 7]))
    np.testing.assert_allclose(1 - (1 - new.numpy()) ** [1, 2, 7], 0.8, rtol=1e-6)


def test_dead_gaussians_go_where_living_ones_are_and_share_their_look() -> None:
    parameters, optimizers = training()
    before = {name: value.detach().clone() for name, value in parameters.items()}
    dead = torch.sigmoid(before["opacities"]) <= 0.3
    assert 40 < int(dead.sum()) < 300
    strategy(min_opacity=0.3, cap_max=400).after_step(5, parameters, optimizers, [], 0.0)
    means = parameters["means"].detach()
    assert torch.equal(means[~dead], before["means"][~dead])
    found = (means[dead][:, None] == before["means"][~dead][None]).all(dim=-1)
    assert (found.sum(dim=1) == 1).all()
    source = torch.where(~dead)[0][found.int().argmax(dim=1)]
    for row, other in zip(torch.where(dead)[0].tolist(), source.tolist(), strict=True):
        copies = int((source == other).sum()) + 1
        opacity, factor = both_sums(float(torch.sigmoid(before["opacities"][other])), copies)
        for index in (row, other):
            shown = float(torch.sigmoid(parameters["opacities"][index].detach()))
            assert shown == pytest.approx(max(opacity, 0.3), rel=1e-4)
            grown = (parameters["scales"][index] - before["scales"][other]).exp().detach().numpy()
            np.testing.assert_allclose(grown, factor, rtol=1e-4)
        state = optimizers["scales"].state[parameters["scales"]]
        assert not state["exp_avg"][[row, other]].any()
    untouched = sorted(set(range(400)) - set(source.tolist()) - set(torch.where(dead)[0].tolist()))
    assert optimizers["scales"].state[parameters["scales"]]["exp_avg"][untouched].all()


def test_living_ones_are_drawn_in_proportion_to_opacity() -> None:
    drawn = strategy()._drawn(torch.tensor([1.0, 0.0, 3.0, 4.0]), 20_000)
    shares = torch.bincount(drawn, minlength=4) / 20_000
    np.testing.assert_allclose(shares, [0.125, 0, 0.375, 0.5], atol=0.015)


@pytest.mark.parametrize(("cap", "expected"), [(1_000, 420), (410, 410), (100, 400)])
def test_growth_is_five_percent_up_to_the_cap(cap: int, expected: int) -> None:
    parameters, optimizers = training()
    strategy(cap_max=cap, min_opacity=0.0).after_step(5, parameters, optimizers, [], 0.0)
    assert {len(value) for value in parameters.values()} == {expected}
    for name, value in parameters.items():
        moments = optimizers[name].state[value]["exp_avg"]
        assert len(moments) == expected
        assert not moments[400:].any()


def test_nothing_happens_between_refinements_nor_after_the_last() -> None:
    for step in (4, 0, 25_000):
        parameters, optimizers = training()
        before = {name: value.detach().clone() for name, value in parameters.items()}
        strategy(refine_stop_iter=25_000).after_step(step, parameters, optimizers, [], 0.0)
        for name, value in before.items():
            assert torch.equal(parameters[name], value)


def test_refinements_do_what_gsplat_s_do_with_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """gsplat's strategy but for its CUDA kernels: eq. 9 as above, no noise; both draw the same rows, evenly."""

    def relocation(opacities: torch.Tensor, scales: torch.Tensor, ratios: torch.Tensor, binoms: torch.Tensor) -> Any:
        found = [both_sums(*pair) for pair in zip(opacities.tolist(), ratios.tolist(), strict=True)]
        new, factor = torch.tensor(found).unbind(dim=1)
        return new, scales * factor[:, None]

    def even(seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return lambda weights, count, **_: torch.randint(0, len(weights), (count,), generator=generator)

    monkeypatch.setattr(gsplat.strategy.ops, "compute_relocation", relocation)
    monkeypatch.setattr(gsplat.strategy.ops, "_multinomial_sample", even(5))
    monkeypatch.setattr(gsplat.strategy.mcmc, "inject_noise_to_position", lambda **_: None)
    settings = {"cap_max": 440, "refine_start_iter": 0, "refine_every": 5, "noise_lr": 0.0, "min_opacity": 0.1}
    ours, theirs = training(), training()
    chosen, reference = strategy(**settings), MCMCStrategy(**settings)
    monkeypatch.setattr(chosen, "_drawn", even(5))
    state = reference.initialize_state()
    for step in range(4, 16):
        chosen.after_step(step, *ours, [], 0.0)
        reference.step_post_backward(*theirs, state, step, {}, lr=0.0)
    assert len(theirs[0]["means"]) == 440
    for name, value in theirs[0].items():
        torch.testing.assert_close(ours[0][name].detach(), value.detach(), rtol=1e-4, atol=1e-4)


def test_noise_has_the_covariance_of_the_gaussian_squared_and_spares_opaque_ones() -> None:
    """Noise is Σ·n, so its covariance is Σ²; at the centre of the slope (opacity 0.005) half as strong."""
    count, scales = 40_000, torch.tensor([0.5, 1.0, 0.2])
    quat = torch.tensor([0.4, -0.2, 0.8, 0.3])
    opacities = torch.logit(torch.tensor([0.005, 0.9])).repeat(count)
    parameters = {
        "means": torch.zeros((2 * count, 3)),
        "scales": scales.log().repeat(2 * count, 1),
        "quats": quat.repeat(2 * count, 1),
        "opacities": opacities,
    }
    strategy(noise_lr=10.0).after_step(1, parameters, {}, [], 0.2)
    from scipy.spatial.transform import Rotation

    rotation = Rotation.from_quat(quat[[1, 2, 3, 0]].numpy()).as_matrix()
    sigma = rotation @ np.diag(scales.numpy() ** 2) @ rotation.T
    np.testing.assert_allclose(np.cov(parameters["means"][::2].T), sigma @ sigma, atol=0.03)
    assert parameters["means"][1::2].abs().max() < 1e-6


def test_a_saved_strategy_continues_as_if_never_stopped() -> None:
    whole, first = training(), strategy(noise_lr=10.0, min_opacity=0.2)
    for step in range(1, 12):
        first.after_step(step, *whole, [], 0.1)
    made, second = training(), strategy(noise_lr=10.0, min_opacity=0.2)
    for step in range(1, 8):
        second.after_step(step, *made, [], 0.1)
    third = strategy(noise_lr=10.0, min_opacity=0.2)
    third.load(second.state())
    for step in range(8, 12):
        third.after_step(step, *made, [], 0.1)
    for name, value in whole[0].items():
        assert torch.equal(made[0][name], value)


def test_when_all_are_dead_nothing_is_moved() -> None:
    parameters, optimizers = training()
    before = parameters["means"].detach().clone()
    strategy(min_opacity=0.9999999, cap_max=400).after_step(5, parameters, optimizers, [], 0.0)
    assert torch.equal(parameters["means"], before)
