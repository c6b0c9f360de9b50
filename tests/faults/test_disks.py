"""A disk that is full or may not be written to: one line says so, nothing half is there, and with room it goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from areas import RULES
from jobs import Count, Job, Running
from rounds import dealt, sampled
from test_kills import check_finished, check_outputs

pytestmark = pytest.mark.faults
LEVELS = 3
"""Of fullness, at which different files are written; a usual round makes one of them."""
PAGE = 4096


def whole_pages(size: int) -> int:
    """Return the bytes of a disk that a file of so many bytes takes; its log, which is short, fits into half a page."""
    return -(-size // PAGE) * PAGE


def leave(disk: Path, free: int) -> None:
    """Fill a disk until so much is free, or less than a page less (bytes)."""
    (disk / "ballast").unlink(missing_ok=True)
    size = shutil.disk_usage(disk).free - free
    with (disk / "ballast").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, whole_pages(size))


def said_in_one_line(running: Running, words: str) -> None:
    """Fail unless the last line, and no traceback, says what was wrong and with which file."""
    assert running.process.exitcode in (1, 2), running.said
    assert "Traceback" not in running.said, running.said
    assert "Logging error" not in running.said, running.said
    *_, last = running.said.splitlines()
    assert re.search(words, last), running.said
    assert re.search(r" \S*/\S", last.partition("] ")[2]), f"no file is named: {running.said}"


def of_a_kind(kind: int) -> list[str]:
    """Rules whose jobs meet one of the three kinds of disks here; in a full round each meets all."""
    return dealt(RULES, kind, 3, "disks")


@pytest.mark.parametrize("rule", of_a_kind(0))
def test_a_full_disk_is_said_in_one_line_and_with_room_the_job_finishes(
    rule: str, jobs: list[Job], finished: Path, small_disk: Path, count: Count
) -> None:
    for job in jobs:
        good = job.tried(finished)
        folder = good.copied(small_disk)
        sizes = [whole_pages(size) for size in good.sizes.values()]
        for level in sampled(range(LEVELS), 1, f"full disk, {rule}, level"):
            job.remove_outputs(folder)
            good.remove_written(folder)
            index = level * (len(sizes) - 1) // (LEVELS - 1)
            leave(small_disk, PAGE + sum(sizes[:index]) + sizes[index] // 2)  # a page of it for the log
            running = job.start(folder)
            running.wait()
            count("full disk")
            said_in_one_line(running, "No space left on device")
            check_outputs(job, folder, good.project)
            (small_disk / "ballast").unlink()
        job.remove_outputs(folder)
        job.finish(folder)
        check_finished(job, folder, good.project)
        shutil.rmtree(folder)


@pytest.mark.parametrize("rule", of_a_kind(1))
def test_a_file_that_cannot_grow_is_said_in_one_line_and_its_job_finishes_later(
    rule: str, jobs: list[Job], finished: Path, tmp_path: Path, count: Count
) -> None:
    """As where a quota is used up: the disk has room, and libraries that do not look whether they wrote say nothing."""
    for job in jobs:
        good = job.tried(finished)
        copy = good.copied(tmp_path)
        job.remove_outputs(copy)
        running = job.start(copy, largest=whole_pages(max(good.sizes.values())) // 2)
        if running.wait():
            count("file that cannot grow")
            said_in_one_line(running, "File too large|not written whole|structure from motion failed")
        check_outputs(job, copy, good.project)
        job.remove_outputs(copy)
        job.finish(copy)
        check_finished(job, copy, good.project)


@pytest.mark.parametrize("rule", of_a_kind(2))
def test_a_folder_that_may_only_be_read_is_said_in_one_line(
    rule: str, jobs: list[Job], finished: Path, small_disk: Path, tmp_path: Path, count: Count
) -> None:
    """The results' alone, so that the log is not what fails."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True, ignore=shutil.ignore_patterns("results"))
    shutil.copytree(finished / "results", small_disk / "results", symlinks=True)
    (folder / "results").symlink_to(small_disk / "results")
    for job in jobs[:1]:
        job.remove_outputs(folder)
        before = sorted(small_disk.rglob("*"))
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        running = job.start(folder)
        running.wait()
        count("read-only folder")
        said_in_one_line(running, "Read-only file system")
        assert sorted(small_disk.rglob("*")) == before
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        job.finish(folder)
