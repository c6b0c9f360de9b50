"""Motion from lidar alone: true velocities bring neighbouring frames together, and what stands still is known to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.flux4d import scene, street, tiny

from splatdag.driving.clips.clip_reader import Reader
from splatdag.driving.clips.clip_scene import ClipScene
from splatdag.driving.training.motion_losses import standing, stillness, sweep_loss
from splatdag.samples.street_truth import Truth


@pytest.fixture(scope="module")
def given() -> ClipScene:
    return scene(num_image_points=8000)


@pytest.fixture(scope="module")
def true(given: ClipScene) -> torch.Tensor:
    """[N, 1, 3] metres per clip time: exact velocities of the sample."""
    log, truth = Reader(street(), tiny()).log(given.clip), Truth.read(street(), "001")
    ego = log.ego_to_world[0]
    points = given.start.means.double().numpy() @ ego[:3, :3].T + ego[:3, 3]
    times = given.start.times.double().numpy() * given.clock.seconds + given.clock.begin
    things = truth.within(points, times)
    things[given.start.backdrop.numpy()] = -1
    found = truth.velocities(points, times, things) @ ego[:3, :3] * given.clock.seconds
    return torch.from_numpy(found[:, None].astype(np.float32))


def loss(given: ClipScene, velocities: torch.Tensor) -> float:
    """Over all pairs of frames."""
    upright = standing(given.start)
    return float(np.mean([sweep_loss(given.start, velocities, upright, np.random.default_rng(k)) for k in range(12)]))


def test_the_nearer_to_the_true_velocities_the_less(given: ClipScene, true: torch.Tensor) -> None:
    assert (true.norm(dim=2) > 1).float().mean() > 0.05
    values = [loss(given, share * true) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert np.all(np.diff(values) < 0)
    assert values[-1] < 0.8 * values[0]
    assert loss(given, 1.5 * true) > values[-1]


def test_its_gradient_points_along_the_true_velocities(given: ClipScene, true: torch.Tensor) -> None:
    velocities = torch.zeros_like(true).requires_grad_()
    upright = standing(given.start)
    for k in range(12):
        sweep_loss(given.start, velocities, upright, np.random.default_rng(k)).backward()
    assert velocities.grad is not None
    fast = true.norm(dim=2)[:, 0] > 5
    # Cars come and go in this street: each of both ways is looked at by itself.
    ways = torch.sign(true[fast, 0, 1])
    for way in (-1, 1):
        down = -velocities.grad[fast, 0][ways == way].sum(dim=0)
        assert torch.nn.functional.cosine_similarity(down, true[fast, 0][ways == way].sum(dim=0), dim=0) > 0.5


def test_the_ground_and_the_backdrop_do_not_stand_up(given: ClipScene) -> None:
    upright = standing(given.start)
    assert not upright[given.start.backdrop].any()
    ground = (given.start.means[:, 2].abs() < 0.1) & ~given.start.backdrop
    assert upright[ground].float().mean() < 0.1
    high = (given.start.means[:, 2] > 1) & ~given.start.backdrop
    assert upright[high].float().mean() > 0.5


def test_what_stands_still_is_there_in_the_other_frames_and_what_moves_is_not(
    given: ClipScene, true: torch.Tensor
) -> None:
    still = stillness(given.start)
    assert ((still >= 0) & (still <= 1)).all()
    assert not still[given.start.backdrop].any()
    speeds = true.norm(dim=2)[:, 0]
    upright = standing(given.start)
    near = given.start.means[:, :2].norm(dim=1) < 40
    assert still[(speeds == 0) & upright & near].mean() > 2 * still[(speeds > 5) & upright].mean()


def test_one_frame_alone_tells_nothing() -> None:
    given = scene()
    alone = given.start.each(lambda tensor: tensor[given.start.frames == 4])
    zero = torch.zeros(len(alone), 2, 3)
    assert sweep_loss(alone, zero, standing(alone), np.random.default_rng(0)) == 0
    assert not stillness(alone).any()
