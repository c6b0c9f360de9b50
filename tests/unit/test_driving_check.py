"""The doctor of driving logs: what it measures of good ones, and what it says of each kind of bad one."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import cv2
import numpy as np
import pytest
from support.pandaset_logs import CAMERAS, changed_list, real_frame, table, write_json, write_street

from splatdag.driving.checks.check import main
from splatdag.driving.logs.folders import CUBOIDS, SEMSEG
from splatdag.driving.logs.pickles import read_table
from splatdag.driving.options import CheckOptions
from splatdag.samples.street_sensors import CAMERAS as SENSORS
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job


def checked(root, out, **options):
    main(root, out, CheckOptions(**options), Job())
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Unpacked, so that tables are easily changed."""
    return write_street(tmp_path_factory.mktemp("street"), points=4000, packed="none")


@pytest.fixture
def copy(street, tmp_path):
    shutil.copytree(street, tmp_path / "logs")
    return tmp_path / "logs"


def test_sample_logs_are_as_they_were_made(street, tmp_path):
    found = checked(street, tmp_path)
    assert found["problems"] == 0
    assert [log["log"] for log in found["logs"]] == ["001", "002"]
    for log in found["logs"]:
        assert set(log["lists"].values()) == {4}
        assert log["image_sizes"] == {name: [96, 54] for name in CAMERAS}
        assert log["clock"]["frames_per_second"] == pytest.approx(10, rel=1e-5)
        for name in CAMERAS:
            assert log["clock"][name]["mean_s"] == pytest.approx(SENSORS[name].offset, abs=1e-6)
        assert log["ego"]["gps_speed_mps"] == pytest.approx(log["ego"]["speed_mps"], abs=0.2)
        assert log["ego"]["forward"] > 0.99
        assert [frame["frame"] for frame in log["opened"]] == [0, 2, 3]
        for frame in log["opened"]:
            assert abs(frame["ground_m"]) < 0.1
            assert frame["boxes"]["points_in_cars"] > 1.5 * frame["boxes"]["points_in_cars_axes_swapped"]
            low, high = frame["seconds_after_timestamp"]["0"]
            assert (low, high) == (pytest.approx(-0.1, abs=0.003), pytest.approx(0.0015, abs=0.003))
            seen = [frame["images"][name]["0"] for name in CAMERAS]
            assert sum(camera["points"] for camera in seen) > 0.5 * frame["points"]["0"]
            assert all(abs(camera["seconds_after_image"][1]) < 0.02 for camera in seen[:5])
        picture = cv2.imread(str(tmp_path / f"{log['log']}.jpg"))
        assert picture.shape == (2 * 54, 3 * 96, 3)
    lines = (tmp_path / "report.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["log", "001", "002"]


def test_the_real_frame(tmp_path):
    """Oracles measured with other code; four of its cameras and its meta folder are missing."""
    [log] = checked(real_frame().parent, tmp_path)["logs"]
    assert log["problems"] == [f"{name} is missing" for name in CAMERAS[1:5]]
    [frame] = log["opened"]
    assert frame["points"] == {"0": 106_886, "1": 62_285}
    assert [frame["images"]["front_camera"][sensor]["points"] for sensor in "01"] == [13_533, 54_897]
    after = frame["images"]["front_camera"]["0"]["seconds_after_image"]
    assert (after[0], after[2]) == (pytest.approx(-0.0075, abs=2e-4), pytest.approx(0.0082, abs=2e-4))
    assert frame["images"]["front_camera"]["1"]["seconds_after_image"][1] == pytest.approx(0.037, abs=1e-3)
    boxes = frame["boxes"]
    assert (boxes["points_in_cars"], boxes["points_in_cars_axes_swapped"]) == (26_008, 12_015)
    assert (boxes["boxes"], boxes["sibling_pairs"]) == (151, 12)
    assert boxes["siblings_apart_m"]["largest"] == pytest.approx(0.31, abs=5e-3)
    assert log["clock"]["back_camera"]["mean_s"] == pytest.approx(-0.0999, abs=1e-4)
    assert log["image_sizes"] == {"front_camera": [1920, 1080], "back_camera": [1920, 1080]}
    assert abs(frame["ground_m"]) < 0.3


def change_table(folder, frame, change):
    """Change an unpacked table, and write it as PandaSet's are."""
    path = folder / f"{frame:02d}.pkl"
    frame = change(read_table(path))
    path.write_bytes(table({name: column.tolist() for name, column in frame.items()}))


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def moved(poses, x=0.0, y=0.0, z=0.0):
    for pose in poses:
        for axis, by in zip("xyz", (x, y, z), strict=True):
            pose["position"][axis] += by
    return poses


def nowhere(poses):
    poses[3]["position"]["x"] = float("nan")
    return poses


def unturned(poses):
    """A heading of no length; its place is known."""
    poses[2]["heading"] = dict.fromkeys("wxyz", 0.0)
    return poses


def put(row, value):
    """A change of a list: another value in one row."""
    return lambda given: [*given[:row], value, *given[row + 1 :]]


class Foreign:
    def __reduce__(self):
        return os.system, ("touch ran",)


def other_size(log):
    cv2.imwrite(str(log / "camera" / "back_camera" / "03.jpg"), np.zeros((20, 30, 3), np.uint8))


BROKEN = {
    "missing camera": (lambda log: shutil.rmtree(log / "camera" / "left_camera"), ["left_camera is missing"]),
    "no image": (
        lambda log: (log / "camera" / "front_camera" / "01.jpg").unlink(),
        ["camera/front_camera lacks frames 1"],
    ),
    "short list": (
        lambda log: changed_list(log / "camera" / "front_camera" / "timestamps.json", lambda times: times[:3]),
        ["camera/front_camera/timestamps.json has 3 frames, other lists 4"],
    ),
    "cut table": (lambda log: cut(log / "lidar" / "02.pkl"), ["lidar/02.pkl: damaged or cut off"]),
    "foreign pickle": (
        lambda log: (log / "lidar" / "00.pkl").write_bytes(pickle.dumps(Foreign())),
        ["lidar/00.pkl: asks for posix.system, which such a file does not need; it was not run"],
    ),
    "no points": (
        lambda log: change_table(log / "lidar", 3, lambda given: given[:0]),
        ["lidar/03.pkl: no points"],
    ),
    "no number": (
        lambda log: change_table(log / "lidar", 3, lambda given: given.assign(x=np.nan)),
        ["points have values that are no number"],
    ),
    "third lidar": (
        lambda log: change_table(log / "lidar", 3, lambda given: given.assign(d=2)),
        ["frame 3: lidar 2 in column d; expected 0 or 1", "frame 3: no points of lidar 0", "sees no point of lidar 0"],
    ),
    "one lidar alone": (
        lambda log: [change_table(log / "lidar", frame, lambda given: given.assign(d=1)) for frame in range(4)],
        ["frame 2: no points of lidar 0", "frame 2: front_camera sees no point of lidar 0"],
    ),
    "other size": (other_size, ["back_camera: not 96×54 pixels as the first image are frames 3"]),
    "no image at all": (
        lambda log: (log / "camera" / "back_camera" / "01.jpg").write_bytes(b""),
        ["camera/back_camera/01.jpg: can't be decoded (it is empty)"],
    ),
    "cut image": (
        lambda log: cut(log / "camera" / "back_camera" / "02.jpg"),
        ["camera/back_camera/02.jpg: can't be decoded"],
    ),
    "unreadable image": (
        lambda log: (log / "camera" / "back_camera" / "02.jpg").write_bytes(b"no image"),
        ["camera/back_camera/02.jpg: can't be decoded"],
    ),
    "pose": (
        lambda log: changed_list(log / "lidar" / "poses.json", nowhere),
        ["lidar/poses.json has values that are no number in frames 3"],
    ),
    "heading": (
        lambda log: changed_list(log / "lidar" / "poses.json", unturned),
        ["lidar/poses.json has values that are no number in frames 2"],
    ),
    "no heading at all": (
        lambda log: changed_list(log / "lidar" / "poses.json", lambda poses: [unturned([{}, {}, p])[2] for p in poses]),
        ["lidar/poses.json has values that are no number in frames 0, 1, 2, 3"],
    ),
    "no time": (
        lambda log: changed_list(log / "lidar" / "timestamps.json", put(3, float("nan"))),
        ["lidar/timestamps.json has values that are no number in frames 3"],
    ),
    "endless time": (
        lambda log: changed_list(log / "lidar" / "timestamps.json", put(3, float("inf"))),
        ["lidar/timestamps.json has values that are no number in frames 3"],
    ),
    "no time at all": (
        lambda log: changed_list(log / "lidar" / "timestamps.json", lambda times: [float("nan")] * len(times)),
        ["lidar/timestamps.json has values that are no number in frames 0, 1, 2, 3"],
    ),
    "no time of a camera": (
        lambda log: changed_list(log / "camera" / "back_camera" / "timestamps.json", put(0, float("nan"))),
        ["camera/back_camera/timestamps.json has values that are no number in frames 0"],
    ),
    "no focal length": (
        lambda log: changed_list(
            log / "camera" / "back_camera" / "intrinsics.json", lambda given: given | {"fx": float("nan")}
        ),
        ["back_camera: intrinsics.json has not fx, fy, cx, cy"],
    ),
    "pose of the lidar": (
        lambda log: changed_list(log / "lidar" / "poses.json", lambda poses: moved(poses, z=1.85)),
        ["the ground lies at -1.8"],
    ),
    "clock": (
        lambda log: changed_list(
            log / "camera" / "front_camera" / "timestamps.json", lambda times: [time + 0.06 for time in times]
        ),
        ["front_camera is -59 ms from the points that it sees"],
    ),
    "drifting clock": (
        lambda log: changed_list(
            log / "camera" / "front_camera" / "timestamps.json",
            lambda times: [time + 0.008 * number for number, time in enumerate(times)],
        ),
        ["front_camera: its times vary by 0.024 s against the lidar's"],
    ),
    "gap": (
        lambda log: [
            changed_list(path, lambda times: [*times[:3], times[3] + 0.1])
            for path in (log / "lidar" / "timestamps.json", *log.glob("camera/*/timestamps.json"))
        ],
        ["lidar/timestamps.json has uneven steps before frames 3", "ms from the points that it sees"],
    ),
    "gps": (
        lambda log: changed_list(
            log / "meta" / "gps.json", lambda fixes: [fix | {"xvel": 40.0, "yvel": 0.0} for fix in fixes]
        ),
        ["meta/gps.json: its speeds are"],
    ),
    "gps without a number": (
        lambda log: changed_list(
            log / "meta" / "gps.json", lambda fixes: [fixes[0] | {"xvel": float("nan")}, *fixes[1:]]
        ),
        ["meta/gps.json has values that are no number in frames 0"],
    ),
    "gps without any number": (
        lambda log: changed_list(
            log / "meta" / "gps.json", lambda fixes: [fix | {"xvel": float("nan")} for fix in fixes]
        ),
        ["meta/gps.json has values that are no number in frames 0, 1, 2, 3"],
    ),
    "gps of another form": (
        lambda log: write_json(log / "meta" / "gps.json", [{}] * 4),
        ["meta/gps.json: expected a list of lat, long, height, xvel, yvel"],
    ),
    "axes of boxes": (
        lambda log: change_table(
            log / CUBOIDS, 2,
            lambda given: given.rename(columns={"dimensions.x": "dimensions.y", "dimensions.y": "dimensions.x"}),
        ),
        ["frame 2: more points lie in cars with width and length swapped"],
    ),
    "box without a place": (
        lambda log: change_table(
            log / CUBOIDS, 2, lambda given: given.assign(**{"position.x": [np.nan, *given["position.x"][1:]]})
        ),
        ["annotations/cuboids/02.pkl: 1 boxes have values that are no number in position.x, position.y, position.z"],
    ),
    "no boxes": (lambda log: shutil.rmtree(log / CUBOIDS), ["annotations/cuboids lacks frames 0, 1, 2, 3"]),
    "classes": (lambda log: change_table(log / SEMSEG, 2, lambda given: given[:-5]), ["classes of"]),
    "no log": (lambda log: (log / "lidar" / "poses.json").write_text("{"), ["lidar/poses.json: no JSON"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_named_and_costs_no_other_log(copy, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    breaks, expected = BROKEN[name]
    breaks(copy / "002")
    found = checked(copy, tmp_path / "out")
    good, bad = found["logs"]
    assert good["problems"] == []
    assert bad["problems"]
    assert len(set(bad["problems"])) == len(bad["problems"]), "each is told once"
    for words in expected:
        assert any(words in problem for problem in bad["problems"]), (words, bad["problems"])
    unexpected = [problem for problem in bad["problems"] if not any(words in problem for words in expected)]
    assert not [problem for problem in unexpected if not _follows(problem, name)]
    assert cv2.imread(str(tmp_path / "out" / "002.jpg")).shape[2] == 3
    report = (tmp_path / "out" / "report.txt").read_text()
    assert all(f"002: {problem}" in report for problem in bad["problems"])
    assert not (tmp_path / "ran").exists()


def _follows(problem, name):
    """What a break has for a consequence besides."""
    return {
        "no boxes": "annotations/cuboids: no table" in problem,
        "third lidar": "sees no point" in problem,
        "one lidar alone": "no points of lidar 0" in problem or "sees no point of lidar 0" in problem,
    }.get(name, False)


def test_strictly_a_problem_fails_after_the_report_is_written(copy, tmp_path):
    shutil.rmtree(copy / "001" / "camera" / "left_camera")
    cut(copy / "002" / "lidar" / "02.pkl")
    with pytest.raises(UserError, match=r"^001: left_camera is missing \(the first of 2 problems\)$"):
        checked(copy, tmp_path / "out", strict=True)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["problems"] == 2


def test_only_what_is_asked_for_is_looked_at(copy, tmp_path):
    cut(copy / "002" / "lidar" / "01.pkl")
    assert checked(copy, tmp_path / "three")["problems"] == 0, "frame 1 is not among the opened ones"
    assert checked(copy, tmp_path / "all", frames=None)["problems"] == 1
    found = checked(copy, tmp_path / "one", scenes="001", frames=1)
    assert [[frame["frame"] for frame in log["opened"]] for log in found["logs"]] == [[0]]
    assert [path.name for path in (tmp_path / "one").glob("*.jpg")] == ["001.jpg"]
    with pytest.raises(UserError, match=r"has no log 009"):
        checked(copy, tmp_path / "none", scenes="009")
