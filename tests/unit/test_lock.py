"""Locks: a single process works in a state folder at a time; a dead one is never in the way."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.scenes import write_gaussian_scene

from splatdag.workflow import lock as module
from splatdag.workflow.errors import Stopped
from splatdag.workflow.lock import exclusive, locked
from splatdag.workflow.publish import complete

HOLD = """
import sys, time
from pathlib import Path
from splatdag.workflow.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "state"


@pytest.fixture
def other(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_names_its_holder_and_is_gone_in_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    with exclusive(folder):
        host, holder = (folder / "lock").read_text().splitlines()
        assert host == socket.gethostname()
        assert holder.startswith(f"Slurm job 123 on {host}, since ")
        assert holder.endswith("(`scancel 123` stops it)")
    with pytest.raises(KeyError), exclusive(folder):
        raise KeyError
    assert not folder.parent.exists(), "however the work ends, and nothing that it made is left"


def test_what_else_lies_in_the_folder_stays(folder: Path) -> None:
    with exclusive(folder):
        (folder / "checkpoint.pt").touch()
    assert [path.name for path in folder.iterdir()] == ["checkpoint.pt"]


def test_a_second_process_is_stopped_while_the_first_lives(folder: Path, other: subprocess.Popen[str]) -> None:
    before = (folder / "lock").read_text()
    with pytest.raises(Stopped) as error, exclusive(folder):
        pass
    assert re.fullmatch(
        rf"{folder} is in use by process {other.pid} on {socket.gethostname()},"
        rf" since \S+ \(`kill {other.pid}` stops it\); when it has ended, run this again",
        str(error.value),
    )
    assert (folder / "lock").read_text() == before


def test_a_killed_holder_is_followed_at_once(
    folder: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("nobody is waited for"))
    other.kill()
    other.wait()
    with exclusive(folder):
        assert f"process {os.getpid()} on" in (folder / "lock").read_text()


def test_a_holder_on_another_machine_is_waited_for_until_the_file_server_frees_its_lock(
    folder: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            other.kill()
            other.wait()

    (folder / "lock").write_text("node7\nSlurm job 99 on node7\n")
    monkeypatch.setattr(module.time, "sleep", nap)
    with exclusive(folder):
        assert len(naps) == 3


def test_a_holder_on_another_machine_that_lives_stops_this_one(
    folder: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "lock").write_text("node7\nSlurm job 99 on node7 (`scancel 99` stops it)\n")
    monkeypatch.setattr(module, "FREED_SECONDS", 0.0)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    message = r"in use by Slurm job 99 on node7 \(`scancel 99` stops it\); when it has"
    with pytest.raises(Stopped, match=message), exclusive(folder):
        pass
    assert other.poll() is None


def test_a_folder_that_another_process_removes_just_then_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, removed = Path.mkdir, []

    def made_and_removed_once(self: Path, *args: Any, **options: Any) -> None:
        mkdir(self, *args, **options)
        if self == folder and not removed:
            removed.append(folder.rmdir())

    monkeypatch.setattr(Path, "mkdir", made_and_removed_once)
    with exclusive(folder):
        assert f"process {os.getpid()} on" in (folder / "lock").read_text()
    assert removed


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_a_file_system_has_no_locks_one_line_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def none_here(file: Any, kind: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none_here)
    module._warn_once.cache_clear()
    with exclusive(folder), complete(folder / "a.txt") as temporary:
        temporary.write_text("all")
    assert [record.message for record in caplog.records] == [
        "this file system has no locks: nothing keeps a second process from doing the same"
    ]
    assert (folder / "a.txt").read_text() == "all"


@pytest.mark.parametrize("hold", [locked, complete])
def test_of_many_at_once_each_has_its_turn_alone(tmp_path: Path, hold: Callable[[Path], Any]) -> None:
    """Each removes or replaces the file that the others wait for."""
    path, inside, seen = tmp_path / "x.lock", [], []

    def work() -> None:
        for _ in range(20):
            with hold(path) as temporary:
                inside.append(1)
                seen.append(len(inside))
                time.sleep(0.0005)
                if hold is complete:
                    temporary.write_text("all")
                else:
                    path.unlink()
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 160


def start(data: Path, run_dir: Path, log: Path) -> subprocess.Popen[str]:
    flags = [f"--data-dir={data}", f"--model={data / 'sparse' / '0'}", f"--result-dir={run_dir}", f"--log={log}"]
    options = ["--preset=small", "--max-steps=100000", "--checkpoint-every=5", "--test-every=4"]
    command = [sys.executable, "-m", "splatdag.scene.train", *flags, *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait(process: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    while not until():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def test_of_two_trainings_of_one_run_the_second_stops_and_a_killed_one_is_continued(tmp_path: Path) -> None:
    """From two projects, so that each has its own lock of Snakemake and its own log."""
    data, run_dir = write_gaussian_scene(tmp_path / "data"), tmp_path / "run"
    first = start(data, run_dir, tmp_path / "first.log")
    started = [first]
    try:
        wait(first, (run_dir / "state" / "checkpoint.pt").exists)
        started.append(second := start(data, run_dir, tmp_path / "second.log"))
        _, said = second.communicate()
        assert second.returncode == 75
        assert "Traceback" not in said
        assert f"stopped: {run_dir / 'state'} is in use by process {first.pid} on " in said.splitlines()[-1]
        assert first.poll() is None
        first.kill()
        first.wait()
        started.append(third := start(data, run_dir, log := tmp_path / "third.log"))
        wait(third, lambda: log.exists() and "continuing after step" in log.read_text())
        third.terminate()
        assert third.wait() == 75
        assert not (run_dir / "state" / "lock").exists()
    finally:
        for process in started:
            process.kill()
            process.wait()
