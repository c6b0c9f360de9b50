"""Lifted frames on disk: the same as lifted anew, and made again when anything that they come from changed."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from support.pandaset_logs import changed_list, real_frame, write_street

from splatdag.driving.clips import lift_cache
from splatdag.driving.clips.lift import lift
from splatdag.driving.clips.lift_cache import cached_at, lifted
from splatdag.driving.logs.pandaset import Log
from splatdag.workflow.errors import UserError

FRONT = ("front_camera",)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_street(tmp_path_factory.mktemp("street"), logs=1, frames=2, points=400)


@pytest.fixture
def folder(street: Path, tmp_path: Path) -> Path:
    return shutil.copytree(street, tmp_path / "street") / "001"


@pytest.fixture
def lifts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Frames that were really lifted."""
    done: list[int] = []

    def counted(log, frame, *rest):
        done.append(frame)
        return lift(log, frame, *rest)

    monkeypatch.setattr(lift_cache, "lift", counted)
    return done


def same(one, other):
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))


def test_a_frame_is_lifted_once_and_is_the_same_from_disk(folder, tmp_path, lifts):
    log, cache = Log(folder), tmp_path / "cache"
    first, again = (lifted(log, 1, FRONT, folder=cache) for _ in range(2))
    assert lifts == [1]
    assert same(first, again)
    assert same(again, lift(log, 1, FRONT))
    assert [getattr(again, f.name).dtype for f in fields(again)] == [
        getattr(first, f.name).dtype for f in fields(first)
    ]


def test_cameras_and_lidars_are_kept_apart(folder, tmp_path, lifts):
    log, cache = Log(folder), tmp_path / "cache"
    counts = [len(lifted(log, 0, FRONT, sensors, folder=cache).points) for sensors in ((0,), (1,), (0, 1))]
    assert counts[0] + counts[1] == counts[2]
    both = lifted(log, 0, (*FRONT, "back_camera"), folder=cache)
    assert both.seen.sum() > lifted(log, 0, FRONT, folder=cache).seen.sum()
    assert lifts == [0] * 4


@pytest.mark.parametrize("name", ["lidar/00.pkl*", "camera/front_camera/00.jpg"])
def test_another_table_or_image_is_lifted_anew(folder, tmp_path, lifts, name):
    [path] = folder.glob(name)
    lifted(Log(folder), 0, FRONT, folder=tmp_path)
    os.utime(path, ns=(1, 1))
    lifted(Log(folder), 0, FRONT, folder=tmp_path)
    lifted(Log(folder), 0, FRONT, folder=tmp_path)
    assert lifts == [0, 0]


@pytest.mark.parametrize("name", ["lidar/poses.json", "camera/front_camera/poses.json"])
def test_another_pose_is_lifted_anew(folder, tmp_path, lifts, name):
    lifted(Log(folder), 0, FRONT, folder=tmp_path)

    def moved(poses):
        poses[0]["position"]["x"] += 3.0
        return poses

    changed_list(folder / name, moved)
    assert same(lifted(Log(folder), 0, FRONT, folder=tmp_path), lift(Log(folder), 0, FRONT))
    assert lifts == [0, 0]


DAMAGE = {
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a byte": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    "no archive": lambda data: b"\x80\x04." + data,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_replaced(folder, tmp_path, lifts, kind):
    log = Log(folder)
    right = lifted(log, 0, FRONT, folder=tmp_path)
    path = cached_at(tmp_path, log, 0, FRONT, (0,))
    data = path.read_bytes()
    path.write_bytes(DAMAGE[kind](data))
    assert same(lifted(log, 0, FRONT, folder=tmp_path), right)
    assert path.read_bytes() == data
    assert lifts == [0, 0]


def test_a_file_with_less_or_other_numbers_is_replaced(folder, tmp_path, lifts):
    log = Log(folder)
    lifted(log, 0, FRONT, folder=tmp_path)
    path = cached_at(tmp_path, log, 0, FRONT, (0,))
    arrays = dict(np.load(path))
    for wrong in ({"seen": arrays["seen"][:-1]}, {"points": arrays["points"].astype(np.float64)}, {"times": None}):
        np.savez(path, **{name: array for name, array in (arrays | wrong).items() if array is not None})
        assert same(lifted(log, 0, FRONT, folder=tmp_path), lift(log, 0, FRONT))
    assert lifts == [0] * 4


def test_writers_of_the_same_frame_do_not_disturb_each_other(folder, tmp_path, monkeypatch):
    together = threading.Barrier(6)

    def slow(*arguments):
        found = lift(*arguments)
        together.wait(timeout=300)
        return found

    monkeypatch.setattr(lift_cache, "lift", slow)
    log = Log(folder)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: lifted(log, 0, FRONT, folder=tmp_path / "cache"), range(6)))
    assert all(same(one, found[0]) for one in found)
    path = cached_at(tmp_path / "cache", log, 0, FRONT, (0,))
    assert [other.name for other in path.parent.iterdir()] == ["00.npz"]
    monkeypatch.setattr(lift_cache, "lift", None)
    assert same(lifted(log, 0, FRONT, folder=tmp_path / "cache"), found[0])


def test_what_cannot_be_lifted_leaves_nothing(folder, tmp_path):
    for path in (folder / "lidar").glob("00.pkl*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="00.pkl"):
        lifted(Log(folder), 0, FRONT, folder=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.npz"))


def test_the_real_frame(tmp_path):
    log = Log(real_frame())
    for _ in range(2):
        found = lifted(log, 0, FRONT, (0, 1), folder=tmp_path)
        assert [int((found.seen & (found.sensors == sensor)).sum()) for sensor in (0, 1)] == [13_533, 54_897]
        np.testing.assert_allclose(found.points + found.origin, log.sweep(0).points[_far(log)], atol=1e-4)
    assert cached_at(tmp_path, log, 0, FRONT, (0, 1)).stat().st_size < 26 * len(found.points)


def _far(log):
    return np.hypot(*(log.sweep(0).points - log.ego_to_world[0, :3, 3])[:, :2].T) >= 2.5
