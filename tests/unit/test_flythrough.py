"""Fly-throughs: paths that a viewer would want to follow, from any cameras."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.scenes import look_at

from splatdag.samples.room import AIM, walk
from splatdag.scene.flythrough import camera_path

KINDS = ("interp", "ellipse", "spiral", "raw")
ROOM = np.array([photo.world_to_camera for photo in walk(36, seed=0)])
"""Two passes, at 1.20 and 1.65 m, around a table; metres, the world's z points up."""


def eyes(poses):
    return np.array([-pose[:3, :3].T @ pose[:3, 3] for pose in poses])


def steps(poses):
    """Distance and turn (radians) from each pose to the next."""
    turns = Rotation.from_matrix(poses[1:, :3, :3] @ poses[:-1, :3, :3].transpose(0, 2, 1)).magnitude()
    return np.linalg.norm(np.diff(eyes(poses), axis=0), axis=1), turns


def posed(positions, rotation=None):
    """Cameras at positions [V, 3], all turned alike."""
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, :3] = np.eye(3) if rotation is None else rotation
    poses[:, :3, 3] = -np.asarray(positions, dtype=float) @ poses[0, :3, :3].T
    return poses


def miss(poses, point):
    """How far off the middle of the picture a point is, in radians."""
    in_camera = poses[:, :3, :3] @ point + poses[:, :3, 3]
    return np.arctan2(np.hypot(*in_camera[:, :2].T), in_camera[:, 2])


def assert_rigid(poses):
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-9
    )
    assert (np.linalg.det(rotations) > 0).all()
    np.testing.assert_array_equal(poses[:, 3], np.tile([0, 0, 0, 1.0], (len(poses), 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_video_is_as_long_as_asked_however_many_cameras_there_are(kind):
    for cameras in (2, 3, 11, 36):
        path = camera_path(ROOM[:cameras], kind, seconds=2, fps=24)
        assert 48 - cameras < len(path) <= 48
        assert_rigid(path)
    assert len(camera_path(ROOM, "interp")) == 120
    assert len(camera_path(ROOM, kind, seconds=0.5, fps=20)) == 10


def test_interp_passes_every_camera_and_looks_as_it_does():
    path = camera_path(ROOM, "interp", seconds=20)
    for pose in ROOM:
        distance = np.linalg.norm(eyes(path) - eyes([pose]), axis=1)
        turn = Rotation.from_matrix(path[:, :3, :3] @ pose[:3, :3].T).magnitude()
        assert np.hypot(distance / 1.7, turn).min() < 0.15, "1.7 m are the distance to the table"
    np.testing.assert_allclose(path[0], ROOM[0], atol=1e-6)
    np.testing.assert_allclose(path[-1], ROOM[-1], atol=1e-6)


def test_interp_moves_evenly_and_without_a_shake():
    path = camera_path(ROOM, "interp")
    distance, turn = steps(path)
    moved = np.hypot(distance / 1.7, turn)
    assert moved.max() < 1.15 * moved.min()
    given = np.diff(eyes(ROOM)[:18], axis=0)
    angles = np.arccos((unit(given)[1:] * unit(given)[:-1]).sum(axis=1))
    velocity = unit(np.diff(eyes(path)[:58], axis=0))
    bends = np.arccos((velocity[1:] * velocity[:-1]).sum(axis=1).clip(-1, 1))
    assert angles.max() > np.radians(20)
    assert bends.max() < np.radians(8)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_interp_keeps_the_order_of_a_walk_and_orders_what_is_none():
    centres = eyes(ROOM)[:18]
    given = camera_path(ROOM[:18], "interp")
    shuffled = camera_path(ROOM[np.random.default_rng(1).permutation(18)], "interp")
    same = shuffled if np.allclose(shuffled[0], given[0], atol=1e-6) else shuffled[::-1]
    np.testing.assert_allclose(same, given, atol=1e-5)
    np.testing.assert_allclose(given[0], ROOM[0], atol=1e-6)
    walked = np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()
    assert steps(shuffled)[0].sum() < walked


def test_interp_of_two_shuffled_passes_does_not_jump_across_the_room():
    for seed in range(5):
        path = camera_path(ROOM[np.random.default_rng(seed).permutation(36)], "interp")
        walked = np.linalg.norm(np.diff(eyes(ROOM), axis=0), axis=1).sum()
        assert steps(path)[0].sum() < 1.3 * walked
        assert np.linalg.norm(eyes(path)[:, :2], axis=1).min() > 1.2, "the table is never crossed"


def test_interp_does_not_overshoot_collinear_cameras_with_uneven_gaps():
    path = camera_path(posed([[0, 0, 0], [0.1, 0, 0], [5, 0, 0], [5.1, 0, 0], [5.2, 0, 0]]), "interp")
    x, y, z = eyes(path).T
    assert x.min() > -1e-9
    assert x.max() < 5.2 + 1e-9
    assert (np.diff(x) > 0).all()
    assert np.abs([y, z]).max() < 1e-9


def test_interp_does_not_swing_out_at_a_corner():
    corner = [[0, 0, 0], [1, 0, 0], [4, 0, 0], [4, 1, 0], [4, 4, 0]]
    x, y, _ = eyes(camera_path(posed(corner), "interp")).T
    assert x.max() < 4 + 1e-6
    assert y.min() > -1e-6


def test_interp_through_two_cameras_is_the_straight_line_and_the_shortest_turn():
    end = look_at(np.array([2.0, 0.0, -3.0]))
    start = look_at(np.array([-2.0, 0.0, -3.0]))
    path = camera_path([start, end], "interp", seconds=1, fps=11)
    distance, turn = steps(path)
    np.testing.assert_allclose(distance, 0.4, rtol=1e-3)
    np.testing.assert_allclose(turn, Rotation.from_matrix(end[:3, :3] @ start[:3, :3].T).magnitude() / 10, rtol=1e-2)


def test_interp_turns_on_the_spot_where_the_cameras_do():
    turns = Rotation.from_euler("y", np.arange(0, 360, 30)[:, None], degrees=True).as_matrix()
    poses = np.concatenate([posed([[4.0, 5.0, 6.0]], turn) for turn in turns])
    path = camera_path(poses, "interp")
    assert np.abs(eyes(path) - [4, 5, 6]).max() < 1e-6
    np.testing.assert_allclose(steps(path)[1], np.radians(330) / 119, rtol=1e-2)


@pytest.mark.parametrize("far", [0.0, 1e6])
def test_ellipse_goes_once_around_the_table_at_mean_height_and_looks_at_it(far):
    moved = ROOM.copy()
    moved[:, :3, 3] -= ROOM[:, :3, :3] @ np.full(3, far)
    path = camera_path(moved, "ellipse")
    where = eyes(path) - far
    assert np.ptp(where[:, 2]) < 0.1, "level within a degree or two, from cameras that look down on three sides"
    assert where[:, 2].mean() == pytest.approx(eyes(ROOM)[:, 2].mean(), abs=0.05)
    assert miss(path, np.array(AIM) + far).max() < np.radians(4)
    distance = steps(np.concatenate([path, path[:1]]))[0]
    assert distance.max() < 1.05 * distance.min()
    angles = np.unwrap(np.arctan2(where[:, 1], where[:, 0]))
    assert abs(angles[-1] - angles[0]) == pytest.approx(2 * np.pi, rel=0.02)
    off = np.linalg.norm(where[:, None, :2] - eyes(ROOM)[None, :, :2], axis=2).min(axis=0)
    assert off.max() < 0.25, "it passes where the photos were taken from"


@pytest.mark.parametrize("cameras", [ROOM[:18], ROOM[17::-1]])
def test_ellipse_starts_at_the_first_camera_and_goes_where_the_photos_were_taken(cameras):
    path = eyes(camera_path(cameras, "ellipse"))
    assert np.linalg.norm(path[0] - eyes(cameras)[0]) < 0.4
    assert np.linalg.norm(path[36] - eyes(cameras)[9]) < 0.5, "three tenths on, about half the photos are passed"


def test_ellipse_and_spiral_turn_with_the_world():
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0.7, -1.9, 0.4]).as_matrix()
    for kind in ("ellipse", "spiral"):
        turned = camera_path(ROOM @ np.linalg.inv(turn), kind)
        np.testing.assert_allclose(np.sort(steps(turned)[0]), np.sort(steps(camera_path(ROOM, kind))[0]), rtol=1e-3)
        assert (eyes(turned @ turn)[:, 2] > 0.8).all(), "above the table's height, where the cameras were"


def test_pictures_of_ellipse_and_spiral_are_level():
    for kind in ("ellipse", "spiral"):
        right = camera_path(ROOM, kind)[:, 0, :3]
        assert np.abs(right[:, 2]).max() < np.radians(3)


def grid():
    """Cameras on a wall that look straight ahead (along z; y down), and points 3 to 5 units away."""
    x, y = np.meshgrid(np.linspace(-0.4, 0.4, 5), np.linspace(-0.2, 0.2, 3))
    points = np.random.default_rng(0).uniform([-2, -2, 3], [2, 2, 5], (500, 3))
    return posed(np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1)), points


def test_spiral_stays_among_the_cameras_of_a_wall_and_looks_at_the_scene():
    poses, points = grid()
    path = camera_path(poses, "spiral", points)
    x, y, z = eyes(path).T
    assert np.abs(x).max() == pytest.approx(0.4, abs=0.02)
    assert np.abs(y).max() == pytest.approx(0.2, abs=0.02)
    assert 0.05 < np.abs(z).max() < 0.2
    assert miss(path, np.array([0, 0, np.median(points[:, 2])])).max() < 1e-3
    turned = np.unwrap(np.arctan2(y / 0.2, x / 0.4))
    assert abs(turned[-1] - turned[0]) == pytest.approx(4 * np.pi, rel=0.03)


def test_parallel_cameras_take_the_focus_from_the_points():
    poses, points = grid()
    path = camera_path(poses, "ellipse", points)
    assert miss(path, np.array([0, 0, np.median(points[:, 2])])).max() < 1e-3


def test_cameras_that_look_outwards_do_not_take_their_middle_for_the_scene():
    outwards = np.stack([look_at(np.array([np.sin(a), 0, np.cos(a)]), 9 * np.array([np.sin(a), 0, np.cos(a)]))
                         for a in np.radians(np.arange(0, 190, 30))])  # fmt: skip
    for kind in ("ellipse", "spiral"):
        path = camera_path(outwards, kind, np.array([[5.0, 0.3, -0.2]]))
        assert miss(path, np.array([5.0, 0, 0])).max() < np.radians(1)


def test_raw_shows_the_cameras_as_they_are():
    path = camera_path(ROOM[::5], "raw", seconds=1)
    np.testing.assert_array_equal(path, np.repeat(ROOM[::5], 3, axis=0))
    np.testing.assert_array_equal(camera_path(ROOM, "raw", seconds=0.1, fps=30), ROOM[[0, 18, 35]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "poses",
    [
        pytest.param(posed([[1, 2, 3]] * 5), id="one place, one direction"),
        pytest.param(np.repeat(ROOM[:4], 3, axis=0), id="coincident"),
        pytest.param(posed([[0, 0, 0], [0, 0, 0], [0, 0, 4]]), id="along the view"),
        pytest.param(posed([[0, 0, 0], [1e-12, 0, 0]]), id="rounding apart"),
        pytest.param(ROOM[[0, 17]], id="two"),
        pytest.param(np.stack([np.eye(4), np.diag([-1.0, 1, -1, 1])]), id="back to back"),
        pytest.param(np.stack([np.eye(4), np.diag([-1.0, -1, 1, 1])]), id="upside down"),
        pytest.param(
            np.concatenate(
                [posed([[0, 0, 0]], turn) for turn in Rotation.random(300, rng=np.random.default_rng(0)).as_matrix()]
            ),
            id="all ways",
        ),
        pytest.param(
            np.stack([look_at(3 * np.array([np.sin(a), 0.0, -np.cos(a)])) for a in np.linspace(0, 2 * np.pi, 25)]),
            id="full circle",
        ),
        pytest.param(posed([[0, 0, 0], [1, 0, 0]]), id="parallel"),
    ],
)
def test_any_cameras_give_a_path(kind, poses):
    for points in (None, np.array([[0.3, 0.2, 5.0]]), np.array([[0.0, 0.0, -5.0]]), np.empty((0, 3))):
        path = camera_path(poses, kind, points)
        assert len(path) >= 100
        assert_rigid(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cameras", [0, 1])
def test_fewer_than_two_cameras_make_no_video_and_the_log_says_so(kind, cameras, caplog):
    with caplog.at_level(logging.INFO):
        assert camera_path(ROOM[:cameras], kind).shape == (0, 4, 4)
    assert f"it takes two cameras, there are {cameras}" in caplog.text


def test_what_is_no_pose_or_no_frame_is_refused():
    scaled, missing = ROOM[:3].copy(), ROOM[:3].copy()
    scaled[1, :3, :3] *= 2
    missing[2, 0, 3] = np.nan
    for poses in (scaled, missing, ROOM[:3] * [1, -1, 1, 1]):
        with pytest.raises(ValueError, match="not rigid"):
            camera_path(poses, "interp")
    with pytest.raises(ValueError, match="no frame"):
        camera_path(ROOM, "interp", seconds=0)
