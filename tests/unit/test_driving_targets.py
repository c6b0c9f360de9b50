"""What a job reads of driving logs, as rules know it: an edit changes the digest, a touch or a stray file does not."""

from __future__ import annotations

import os

import pytest
from pandaset_logs import changed_list, write_metadata

from splatdag.driving.targets import SAMPLE, checked_index, driving_logs, lines_of, logs_digest
from splatdag.workflow.errors import UserError

FRONT = ("front_camera",)


@pytest.fixture
def logs(tmp_path):
    for name in ("001", "002"):
        write_metadata(tmp_path / "data", name, frames=3)
    return driving_logs(str(tmp_path / "data"), "results", ())


def digests(logs, tmp_path):
    """Of the lists, of what one camera's clips need, of a single log, and of everything."""
    cache = tmp_path / "cache"
    return (
        logs_digest(logs, cache, cameras=FRONT, opened=False),
        logs_digest(logs, cache, cameras=FRONT, opened=True),
        logs_digest(logs, cache, ["002"], FRONT, opened=True),
        logs_digest(logs, cache, opened=True, annotated=True),
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
    assert logs_digest(logs, tmp_path / "cache", opened=False)
    with pytest.raises(UserError, match=r"001/lidar/02\.pkl\.gz: No such file or directory"):
        logs_digest(logs, tmp_path / "cache", opened=True)


def test_lists_are_read_once(logs, tmp_path, monkeypatch):
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
