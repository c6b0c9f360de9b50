"""Points in voxels, and Flux4D's network on them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from splatdag.driving.gaussians import LARGEST_SCALE, Gaussians
from splatdag.driving.network.model import NUMBERS, Flux4D, numbers, with_numbers
from splatdag.driving.network.voxels import Grid, voxelised
from splatdag.driving.network_options import ModelOptions
from splatdag.driving.rendering.rendering import Target, draw

SMALL = {"channels": (4, 6), "blocks": 1, "features": 8, "point_cloud_range": (-4, -4, -2, 4, 4, 2), "voxel_size": 1.0}


def gaussians(count: int = 40, backdrop: int = 10) -> Gaussians:
    """In front of a camera that looks along y; the last ones are of the backdrop."""
    generator = torch.Generator().manual_seed(count)
    means = torch.rand((count, 3), generator=generator) * torch.tensor([6.0, 3.0, 3.0]) - torch.tensor([3.0, 0.0, 1.5])
    far = torch.arange(count) >= count - backdrop
    means[far] *= 100
    return Gaussians(
        means,
        torch.nn.functional.normalize(torch.randn((count, 4), generator=generator), dim=1),
        torch.where(far[:, None], 20.0, -1.5).repeat(1, 3),
        torch.zeros(count),
        torch.randn((count, 3), generator=generator),
        torch.rand(count, generator=generator),
        far,
        torch.where(far, -1, 0).to(torch.int16),
    )


def target(time: float) -> Target:
    """A camera at the back, z up: right is x, down is -z, forward is y."""
    viewmat = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 4], [0, 0, 0, 1]])
    return Target("front", time, viewmat, torch.tensor([[30.0, 0, 20], [0, 30, 12], [0, 0, 1]]), 0.1)


def test_points_are_counted_where_they_lie():
    points = torch.tensor(
        [[0.1, 0.1, 0.1], [0.9, 0.2, 0.3], [-0.1, 0.1, 0.1], [3.9, 3.9, 1.9], [4.1, 0, 0], [0, 0, -2.1]]
    )
    grid = Grid.of(SMALL["point_cloud_range"], SMALL["voxel_size"])
    assert grid.shape == (8, 8, 4)
    voxels = voxelised(points, grid, 2)
    assert voxels.rows.tolist() == [0, 1, 2, 3]
    assert len(voxels.pyramid[0].coordinates) == 3
    assert voxels.pyramid[0].coordinates[voxels.of_rows].tolist() == [[4, 4, 2], [4, 4, 2], [3, 4, 2], [7, 7, 3]]
    features = torch.arange(12.0).reshape(6, 2)
    back = voxels.spread(voxels.mean(features), 6)
    assert back.tolist() == [[1, 2], [1, 2], [4, 5], [6, 7], [0, 0], [0, 0]]


@pytest.mark.parametrize("iterations", [1, 3])
def test_an_untrained_network_returns_what_it_was_given(iterations):
    given = gaussians()
    net = Flux4D(ModelOptions(**SMALL, iterations=iterations))
    results = net(given, lambda moving: torch.randn((len(given), NUMBERS)))
    assert len(results) == iterations
    for result in results:
        torch.testing.assert_close(numbers(result.gaussians), numbers(given))
        assert not result.velocities.any()


def test_every_weight_is_reached_by_the_loss_and_the_backdrop_stays_and_does_not_move():
    given = gaussians()
    net = Flux4D(ModelOptions(**SMALL, iterations=2))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    result = net(given, lambda moving: numbers(moving.gaussians) ** 2)[-1]
    drawn = draw(result.gaussians, result.velocities, [target(0.2), target(0.8)], 40, 24)
    (drawn.rgb.square().sum() + drawn.flow.square().sum() + drawn.depth.sum()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert all(net.get_parameter(name).grad.any() for name in ("base.head.weight", "refining.head.weight"))
    far = given.backdrop
    assert torch.equal(result.gaussians.means[far], given.means[far])
    assert not result.velocities[far].any()
    assert result.velocities[~far].any()
    shift = (result.gaussians.means - given.means).abs().max()
    assert 0 < shift < 2 * SMALL["voxel_size"]


@pytest.mark.filterwarnings("ignore:var_mean")
@pytest.mark.parametrize("inside", [0, 1])
def test_a_clip_with_hardly_a_point_in_the_grid_has_finite_gradients(inside):
    given = gaussians()
    away = torch.arange(len(given)) >= inside
    given = replace(given, means=given.means + 1000 * away[:, None])
    net = Flux4D(ModelOptions(**SMALL, iterations=2))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    assert len(net.voxels(given).rows) == inside
    (_, last) = net(given, lambda moving: torch.randn((len(given), NUMBERS)))
    (numbers(last.gaussians).square().sum() + last.velocities.square().sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_scales_have_a_bound_but_those_of_the_backdrop():
    given = gaussians().each(lambda tensor: tensor)
    _, scales, _, _ = with_numbers(given, numbers(given) + 10).activated()
    assert scales[~given.backdrop].max() == LARGEST_SCALE
    assert scales[given.backdrop].min() > 20


def test_several_times_in_one_call_are_what_each_is_alone():
    given = gaussians()
    velocities = torch.randn((40, 2, 3), generator=torch.Generator().manual_seed(1)).masked_fill(
        given.backdrop[:, None, None], 0
    )
    targets = [target(0.1), target(0.9)]
    both = draw(given, velocities, targets, 40, 24)
    for number, one in enumerate(targets):
        alone = draw(given, velocities, [one], 40, 24)
        for name in ("rgb", "depth", "flow", "alpha"):
            assert torch.equal(getattr(both, name)[number], getattr(alone, name)[0]), name
    assert not torch.equal(both.rgb[0], both.rgb[1])


def test_depth_is_of_what_was_measured_and_a_world_that_stands_still_has_no_flow():
    given = gaussians()
    drawn = draw(given, torch.zeros((40, 1, 3)), [target(0.5)], 40, 24)
    assert 0 < drawn.depth.max() < 8
    assert not drawn.flow.any()
    assert drawn.alpha.min() >= 0
