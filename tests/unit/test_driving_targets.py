"""What a job reads of driving logs, as rules know it: an edit changes the digest, a touch or a stray file does not."""

from __future__ import annotations

import os

import pytest
from support.pandaset_logs import changed_list, swapped, write_metadata

from splatdag.driving.logs.contents import logs_digest
from splatdag.driving.logs.folders import CAMERAS
from splatdag.driving.targets import SAMPLE, checked_index, driving_logs, lines_of
from splatdag.workflow.errors import UserError

FRONT = ("front_camera",)


@pytest.fixture
def logs(tmp_path):
    for name in ("001", "002"):
        log = write_metadata(tmp_path / "data", name, frames=3)
        for path in (log / "lidar" / "00.pkl.gz", log / "camera" / "front_camera" / "00.jpg"):
            path.write_bytes(b"full")
    return driving_logs(str(tmp_path / "data"), "results", ())


def digest(logs, tmp_path, names=None, cameras=CAMERAS, **of):
    return logs_digest(tmp_path / "data", names or logs.names, tmp_path / "cache", cameras, **of)


def digests(logs, tmp_path):
    """Of the lists, of what one camera's clips need, of a single log, and of everything."""
    return (
        digest(logs, tmp_path, cameras=FRONT, opened=False),
        digest(logs, tmp_path, cameras=FRONT, opened=True),
        digest(logs, tmp_path, ["002"], FRONT, opened=True),
        digest(logs, tmp_path, opened=True, annotated=True),
    )


CHANGES = {
    "touched": (lambda log: [os.utime(path) for path in log.rglob("*")], ""),
    "a stray file": (lambda log: (log / "camera" / "front_camera" / "thumbs.jpg").touch(), ""),
    "a hidden file": (lambda log: (log / "lidar" / ".00.pkl.gz.swp").touch(), ""),
    "a pose": (
        lambda log: changed_list(log / "lidar" / "poses.json", lambda poses: [*poses[:2], poses[0]]),
        "lists one all",
    ),
    "a table": (lambda log: (log / "lidar" / "01.pkl.gz").write_bytes(b"1"), "one all"),
    "a table of equal size and time": (lambda log: swapped(log / "lidar" / "00.pkl.gz"), "one all"),
    "an image of equal size and time": (lambda log: swapped(log / "camera" / "front_camera" / "00.jpg"), "one all"),
    "a list of equal size and time": (lambda log: swapped(log / "lidar" / "timestamps.json"), "lists one all"),
    "unpacked": (lambda log: (log / "lidar" / "01.pkl.gz").rename(log / "lidar" / "01.pkl"), "lists one all"),
    "an image": (lambda log: (log / "camera" / "front_camera" / "01.jpg").write_bytes(b"1"), "one all"),
    "an image gone": (lambda log: (log / "camera" / "front_camera" / "01.jpg").unlink(), "lists one all"),
    "another camera": (lambda log: (log / "camera" / "back_camera" / "01.jpg").write_bytes(b"1"), "all"),
    "boxes": (lambda log: _write(log / "annotations" / "cuboids" / "00.pkl"), "all"),
    "gps": (lambda log: _write(log / "meta" / "gps.json"), "all"),
}


def _write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[]")


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("of", ["001", "002"])
def test_what_changes_which_digest(logs, tmp_path, name, of):
    change, counts = CHANGES[name]
    before = digests(logs, tmp_path)
    assert digests(logs, tmp_path) == before
    change(tmp_path / "data" / of)
    changed = [old != new for old, new in zip(before, digests(logs, tmp_path), strict=True)]
    assert changed == ["lists" in counts, "one" in counts, "one" in counts and of == "002", "all" in counts]


def test_a_broken_link_is_one_line(logs, tmp_path):
    (tmp_path / "data" / "001" / "lidar" / "02.pkl.gz").unlink()
    (tmp_path / "data" / "001" / "lidar" / "02.pkl.gz").symlink_to("nowhere")
    assert digest(logs, tmp_path, opened=False)
    with pytest.raises(UserError, match=r"001/lidar/02\.pkl\.gz: can.t be read: No such file or directory"):
        digest(logs, tmp_path, opened=True)


def test_files_are_read_once(logs, tmp_path, monkeypatch):
    before = digests(logs, tmp_path)
    monkeypatch.setattr("splatdag.workflow.digests.file_digest", None)
    assert digests(logs, tmp_path) == before


def test_the_sample_is_known_before_it_is_there():
    logs = driving_logs(SAMPLE, "results", ("001", "002"))
    assert (logs.root, logs.names) == ("results/samples/street", ("001", "002"))


def test_what_is_not_there_is_one_line(logs, tmp_path):
    logs.checked(["001"])
    with pytest.raises(UserError, match=r"config\.driving\.check\.scenes: .* has no log '009'"):
        logs.checked(["009"], "check.scenes")
    with pytest.raises(UserError, match=r"config\.driving\.data_root: .* has no PandaSet logs"):
        driving_logs(str(tmp_path / "nowhere"), "results", ()).checked()
    for path, message in (("a.pkl", "no such file"), ("a.txt", r"expected a \.pkl or \.jsonl file")):
        with pytest.raises(UserError, match=message):
            checked_index(str(tmp_path / path))


def test_the_lines_lie_beside_the_pickle():
    assert lines_of("<results>/driving/index/a.clips.pkl") == "<results>/driving/index/a.clips.jsonl"
