"""Scene flow by the boxes, against what is exactly known, and its measures, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.pandaset_logs import real_frame

from splatdag.driving.clips.lift import lift
from splatdag.driving.evaluation.scene_flow import BACKGROUND, Pair, pair_of, pair_row, rigid_flow
from splatdag.driving.logs.pandaset import PANDAR64, Boxes, Log
from splatdag.samples.options import StreetOptions
from splatdag.samples.street import make_street
from splatdag.samples.street_truth import STATIC, Truth


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("street")
    make_street(out, StreetOptions(logs=2, frames=3, width=64, points=12000, cameras=("front_camera",)))
    return out


@pytest.mark.parametrize("name", ["001", "002"])
def test_flow_by_the_boxes_is_how_the_things_really_move(root, name):
    """A box is where its thing was when the lidar looked at it, which is not exactly 100 ms after the last time.

    So the flow may be off by two hundredths of its length, and by the millimetre that boxes are rounded to.
    """
    log, truth = Log(root / name), Truth.read(root, name)
    for frame in (0, 1):
        pair = pair_of(log, frame)
        sweep = log.sweep(frame)
        spinning = np.flatnonzero(sweep.sensors == PANDAR64)[pair.rows]
        np.testing.assert_array_equal(sweep.points[spinning], pair.points)
        things, times = truth.of_points(frame)[spinning], sweep.times[spinning]
        exact = truth.moved(pair.points, times, things, times + 0.1) - pair.points
        assert pair.seconds == pytest.approx(0.1, abs=1e-6)
        boxed = pair.labels != BACKGROUND
        same = pair.valid & boxed & (things != STATIC)
        lengths = np.linalg.norm(exact, axis=1)
        off = np.linalg.norm(pair.flow - exact, axis=1)
        assert (off[same] <= 0.003 + 0.02 * lengths[same]).all()
        assert np.median(off[same & (lengths > 0.1)] / lengths[same & (lengths > 0.1)]) < 0.012
        assert same[lengths > 0.1].mean() > 0.95
        assert (lengths > 0.1).sum() > 20
        assert (pair.flow[~boxed] == 0).all()
        assert (things[~boxed] == STATIC).mean() > 0.99


def test_the_points_of_a_pair_are_those_that_the_lift_has_as_seen(root):
    log = Log(root / "001")
    pair, lifted = pair_of(log, 1), lift(log, 1, ("front_camera",))
    np.testing.assert_allclose(lifted.points[lifted.seen] + lifted.origin, pair.points, atol=1e-5)


def test_without_boxes_in_both_frames_there_is_no_pair(root):
    log = Log(root / "001")
    assert pair_of(log, 2) is None
    del log.box_tables[1]
    assert pair_of(log, 0) is None
    assert pair_of(log, 1) is None
    assert pair_of(Log(real_frame()), 0) is None


@pytest.mark.parametrize("seconds", [np.nan, np.inf, 0.0])
def test_a_next_frame_without_a_usable_time_or_pose_gives_no_truth(root, seconds):
    log = Log(root / "001")
    log.lidar_times[2] = log.lidar_times[1] + seconds
    assert pair_of(log, 0) is not None
    assert pair_of(log, 1) is None
    log = Log(root / "001")
    log.ego_to_world[2] = np.nan
    assert pair_of(log, 1) is None


def boxes(*given):
    """Of id, label, x, y, yaw and size, all at height 0."""
    ids, labels, x, y, yaws, sizes = zip(*given, strict=True) if given else ((),) * 6
    count = len(ids)
    centers = np.stack([x, y, np.zeros(count)], axis=1) if count else np.empty((0, 3))
    return Boxes(
        list(ids), list(labels), centers, np.array(sizes, float).reshape(-1, 3), np.array(yaws, float),
        np.zeros(count, bool), [""] * count, [""] * count, np.full(count, -1, np.int8),
    )  # fmt: skip


def test_points_go_with_their_box_and_turn_with_it():
    now = boxes(("a", "Car", 10.0, 0.0, 0.0, (2, 4, 2)))
    later = boxes(("b", "Car", 10.0, 0.0, 0.0, (2, 4, 2)), ("a", "Car", 11.0, 1.0, np.pi / 2, (2, 4, 2)))
    points = np.array([[10.0, 1.5, 0.5], [10.5, 0.0, 0.0], [12.0, 0.0, 0.0]])
    flow, valid, labels = rigid_flow(points, now, later)
    np.testing.assert_allclose(flow, [[11.0 - 1.5 - 10.0, 1.0 - 1.5, 0], [0.5, 1.5, 0], [0, 0, 0]], atol=1e-12)
    assert valid.all()
    assert labels.tolist() == ["Car", "Car", BACKGROUND]


def test_a_point_in_several_boxes_is_of_the_smallest_and_unknown_if_that_is_lost():
    large, small = ("bus", "Bus", 0.0, 0.0, 0.0, (4, 12, 4)), ("man", "Pedestrian", 1.0, 0.0, 0.0, (1, 1, 2))
    points = np.array([[1.0, 0.2, 0.0], [-1.0, 0.0, 0.0]])
    for now in (boxes(large, small), boxes(small, large)):
        later = boxes(("bus", "Bus", 0.0, 1.0, 0.0, (4, 12, 4)), ("man", "Pedestrian", 1.2, 0.0, 0.0, (1, 1, 2)))
        flow, valid, labels = rigid_flow(points, now, later)
        np.testing.assert_allclose(flow, [[0.2, 0, 0], [0, 1, 0]], atol=1e-12)
        assert labels.tolist() == ["Pedestrian", "Bus"]
        flow, valid, _ = rigid_flow(points, now, boxes(("bus", "Bus", 0.0, 1.0, 0.0, (4, 12, 4))))
        assert valid.tolist() == [False, True]
        np.testing.assert_allclose(flow, [[0, 0, 0], [0, 1, 0]], atol=1e-12)
    flow, valid, labels = rigid_flow(points, boxes(), boxes())
    assert valid.all()
    assert labels.tolist() == [BACKGROUND] * 2


FLOW = np.array([[0.0, 0, 0], [0, 0, 0], [0.03, 0, 0], [0.3, 0, 0], [0, 1.0, 0], [5.0, 5, 5]])
LABELS = [BACKGROUND, BACKGROUND, "Car", "Pedestrian", "Car", "Car"]


def pair(flow=FLOW, valid=(1, 1, 1, 1, 1, 0), labels=LABELS):
    count = len(flow)
    return Pair(0, 0.1, np.arange(count), np.zeros((count, 3)), flow, np.array(valid, bool), np.array(labels, object))


def test_the_measures_of_a_flow_worked_out_by_hand():
    """Errors are 0.04, 0, 0.03, 0.4 (turned by a right angle), 0.5 and one that does not count."""
    given = np.array([[0.04, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0.5, 0], [0, 0, 0]])
    given[3] = 0, np.sqrt(0.4**2 - 0.3**2), 0
    row = pair_row(pair(), given)
    assert row["points"] == 5
    assert row["epe3d"] == pytest.approx((0.04 + 0 + 0.03 + 0.4 + 0.5) / 5)
    assert row["acc5"] == row["acc10"] == pytest.approx(3 / 5)
    assert row["theta_e"] == pytest.approx((np.pi / 2 + 0) / 2)
    assert row["v_rmse_mps"] == pytest.approx(10 * np.sqrt((0.04**2 + 0.03**2 + 0.4**2 + 0.5**2) / 5))
    assert row["epe_3way_count"] == {"BS": 2, "FS": 1, "FD": 2}
    assert row["epe_3way"] == pytest.approx({"BS": 0.02, "FS": 0.03, "FD": 0.45})
    assert [(b["label"], b["bucket"], b["points"]) for b in row["buckets"]] == [
        ("Car", 0, 1), ("Car", 25, 1), ("Pedestrian", 7, 1), (BACKGROUND, 0, 2),
    ]  # fmt: skip
    assert [b["error_m"] for b in row["buckets"]] == pytest.approx([0.03, 0.5, 0.4, 0.04])
    assert [b["flow_m"] for b in row["buckets"]] == pytest.approx([0.03, 1.0, 0.3, 0])
    assert [b["error_over_flow"] for b in row["buckets"]] == pytest.approx([0.03 / 0.05, 0.5, 0.4 / 0.3, 0.04 / 0.05])


def test_shares_of_accurate_points_count_the_bound_itself_and_no_relative_error():
    row = pair_row(pair(), FLOW + np.array([[0.05, 0, 0], [0, 0.1, 0], [0, 0, 0], [0, 0, 0.1], [0, 0.2, 0], [0, 0, 0]]))
    assert (row["acc5"], row["acc10"]) == (pytest.approx(2 / 5), pytest.approx(4 / 5))


def test_no_flow_is_as_wrong_as_the_flow_is_long_and_has_no_angle():
    row = pair_row(pair(), np.zeros_like(FLOW))
    assert row["epe3d"] == pytest.approx((0.03 + 0.3 + 1.0) / 5)
    assert row["theta_e"] is None
    assert all(bucket["error_m"] == bucket["flow_m"] for bucket in row["buckets"])


def test_where_no_point_is_known_nothing_is_measured():
    row = pair_row(pair(valid=[0] * 6), np.zeros_like(FLOW))
    assert row["points"] == 0
    assert {row[name] for name in ("epe3d", "acc5", "acc10", "theta_e", "v_rmse_mps")} == {None}
    assert row["buckets"] == []
    assert set(row["epe_3way"].values()) == {None}


@pytest.mark.parametrize("given", [np.zeros((5, 3)), np.full((6, 3), np.nan)])
def test_a_flow_of_other_points_or_without_numbers_is_refused(given):
    with pytest.raises(ValueError, match="expected finite numbers of shape"):
        pair_row(pair(), given)
