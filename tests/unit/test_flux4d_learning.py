"""What Flux4D learns from: which images, which loss, in which order, and that it never sees what it has to predict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.flux4d import clip, scene, street, tiny

from splatdag.driving.clips.clip_loader import Lesson, Loader, OnDevice
from splatdag.driving.clips.clip_reader import Reader
from splatdag.driving.clips.clip_scene import ClipScene, load_clip
from splatdag.driving.clips.clips import Clip
from splatdag.driving.clips.lift import lift
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.network.model import Flux4D, Moving
from splatdag.driving.training.losses import clip_loss
from splatdag.driving.training.step import (
    chosen_views,
    feedback_of,
    initial_state,
    learning_rate,
    reconstruct,
    training_step,
)
from splatdag.workflow.errors import UserError

ALL = tuple(range(16))


def test_a_clip_has_the_views_of_its_input_and_target_frames_with_their_own_times() -> None:
    given = scene()
    assert [view.frame for view in given.views] == list(range(16))
    assert [view.frame for view in given.given] == [0, 2, 4, 6, 8, 10]
    times = [view.target.time for view in given.views]
    assert 0 < times[0] < 0.05  # the front camera looks half a sweep after the sweep's begin
    np.testing.assert_allclose(np.diff(times), 1 / 16, atol=1e-4)
    np.testing.assert_allclose([view.target.step for view in given.views], 1 / 16, atol=1e-4)


@pytest.mark.parametrize("after", [0.1, 0.0, float("nan"), float("inf")])
def test_a_frame_after_the_clip_counts_only_with_a_time(after: float) -> None:
    log = Log(street() / "001")
    times = log.cameras["front_camera"].times
    times[4] = times[3] + after
    short = replace(clip(), length=4, inputs=(0, 2), targets=(1, 3))
    given = load_clip(log, short, "front_camera", lambda log, frame: lift(log, frame, short.cameras), tiny())
    seconds = [view.target.step * given.clock.seconds for view in given.views]
    np.testing.assert_allclose(seconds, [0.1] * 4, atol=2e-3)


def test_depths_are_those_of_the_nearest_points_in_their_pixels() -> None:
    reader = Reader(street(), tiny())
    given, log = reader(clip()), reader.log(clip())
    view = given.views[3]
    points = log.sweep(3).of(0).points
    points = points[np.hypot(*(points - log.ego_to_world[3, :3, 3])[:, :2].T) >= 2.5]
    own = (points - log.ego_to_world[0, :3, 3]) @ log.ego_to_world[0, :3, :3]
    rotation, shift = view.target.viewmat[:3, :3].double().numpy(), view.target.viewmat[:3, 3].double().numpy()
    x, y, z = (own @ rotation.T + shift).T
    K = view.target.K.double().numpy()
    column, row = np.floor(K[0, 0] * x / z + K[0, 2]), np.floor(K[1, 1] * y / z + K[1, 2])
    inside = (z > 0.1) & (column >= 0) & (row >= 0) & (column < 96) & (row < 54)
    expected: dict[int, float] = {}
    for pixel, depth in zip((row * 96 + column)[inside].astype(int), z[inside], strict=True):
        expected[pixel] = min(expected.get(pixel, np.inf), depth)
    found = dict(zip(view.hits.tolist(), view.depths.tolist(), strict=True))
    shared = found.keys() & expected.keys()  # float32 poses move a point over the edge of its pixel now and then
    assert len(shared) > 0.97 * max(len(found), len(expected))
    assert np.mean([abs(found[pixel] - expected[pixel]) < 0.01 for pixel in shared]) > 0.97


def test_images_are_scaled_down_with_their_cameras() -> None:
    large, small = scene(), scene(data_factor=2)
    assert small.size == (48, 27)
    torch.testing.assert_close(small.views[0].target.K[:2] * 2, large.views[0].target.K[:2])
    halves = large.views[0].image.float().reshape(27, 2, 48, 2, 3).mean(dim=(1, 3))
    assert (small.views[0].image.float() - halves).abs().max() <= 1


@pytest.mark.parametrize(
    ("frames", "count", "given", "predicted"),
    [(ALL, 4, 1, 3), (ALL, 1, 0, 1), ((0, 2), 4, 2, 0), ((1,), 4, 0, 1), ((0, 1), 4, 1, 1)],
)
def test_of_several_images_one_is_of_an_input_frame(
    frames: tuple[int, ...], count: int, given: int, predicted: int
) -> None:
    for seed in range(5):
        views = chosen_views(scene(), frames, count, np.random.default_rng(seed))
        assert len({view.frame for view in views}) == len(views)
        assert [sum(view.given for view in views), sum(not view.given for view in views)] == [given, predicted]


def test_a_frame_without_an_image_is_named() -> None:
    with pytest.raises(UserError, match="no image of frame 77"):
        chosen_views(scene(), (77,), 1, np.random.default_rng(0))


def test_an_untrained_network_returns_what_it_was_given() -> None:
    given, options = scene(), tiny()
    model = Flux4D(options)
    found, first = reconstruct(model, given, options), initial_state(model, given)
    torch.testing.assert_close(found.gaussians.means, first.gaussians.means)
    assert not found.velocities.any()


def test_no_step_sees_the_images_that_are_to_be_predicted() -> None:
    """Networks that are not zero: other targets change nothing of what a clip becomes, another input does."""
    given, options = scene(), tiny()
    torch.manual_seed(3)
    model = Flux4D(options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)

    def inverted(frames: set[int]) -> ClipScene:
        views = [replace(view, image=255 - view.image) if view.frame in frames else view for view in given.views]
        return replace(given, views=views)

    found = reconstruct(model, given, options).gaussians.colors
    targets = {view.frame for view in given.predicted}
    assert torch.equal(reconstruct(model, inverted(targets), options).gaussians.colors, found)
    assert not torch.equal(reconstruct(model, inverted({4}), options).gaussians.colors, found)
    with pytest.raises(AssertionError):
        feedback_of(given.views, given.size, options)


def moving(given: ClipScene, speed: float) -> Moving:
    velocities = torch.zeros(len(given.start), 1, 3)
    velocities[~given.start.backdrop, 0, 0] = speed
    return Moving(given.start, velocities)


def test_holes_count_as_much_as_all_else_and_what_moves_counts_more() -> None:
    given = scene(num_sky_points=0, num_image_points=0)  # lidar points alone leave most of the image empty
    options = tiny(projected_depth=False, velocity_lambda=0.0)
    loss, drawn, weights = clip_loss(moving(given, 0.0), given.views[:2], given.size, options)
    assert (drawn.alpha < 0.01).any()
    assert (weights == 1).all()
    _, drawn, weights = clip_loss(moving(given, 30.0), given.views[:2], given.size, options)
    assert weights.min() >= 1
    assert (weights[drawn.alpha < 1e-6] == 1).all()
    assert weights.max() > 1.5
    plain = tiny(projected_depth=False, velocity_lambda=0.0, velocity_reweighting=False)
    assert clip_loss(moving(given, 0.0), given.views[:2], given.size, plain)[0] == loss
    fast = moving(given, 30.0)
    assert (
        clip_loss(fast, given.views[:2], given.size, plain)[0]
        < clip_loss(fast, given.views[:2], given.size, options)[0]
    )


def test_each_term_of_the_loss_is_added_with_its_weight() -> None:
    given = scene()
    bare = {"projected_depth": False, "velocity_lambda": 0.0, "velocity_reweighting": False}
    views, fast = given.views[:2], moving(given, 4.0)

    def value(**changes: object) -> tuple[torch.Tensor, object]:
        loss, drawn, _ = clip_loss(fast, views, given.size, tiny(**bare | changes))
        return loss, drawn

    plain, drawn = value()
    torch.testing.assert_close(value(velocity_lambda=0.01)[0] - plain, torch.tensor(0.04), atol=1e-5, rtol=1e-4)
    errors = torch.cat([(drawn.depth[k].flatten()[view.hits] - view.depths).abs() for k, view in enumerate(views)])
    deep = value(projected_depth=True, depth_lambda=0.02)[0]
    torch.testing.assert_close(deep - plain, 0.02 * errors.mean(), atol=1e-5, rtol=1e-4)


def test_the_learning_rate_rises_then_falls_to_its_last_part() -> None:
    options = tiny(iters=1000, lr=1.0, warmup_iters=50, final_lr_factor=0.01)
    rates = [learning_rate(step, options) for step in range(1000)]
    assert rates[0] < 0.05
    assert max(rates) == rates[50] == 1.0
    assert np.all(np.diff(rates[:51]) > 0)
    assert np.all(np.diff(rates[50:]) < 0)
    assert rates[-1] == pytest.approx(0.01, rel=0.01)


def test_a_step_learns_from_the_velocities_too() -> None:
    given, options = scene(), tiny()
    model = Flux4D(options)
    loss, *_ = training_step(model, OnDevice(model, torch.device("cpu")).of(Lesson.of(given)), 0, options, ALL)
    loss.backward()
    head = model.base.head.weight.grad
    assert head is not None
    assert head[14:].abs().max() > 0
    assert model.refining is not None
    assert model.refining.head.weight.grad is not None


def loader(clips: list[Clip], bad: set[str] = frozenset(), strict: bool = False, keep: int = 1) -> Loader:  # type: ignore[assignment]
    def load(clip: Clip) -> Lesson:
        if clip.clip_id in bad:
            raise UserError(f"{clip.clip_id} is broken")
        return clip  # type: ignore[return-value]

    return Loader(clips, load, seed=1, keep=keep, strict=strict)


def clips(count: int) -> list[Clip]:
    return [replace(clip(), clip_id=f"clip{number}") for number in range(count)]


def names(given: Loader, slots: range) -> list[str]:
    return [given.take(slot, slots.step).clip_id for slot in slots]  # type: ignore[attr-defined]


def test_every_clip_comes_once_before_any_comes_again() -> None:
    given = loader(clips(7))
    order = names(given, range(21))
    for begin in (0, 7, 14):
        assert len(set(order[begin : begin + 7])) == 7
    assert order[:7] != order[7:14]
    assert names(loader(clips(7)), range(21)) == order


def test_ranks_share_one_order() -> None:
    order = names(loader(clips(6)), range(12))
    assert names(loader(clips(6)), range(0, 12, 2)) == order[0::2]
    assert names(loader(clips(6)), range(1, 12, 2)) == order[1::2]


def test_a_broken_clip_is_left_out_and_named_or_stops() -> None:
    given = loader(clips(3), bad={"clip1"})
    assert "clip1" not in names(given, range(9))
    assert given.left_out == {"clip1": "clip1 is broken"}
    with pytest.raises(UserError, match="clip1 is broken"):
        names(loader(clips(3), bad={"clip1"}, strict=True), range(3))
    with pytest.raises(UserError, match="none of 2 clips can be read; clip. is broken"):
        names(loader(clips(2), bad={"clip0", "clip1"}), range(1))


def test_only_so_many_clips_stay_in_memory() -> None:
    given = loader(clips(40), keep=3)
    names(given, range(40))
    assert len(given._read) <= 3 + 5


def test_images_of_two_sizes_are_named(tmp_path: Path) -> None:
    import shutil

    from PIL import Image

    shutil.copytree(street() / "001", tmp_path / "001")
    path = tmp_path / "001" / "camera" / "front_camera" / "05.jpg"
    Image.open(path).resize((50, 30)).save(path)
    with pytest.raises(UserError, match=r"images of front_camera are of 50×30 and 96×54 pixels"):
        Reader(tmp_path, tiny())(clip())
