"""Densification against gsplat's own DefaultStrategy, which is plain torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from gsplat.strategy import DefaultStrategy as GsplatStrategy
from support.refinements import LOW, N, assert_same, rendered, run_gsplat, run_ours, strategy, training

from splatdag.splats.gaussians import rotation_matrices

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
