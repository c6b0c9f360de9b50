"""PandaSet's files: what a pickle may hold, and logs as they are and as they should not be."""

from __future__ import annotations

import gzip
import os
import pickle

import numpy as np
import pytest
from support.pandaset_logs import START, pack, points, real_frame, table, write_json, write_metadata

from splatdag.driving.logs.pandaset import PANDAR64, PANDARGT, Log, sequences
from splatdag.driving.logs.pickles import read_table
from splatdag.workflow.errors import UserError


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("packed", [False, True])
def test_tables_of_every_pickle_protocol_are_read(tmp_path, protocol, packed):
    given = {"x": [1.5, 2.5], "d": [0, 1], "label": ["Car", None]}
    path = tmp_path / ("00.pkl.gz" if packed else "00.pkl")
    path.write_bytes(pack(table(given, protocol)) if packed else table(given, protocol))
    assert read_table(path).to_dict("list") == given


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    path, marker = tmp_path / "00.pkl", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"columns": Evil(marker)}))
    with pytest.raises(UserError, match=r"asks for posix\.system, which such a file does not need; it was not run"):
        read_table(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("00.pkl", b"", "damaged or cut off"),
        ("00.pkl", table({"x": [1.0]})[:80], "damaged or cut off"),
        ("00.pkl.gz", pack(table({"x": [1.0] * 999}))[:-12], "damaged or cut off"),
        ("00.pkl.gz", b"no gzip at all", "Not a gzipped file"),
        ("00.pkl", pickle.dumps([1, 2]), "holds list; expected a data frame"),
        ("00.pkl", b"cpandas\nDataFrame\n)\x81.", "damaged"),
        ("00.pkl", b"\x80\x04\x95" + b"\xff" * 8, "damaged"),
    ],
)
def test_what_is_no_table_is_said_in_one_line(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as refused:
        read_table(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_packed_table_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("splatdag.driving.logs.pickles._LARGEST", 10_000)
    path = tmp_path / "00.pkl.gz"
    path.write_bytes(gzip.compress(table({"x": [0.0] * 100_000})))
    with pytest.raises(UserError, match="more than 10,000 bytes"):
        read_table(path)


def test_a_sweep_keeps_world_coordinates_and_times_in_full_precision(tmp_path):
    log = write_metadata(tmp_path, frames=2)
    given = points()
    (log / "lidar" / "01.pkl.gz").unlink()
    (log / "lidar" / "01.pkl").write_bytes(table(given))
    sweep = Log(log).sweep(1)
    np.testing.assert_array_equal(sweep.points, np.stack([given[axis] for axis in "xyz"], axis=1))
    np.testing.assert_array_equal(sweep.times, given["t"])
    assert sweep.times.dtype == np.float64
    assert len(sweep.of(PANDAR64).points) == int((given["d"] == 0).sum())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given.update(x=np.full(20, np.nan)), "20 points have values that are no number"),
        (lambda given: given.update({name: np.zeros(0) for name in given}), "no points"),
        (lambda given: given.pop("t"), "no column t; it has x, y, z, i, d"),
        (lambda given: given.update(x=["here"] * 20), "a column is not of numbers"),
    ],
)
def test_points_that_cannot_be_used_are_refused(tmp_path, change, message):
    log, given = write_metadata(tmp_path, frames=1), points()
    change(given)
    (log / "lidar" / "00.pkl.gz").write_bytes(pack(table(given)))
    with pytest.raises(UserError, match=message):
        Log(log).sweep(0)


def boxes(**changes):
    given = {
        "uuid": ["a", "b"], "label": ["Car", "Pedestrian"], "yaw": [0.0, np.pi / 2], "stationary": [False, True],
        "position.x": [0.0, 10.0], "position.y": [0.0, 0.0], "position.z": [0.0, 0.0],
        "dimensions.x": [2.0, 2.0], "dimensions.y": [5.0, 5.0], "dimensions.z": [1.5, 1.5],
        "attributes.object_motion": ["Moving", float("nan")], "cuboids.sibling_id": ["-", "a"],
        "cuboids.sensor_id": [-1, 1],
    }  # fmt: skip
    return {name: values for name, values in {**given, **changes}.items() if values is not None}


def written(tmp_path, given):
    log = write_metadata(tmp_path, frames=1)
    folder = log / "annotations" / "cuboids"
    folder.mkdir(parents=True)
    (folder / "00.pkl").write_bytes(table(given))
    return Log(log).boxes(0)


def test_a_box_has_its_length_along_world_y_where_yaw_is_zero_and_turns_counter_clockwise(tmp_path):
    found = written(tmp_path, boxes())
    probe = np.array(
        [[0.0, 2.4, 0.0], [2.4, 0.0, 0.0], [10.0, 2.4, 0.0], [7.6, 0.0, 0.0], [12.4, 0.0, 0.7], [12.4, 0, 0.8]]
    )
    assert found.inside(probe, 0).tolist() == [True, False, False, False, False, False]
    assert found.inside(probe, 1).tolist() == [False, False, False, True, True, False]
    np.testing.assert_allclose(found.local(np.array([[10.0, 1.0, 0.0]]), 1), [[1.0, 0.0, 0.0]], atol=1e-12)


def test_boxes_count_once_for_each_lidar_and_dashes_and_missing_columns_are_empty(tmp_path):
    found = written(tmp_path, boxes(**{"attributes.object_motion": None}))
    assert found.of(PANDAR64).tolist() == [True, False]
    assert found.of(PANDARGT).tolist() == [True, True]
    assert (found.siblings, found.motions) == (["", "a"], ["", ""])


@pytest.mark.parametrize("name", ["position.y", "dimensions.z", "yaw", "cuboids.sensor_id"])
def test_boxes_that_cannot_be_used_are_refused(tmp_path, name):
    with pytest.raises(UserError, match=rf"00\.pkl: 1 boxes have values that are no number in .*{name}"):
        written(tmp_path, boxes(**{name: [1.0, np.nan]}))


def test_intrinsics_that_are_no_numbers_cost_their_camera(tmp_path):
    folder = write_metadata(tmp_path, frames=1)
    write_json(folder / "camera" / "left_camera" / "intrinsics.json", {"fx": np.nan, "fy": 1.0, "cx": 1.0, "cy": 1.0})
    log = Log(folder)
    assert log.problems == ["left_camera: intrinsics.json has not fx, fy, cx, cy"]
    assert "left_camera" not in log.cameras


def test_cameras_have_their_own_times_and_a_missing_one_is_told(tmp_path):
    folder = write_metadata(tmp_path, frames=3)
    for path in sorted((folder / "camera" / "left_camera").iterdir()):
        path.unlink()
    (folder / "camera" / "left_camera").rmdir()
    log = Log(folder)
    assert log.problems == ["left_camera is missing"]
    front = log.cameras["front_camera"]
    assert front.times[0] == START - 0.01
    assert log.cameras["back_camera"].times[0] == START - 0.06
    np.testing.assert_allclose(front.camera_to_world[2][:3, 3], [2, 0, 0])
    np.testing.assert_allclose(
        front.camera_to_world[0][:3, :3] @ front.camera_to_world[0][:3, :3].T, np.eye(3), atol=1e-12
    )
    assert log.reason_against(1, ("front_camera",)) is None
    assert log.reason_against(1) == "no camera left_camera"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("lidar/poses.json", [{"position": {"x": 0}}], "expected a list of position"),
        ("lidar/timestamps.json", {"a": 1}, "expected a list of numbers"),
    ],
)
def test_metadata_of_another_form_is_refused(tmp_path, path, value, message):
    folder = write_metadata(tmp_path, frames=2)
    write_json(folder / path, value)
    with pytest.raises(UserError, match=message):
        Log(folder)


def test_a_folder_without_sequences_is_refused(tmp_path):
    with pytest.raises(UserError, match="no PandaSet sequences"):
        sequences(tmp_path)


def test_the_real_frame():
    """Oracles measured with other code: points in the image, points in cars, distance of neighbours, clocks."""
    from scipy.spatial import cKDTree

    log = Log(real_frame())
    sweep, front, found = log.sweep(0), log.cameras["front_camera"], log.boxes(0)
    world_to_camera = np.linalg.inv(front.camera_to_world[0])
    seen = []
    for sensor in (PANDAR64, PANDARGT):
        x, y, z = (sweep.of(sensor).points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]).T
        before = z > 0.1
        u = front.K[0, 0] * x[before] / z[before] + front.K[0, 2]
        v = front.K[1, 1] * y[before] / z[before] + front.K[1, 2]
        seen.append(int(((u >= 0) & (u < 1920) & (v >= 0) & (v < 1080)).sum()))
    assert seen == [13_533, 54_897]
    cars = [box for box, label in enumerate(found.labels) if label == "Car"]
    assert (len(cars), sum(int(found.inside(sweep.points, box).sum()) for box in cars)) == (88, 26_008)
    spinning = sweep.of(PANDAR64)
    distances = cKDTree(spinning.points).query(spinning.points, 4)[0][:, 1:].mean(axis=1)
    assert np.median(distances) == pytest.approx(0.100, abs=5e-4)
    times = spinning.times - log.lidar_times[0]
    assert (times.min(), times.max()) == (pytest.approx(-0.1014, abs=1e-4), pytest.approx(0.0015, abs=1e-4))
    assert front.times[0] - log.lidar_times[0] == pytest.approx(-0.0498, abs=1e-4)
    assert len(log.classes(0)) == len(sweep.points) == 169_171
