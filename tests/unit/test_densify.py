"""Densification against gsplat's own DefaultStrategy, which is plain torch; the reset, which it lacks, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gsplat.strategy import DefaultStrategy as GsplatStrategy
from gsplat.strategy.ops import reset_opa

from splatdag.splats.densify import DefaultStrategy
from splatdag.splats.gaussians import rotation_matrices
from splatdag.splats.options import StrategyOptions

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
CASES = [
    pytest.param(1.0, {}, id="plain"),
    pytest.param(3.0, {}, id="larger scene"),
    pytest.param(1.0, {"revised_opacity": True}, id="revised opacity"),
    pytest.param(1.0, {"absgrad": True}, id="absolute gradients"),
    pytest.param(1.0, {"prune_opa": 0.3}, id="much pruned"),
    pytest.param(1.0, {"grow_scale3d": 1e-9}, id="split only"),
    pytest.param(1.0, {"grow_scale3d": 1e9}, id="duplicate only"),
    pytest.param(1.0, {"grow_grad2d": 1.0}, id="nothing grows"),
    pytest.param(1.0, {"prune_opa": 0.0, "grow_grad2d": 1.0}, id="nothing changes"),
    pytest.param(0.5, {"reset_every": 3, "prune_scale3d": 0.05}, id="large ones pruned"),
]


ON_SCREEN = [
    pytest.param({"refine_scale2d_stop_iter": 9, "grow_scale2d": 0.05}, id="large on screen split"),
    pytest.param(
        {"refine_scale2d_stop_iter": 9, "reset_every": 3, "prune_scale2d": 0.04, "grow_scale2d": 1.0},
        id="large on screen pruned",
    ),
    pytest.param({"refine_scale2d_stop_iter": 5, "grow_scale2d": 0.01}, id="size on screen no more looked at"),
    pytest.param({"refine_scale2d_stop_iter": 9, "grow_scale2d": 0.02, "grow_scale3d": 1e9}, id="split and duplicated"),
]


@pytest.mark.parametrize("options", ON_SCREEN)
def test_size_on_screen_counts_as_in_gsplat(options: dict[str, Any]) -> None:
    """One camera a step: of several, gsplat takes the size in any one of them, we take the largest."""
    settings, steps = {**LOW, **options}, [4, 5]
    theirs = run_gsplat(training(), steps, cameras=1, **settings)
    assert_same(run_ours(training(), steps, cameras=1, **settings), theirs)


def test_of_several_cameras_the_largest_size_on_screen_counts() -> None:
    settings = {**LOW, "grow_grad2d": 1.0, "prune_opa": 0.0, "refine_scale2d_stop_iter": 9, "grow_scale2d": 0.05}
    info = rendered(N, seed=5)
    visible = (info["radii"] > 0).all(dim=-1)
    large = ((info["radii"].amax(dim=-1) > 0.05 * 64) & visible).any(dim=0)
    made = training()
    strategy(**settings).after_step(5, *made, [info], 0.0)
    assert len(made[0]["means"]) == N + int(large.sum())


def test_batches_of_several_sizes_count_as_their_views_do() -> None:
    """A Gaussian seen in one batch of one view and in another of two: three views, and the mean over them."""
    one, two = rendered(N, seed=1, cameras=1), rendered(N, seed=2, cameras=2)
    ours = strategy(**LOW)
    ours.after_step(4, *training(), [one, two], 0.0)
    expected = torch.zeros(N)
    for info in (one, two):
        visible = (info["radii"] > 0).all(dim=-1)
        expected += ((info["means2d"].grad * torch.tensor([32.0, 24.0]) * 3).norm(dim=-1) * visible).sum(dim=0)
    torch.testing.assert_close(ours.gradient_N, expected)


@pytest.mark.parametrize(("scene_scale", "options"), CASES)
def test_one_refinement_does_what_gsplat_does(scene_scale: float, options: dict[str, Any]) -> None:
    settings = {**LOW, **options}
    steps = [4, 5]
    assert_same(
        run_ours(training(), steps, scene_scale, **settings), run_gsplat(training(), steps, scene_scale, **settings)
    )


def test_the_usual_case_duplicates_splits_and_prunes() -> None:
    """The comparison above would mean little if nothing happened in it."""
    options = GsplatStrategy(**LOW)
    state = options.initialize_state(1.0)
    parameters, optimizers = training()
    for step in (4, 5):
        options._update_state(parameters, state, rendered(N, seed=step))
    duplicated, split = options._grow_gs(parameters, optimizers, state, 5)
    assert duplicated > 20
    assert split > 20
    assert options._prune_gs(parameters, optimizers, state, 5) > 20


def test_many_refinements_in_a_row_do_what_gsplat_does() -> None:
    steps = list(range(1, 31))
    settings = {**LOW, "pause_refine_after_reset": 3, "refine_stop_iter": 27}
    ours, theirs = run_ours(training(), steps, **settings), run_gsplat(training(), steps, **settings)
    assert len(ours[0]["means"]) != N
    assert_same(ours, theirs)
    for made in (ours, theirs):
        generator = torch.Generator().manual_seed(5)
        for name, value in made[0].items():
            value.grad = torch.randn(value.shape, generator=generator)
            made[1][name].step()
    assert_same(ours, theirs)


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


@pytest.mark.parametrize("revised", [False, True])
def test_two_children_scatter_as_their_parent_and_are_smaller(revised: bool) -> None:
    """4,000 equal Gaussians, all split: moments of the children's positions against the parent's covariance."""
    count, scales, quat = 4000, torch.tensor([0.5, 0.2, 0.05]), torch.tensor([2.0, 0.6, -0.8, 1.0])
    parameters, optimizers = training(count)
    with torch.no_grad():
        parameters["means"].copy_(torch.tensor([1.0, 2.0, 3.0]).expand(count, 3))
        parameters["scales"].copy_(scales.log().expand(count, 3))
        parameters["quats"].copy_(quat.expand(count, 4))
        parameters["opacities"].fill_(math.log(0.7 / 0.3))
    run_ours((parameters, optimizers), [5], **{**LOW, "grow_grad2d": -0.0, "prune_opa": 0, "revised_opacity": revised})
    children = parameters["means"][count - 2 * (len(parameters["means"]) - count) :].detach().double().numpy()
    assert len(children) > 2000
    w, x, y, z = (quat / quat.norm()).double().tolist()
    axis = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + 2 * w * axis + 2 * axis @ axis
    covariance = rotation @ np.diag(scales.double().numpy() ** 2) @ rotation.T
    tolerance = 5 / math.sqrt(len(children))
    np.testing.assert_allclose(children.mean(axis=0), [1, 2, 3], atol=tolerance * 0.5)
    np.testing.assert_allclose(np.cov(children.T), covariance, atol=1.5 * tolerance * 0.25)
    tail = slice(-len(children), None)
    np.testing.assert_allclose(parameters["scales"][tail].exp().detach(), (scales / 1.6).expand(len(children), 3))
    opacity = torch.sigmoid(parameters["opacities"][tail]).detach().numpy()
    np.testing.assert_allclose(opacity, 1 - math.sqrt(1 - 0.7) if revised else 0.7, rtol=1e-5)


def test_rotation_matrices_equal_scipy_s() -> None:
    from scipy.spatial.transform import Rotation

    quats = torch.randn((50, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = Rotation.from_quat(quats[:, [1, 2, 3, 0]].numpy()).as_matrix()
    np.testing.assert_allclose(rotation_matrices(quats), expected, atol=1e-12)


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
