"""What the sample logs say of things that move: boxes, velocities and paths agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.streets import NAMES, OPTIONS

from splatdag.driving.logs.pandaset import PANDAR64, PANDARGT, Log
from splatdag.samples.street_paths import Path as Drive
from splatdag.samples.street_truth import STATIC, Truth


def test_boxes_hold_the_points_of_their_things_and_of_nobody_else(street_root: Path) -> None:
    for name in NAMES:
        log, truth = Log(street_root / name), Truth.read(street_root, name)
        for frame in (0, 4):
            sweep, boxes, things = log.sweep(frame), log.boxes(frame), truth.of_points(frame)
            held = np.zeros((2, 2))
            for sensor in (PANDAR64, PANDARGT):
                points, owners = sweep.points[sweep.sensors == sensor], things[sweep.sensors == sensor]
                boxed = np.full(len(points), STATIC)
                for box in np.flatnonzero(boxes.of(sensor)):
                    (thing,) = (i for i, t in enumerate(truth.things) if boxes.ids[box] in (t.uuid, t.sibling))
                    assert truth.things[thing].label == boxes.labels[box]
                    boxes.sizes[box] += 0.10  # ten centimetres: a box has the time of its middle
                    boxed[boxes.inside(points, box)] = thing
                known = np.isin(owners, boxed)
                held[sensor] = (boxed == owners)[known & (owners != STATIC)].mean(), (boxed == owners)[known].mean()
            assert held.min() > 0.95


def test_what_moves_before_both_lidars_has_a_box_of_each_and_everything_else_has_one(street_root: Path) -> None:
    log, truth = Log(street_root / "002"), Truth.read(street_root, "002")
    speeds = {t.uuid: t.path.speed for t in truth.things}
    for frame in range(OPTIONS.frames):
        boxes, pairs = log.boxes(frame), 0
        assert len(set(boxes.ids)) == len(boxes.ids)
        for box, sibling in enumerate(boxes.siblings):
            local = (boxes.centers[box] - log.ego_to_world[frame][:3, 3]) @ log.ego_to_world[frame][:3, :3]
            ahead = abs(np.arctan2(local[0], local[1]))
            if not sibling:
                assert boxes.sensors[box] == -1
                assert boxes.stationary[box] or ahead > np.radians(28) or local[1] < 10
                continue
            other = boxes.ids.index(sibling)
            assert boxes.siblings[other] == boxes.ids[box]
            assert {int(boxes.sensors[box]), int(boxes.sensors[other])} == {PANDAR64, PANDARGT}
            assert ahead < np.radians(32)
            first = box if boxes.sensors[box] == PANDAR64 else other
            assert np.linalg.norm(boxes.centers[box] - boxes.centers[other]) < 0.1 * speeds[boxes.ids[first]] + 0.01
            pairs += 1
        assert pairs >= 4
        assert boxes.of(PANDAR64).sum() == boxes.of(PANDARGT).sum() == len(boxes.ids) - pairs // 2


def test_points_carried_on_by_their_velocity_arrive_in_the_next_box(street_root: Path) -> None:
    for name in NAMES:
        log, truth = Log(street_root / name), Truth.read(street_root, name)
        sweep, things = log.sweep(2), truth.of_points(2)
        velocities = truth.velocities(sweep.points, sweep.times, things)
        assert (velocities[things == STATIC] == 0).all()
        moving = (np.linalg.norm(velocities, axis=1) > 1) & (sweep.sensors == PANDAR64)
        boxes, arrived = log.boxes(3), []
        boxes.sizes[:] += 0.14
        for thing in np.unique(things[moving]):
            if truth.things[thing].uuid in boxes.ids:
                on, box = moving & (things == thing), boxes.ids.index(truth.things[thing].uuid)
                arrived.append(boxes.inside(sweep.points[on] + 0.1 * velocities[on], box))
                start = log.boxes(2)
                before = start.centers[start.ids.index(truth.things[thing].uuid)]
                speed = np.linalg.norm(boxes.centers[box] - before) / 0.1
                assert speed == pytest.approx(np.linalg.norm(velocities[on].mean(axis=0)), rel=0.1)
        assert len(arrived) >= 4
        assert np.concatenate(arrived).mean() > 0.95
        assert (truth.within(sweep.points, sweep.times) == things)[moving].mean() > 0.97


def test_velocities_are_how_positions_change(street_root: Path) -> None:
    truth = Truth.read(street_root, "002")
    rng = np.random.default_rng(0)
    things = np.repeat(np.arange(len(truth.things)), 5)
    times = truth.start + rng.uniform(0, 8, len(things))
    points = rng.normal(0, 3, (len(things), 3))
    points[:, :2] += np.stack([truth.poses(t, np.array([s]))[0, :2] for t, s in zip(things, times, strict=True)])
    step = np.full(len(things), 1e-3)
    ahead, behind = (truth.moved(points, times, things, times + sign * step) for sign in (1, -1))
    central = (ahead - behind) / (2 * step[:, None])
    velocities = truth.velocities(points, times, things)
    far = np.linalg.norm(central - velocities, axis=1)
    assert np.mean(far < 1e-3) > 0.98  # but where a bend begins within the step
    moving = np.linalg.norm(velocities, axis=1)
    assert {0.0} < set(moving)
    labels = np.array([truth.things[t].label for t in things])
    assert 1 < np.median(moving[(labels == "Pedestrian") & (moving > 0)]) < 2


def test_a_drive_through_a_bend_keeps_its_length_and_ends_turned() -> None:
    drive = Drive(1.0, 2.0, 0.3, 5.0, 0.4, ((4.0, 0.0), (10 * np.pi / 2, -0.1)))
    times = np.linspace(-1, 8, 9001)
    poses = drive.poses(times)
    steps = np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1)
    assert steps.sum() == pytest.approx(5 * 9 + 0.2 * (64 - 1), rel=1e-5)
    assert poses[-1, 2] == pytest.approx(0.3 - np.pi / 2)
    np.testing.assert_allclose(poses[1000], (1.0, 2.0, 0.3), atol=1e-9)
    forward = np.stack([-np.sin(poses[:, 2]), np.cos(poses[:, 2])], axis=1)
    np.testing.assert_allclose(np.diff(poses[:, :2], axis=0) / steps[:, None], forward[:-1], atol=2e-3)
