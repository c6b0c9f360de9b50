"""Which boxes move and how fast, and the pixels that show them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image
from support.pandaset_logs import START, points, real_frame, table, write_boxes, write_json, write_metadata

from splatdag.driving.clips.lift import NEAR, pixels_of
from splatdag.driving.evaluation.dynamic_masks import _SIGNS, dynamic_mask, fill, outline
from splatdag.driving.logs.box_tracks import from_local, steps
from splatdag.driving.logs.pandaset import PANDAR64, Camera, Log
from splatdag.samples.options import StreetOptions
from splatdag.samples.street import make_street
from splatdag.samples.street_truth import Truth

SIZE = (200, 100)
K = np.array([[100.0, 0, 100], [0, 100.0, 50], [0, 0, 1]])


@pytest.fixture
def folder(tmp_path):
    """Four frames of a camera that stands at the origin and looks along world x, y to its left."""
    log = write_metadata(tmp_path, frames=4)
    camera = log / "camera" / "front_camera"
    write_json(camera / "intrinsics.json", {"fx": 100, "fy": 100, "cx": 100, "cy": 50})
    still = {"position": {"x": 0, "y": 0, "z": 0}, "heading": {"w": 0.5, "x": -0.5, "y": 0.5, "z": -0.5}}
    write_json(camera / "poses.json", [still] * 4)
    for frame in range(4):
        Image.new("RGB", SIZE).save(camera / f"{frame:02d}.jpg")
    return log


def columns_and_rows(mask):
    """First and last column, first and last row that a mask has."""
    rows, columns = np.nonzero(mask)
    return columns.min(), columns.max(), rows.min(), rows.max()


def at(x, y=0.0, **given):
    return {"position.x": x, "position.y": y} | given


def test_speeds_are_by_the_times_of_the_frames_forwards_where_that_is_known(folder):
    write_json(folder / "lidar" / "timestamps.json", [START, START + 0.1, START + 0.3, START + 0.4])
    write_boxes(folder, 0, at(10.0), at(0.0, 5.4, uuid="gone"))
    write_boxes(folder, 1, at(10.2), at(0.0, 5.0, uuid="gone"), at(0.0, 9.0, uuid="once"))
    write_boxes(folder, 2, at(10.8))
    write_boxes(folder, 3, at(10.8, yaw=-3.1))
    log = Log(folder)
    assert steps(log, 0).speeds == pytest.approx([2.0, 4.0])
    assert steps(log, 1).speeds == pytest.approx([3.0, 4.0, np.nan], nan_ok=True)
    assert steps(log, 2).speeds == pytest.approx([0.0])
    assert steps(log, 2).radians == pytest.approx([3.1])
    assert steps(log, 3).speeds == pytest.approx([0.0])


@pytest.mark.parametrize("seconds", [np.nan, 0.0])
def test_a_next_frame_without_a_usable_time_tells_no_speed_and_the_one_before_does(folder, seconds):
    write_json(folder / "lidar" / "timestamps.json", [START, START + 0.1, START + 0.1 + seconds, START + 0.3])
    for frame in range(4):
        write_boxes(folder, frame, at(10.0 + 0.2 * frame))
    assert steps(Log(folder), 1).speeds == pytest.approx([2.0])


def test_a_moving_box_is_filled_at_the_size_that_is_asked_for(folder):
    """A quarter turn lays its length of 4 m along x, so that its near face of 2 x 2 m is 7 m away."""
    write_boxes(folder, 0, at(9.0, yaw=np.pi / 2), at(10.0, 6.0, uuid="parked"))
    write_boxes(folder, 1, at(9.0, 0.2, yaw=np.pi / 2), at(10.0, 6.05, uuid="parked"))
    log, edge = Log(folder), 100 / 7
    for width, height in (SIZE, (100, 50)):
        mask = dynamic_mask(log, 0, "front_camera", width, height)
        scale = width / SIZE[0]
        expected = [
            np.ceil(scale * (100 - edge) - 0.5), np.floor(scale * (100 + edge) - 0.5),
            np.ceil(scale * (50 - edge) - 0.5), np.floor(scale * (50 + edge) - 0.5),
        ]  # fmt: skip
        assert mask.shape == (height, width)
        assert columns_and_rows(mask) == tuple(expected)
        left, right, top, bottom = columns_and_rows(mask)
        assert mask[top : bottom + 1, left : right + 1].all()


def test_of_two_boxes_of_one_object_that_of_the_pandar64_counts_and_is_followed(folder):
    first, second = {"uuid": "a", "cuboids.sibling_id": "b"}, {"uuid": "b", "cuboids.sibling_id": "a"}
    write_boxes(folder, 0, at(10.0))
    write_boxes(
        folder, 1, at(10.0, 0.2) | first | {"cuboids.sensor_id": 0}, at(14.0, 3) | second | {"cuboids.sensor_id": 1}
    )
    write_boxes(
        folder, 2, at(10.0, 0.4) | second | {"cuboids.sensor_id": 0}, at(14.0, 3) | first | {"cuboids.sensor_id": 1}
    )
    write_boxes(folder, 3, at(10.0, 0.6))
    log = Log(folder)
    for frame in range(4):
        found = steps(log, frame)
        assert found.speeds[found.boxes.of(PANDAR64)] == pytest.approx([2.0], rel=1e-5)
    pair = dynamic_mask(log, 1, "front_camera", *SIZE)
    write_boxes(folder, 1, at(10.0, 0.2))
    np.testing.assert_array_equal(pair, dynamic_mask(Log(folder), 1, "front_camera", *SIZE))


def seen_by_rays(corner_axes, center, half, camera_to_world):
    """[H, W]: pixels whose rays meet a box NEAR metres before the camera or farther."""
    x, y = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5)
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)], axis=-1)
    direction = rays @ camera_to_world[:3, :3].T @ corner_axes
    origin = (camera_to_world[:3, 3] - center) @ corner_axes
    with np.errstate(divide="ignore"):
        ends = np.stack([(-half - origin) / direction, (half - origin) / direction])
    return np.maximum(ends.min(axis=0).max(axis=-1), NEAR) <= ends.max(axis=0).min(axis=-1)


@pytest.mark.parametrize("seed", range(20))
def test_the_hull_of_a_box_is_what_rays_meet_wherever_the_box_is(seed):
    """Boxes ahead, beside, behind and around the camera; the oracle needs no corners."""
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    pose[:3, :3] *= np.linalg.det(pose[:3, :3])
    pose[:3, 3] = rng.normal(size=3)
    camera = Camera("any", K, pose[None], np.zeros(1), {})
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    size, center = rng.uniform(1, 5, 3), pose[:3, 3] + pose[:3, :3] @ rng.uniform((-3, -2, -2), (3, 2, 8))
    mask = np.zeros(SIZE[::-1], bool)
    fill(mask, outline(camera, 0, center + (_SIGNS * size) @ axes.T))
    truth = seen_by_rays(axes, center, size / 2, pose)
    assert (mask != truth).sum() <= 2


def test_a_box_around_the_camera_is_cut_before_it_and_one_behind_it_is_not_seen():
    camera = Camera("any", K, np.eye(4)[None], np.zeros(1), {})
    mask = np.zeros(SIZE[::-1], bool)
    fill(mask, outline(camera, 0, _SIGNS * (2, 2, 2) + (1.0, 0, 0.5)))  # around the camera, from its axis to the right
    assert not mask[:, :100].any()
    assert mask[10:90, 100:].all()
    fill(mask := np.zeros(SIZE[::-1], bool), outline(camera, 0, _SIGNS * (2, 2, 2) + (0, 0, -1.0)))
    assert not mask.any()


@pytest.mark.parametrize("definition", ["boxes", "points_dilated"])
def test_without_boxes_or_a_second_frame_nothing_moves(folder, definition):
    assert not dynamic_mask(Log(folder), 0, "front_camera", *SIZE, definition).any()
    (folder / "lidar" / "00.pkl.gz").unlink()
    (folder / "lidar" / "00.pkl").write_bytes(table(points()))
    write_boxes(folder, 0)
    assert not dynamic_mask(Log(folder), 0, "front_camera", *SIZE, definition).any()
    write_boxes(folder, 0, at(10.0))
    assert not dynamic_mask(Log(folder), 0, "front_camera", *SIZE, definition).any()


@pytest.mark.parametrize(
    ("steps_m", "turns", "moves"),
    [
        ((0.06, 0.06, 0.0), (0, 0, 0), True),
        ((0.04, 0.04, 0.04), (0, 0, 0), False),
        ((0.0, 0.06, 0.0), (0, 0, 0), False),
        ((0.0, 0.0, 0.0), (0.02, 0.02, 0.02), True),
        ((0.0, 0.0, 0.0), (0.01, 0.01, 0.01), False),
    ],
)
def test_the_reproduction_s_mask_are_points_in_boxes_that_move_in_two_of_three_frames(folder, steps_m, turns, moves):
    """Yaws are around half a turn, where their numbers jump."""
    ys, yaws = np.cumsum([0, *steps_m]), np.cumsum([-0.015, *turns]) % (2 * np.pi) - np.pi
    for frame, (y, yaw) in enumerate(zip(ys, yaws, strict=True)):
        write_boxes(folder, frame, at(10.0, y, yaw=yaw))
    given = {
        "x": [9.5, 9.5, 5.0], "y": [0.0, 0.0, 0.0], "z": [0.0, 0.9, 0.0],
        "i": [0.0] * 3, "t": [START] * 3, "d": [0, 1, 0],
    }  # fmt: skip
    (folder / "lidar" / "01.pkl.gz").unlink()
    (folder / "lidar" / "01.pkl").write_bytes(table(given))
    mask = dynamic_mask(Log(folder), 1, "front_camera", 960, 480, "points_dilated")
    disc = np.hypot(*np.mgrid[-240:240, -480:480]) <= 2.5
    np.testing.assert_array_equal(mask, disc & moves)


def test_points_in_boxes_of_the_real_frame_lie_in_the_boxes_hulls():
    log = Log(real_frame())
    camera, boxes, sweep = log.cameras["front_camera"], log.boxes(0), log.sweep(0)
    pixels, _, inside = pixels_of(camera, 0, sweep.points, 1920, 1080)
    covered = 0
    for box in range(len(boxes.ids)):
        held = inside & boxes.inside(sweep.points, box)
        if held.any():
            fill(
                mask := np.zeros((1080, 1920), bool),
                outline(camera, 0, from_local(boxes, _SIGNS * boxes.sizes[box], box)),
            )
            column, row = pixels[held].astype(int).T
            covered += held.sum()
            rim = np.ones((3, 3), np.uint8)  # its pixels may have their centres outside
            assert cv2.dilate(mask.astype(np.uint8), rim)[row, column].all()
    assert covered > 5000
    assert not dynamic_mask(log, 0, "front_camera", 480, 270).any()


def test_on_a_sample_what_moves_is_in_the_mask_and_what_is_parked_is_not(tmp_path):
    make_street(tmp_path, StreetOptions(logs=2, frames=2, width=192, points=8000, cameras=("front_camera",)))
    for name in ("001", "002"):
        log, truth = Log(tmp_path / name), Truth.read(tmp_path, name)
        sweep, things = log.sweep(0), truth.of_points(0)
        pixels, _, inside = pixels_of(log.cameras["front_camera"], 0, sweep.points, 192, 108)
        speeds = np.linalg.norm(truth.velocities(sweep.points, sweep.times, things), axis=1)
        mask = dynamic_mask(log, 0, "front_camera", 192, 108)
        column, row = pixels[inside & (sweep.sensors == PANDAR64) & (speeds > 1.2)].astype(int).T
        assert len(row) > 30
        assert mask[row, column].mean() > 0.95
        moving = steps(log, 0)
        assert not (moving.speeds[moving.boxes.stationary] > 0.2).any()
        assert 0.002 < mask.mean() < 0.3
