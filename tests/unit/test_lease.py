"""One process works in a state folder at a time; a dead one is never in the way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.scenes import write_gaussian_scene

from splatdag.workflow import lease as module
from splatdag.workflow.errors import Stopped
from splatdag.workflow.lease import Holder, lease
from splatdag.workflow.publish import machine

HOLD = """
import sys, time
from pathlib import Path
from splatdag.workflow import lease
lease.BEAT_SECONDS = 0.05
with lease.lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "state"


@pytest.fixture
def other(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process of this machine, which holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def elsewhere(folder: Path) -> Callable[..., Path]:
    """Write the lease of a process on another machine, with a last sign of life so many seconds ago."""

    def write(ago: float, **changes: object) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        about = {"host": "node7", "machine": "0123abcd", "process": 4711, "started": 1.0, "job": "99"}
        path = folder / "lease.json"
        path.write_text(json.dumps({**about, "since": "2026-11-21T10:00:00Z", **changes}))
        os.utime(path, (time.time() - ago,) * 2)
        return path

    return write


def test_a_lease_names_its_holder_and_is_gone_in_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    with lease(folder):
        holder = json.loads((folder / "lease.json").read_text())
        assert (holder["host"], holder["process"], holder["job"]) == (socket.gethostname(), os.getpid(), "123")
    with pytest.raises(KeyError), lease(folder):
        raise KeyError
    assert not folder.parent.exists(), "however the work ends, and nothing that it made is left"


def test_what_else_lies_in_the_folder_stays(folder: Path) -> None:
    with lease(folder):
        (folder / "checkpoint.pt").touch()
    assert [path.name for path in folder.iterdir()] == ["checkpoint.pt"]
    (folder / "checkpoint.pt").unlink()
    with lease(folder):
        pass
    assert folder.exists(), "a folder that was there before"


def test_the_lease_of_a_folder_that_was_removed_is_no_trouble(folder: Path) -> None:
    """A training removes its state when it is published."""
    with lease(folder):
        (folder / "lease.json").unlink()
        folder.rmdir()
    assert not folder.exists()


def test_a_folder_that_another_process_removes_just_then_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, removed = Path.mkdir, []

    def made_and_removed_once(self: Path, *args: Any, **options: Any) -> None:
        mkdir(self, *args, **options)
        if self == folder and not removed:
            removed.append(folder.rmdir())

    monkeypatch.setattr(Path, "mkdir", made_and_removed_once)
    with lease(folder):
        assert json.loads((folder / "lease.json").read_text())["process"] == os.getpid()
    assert removed


def test_a_second_process_is_stopped_while_the_first_lives(folder: Path, other: subprocess.Popen[str]) -> None:
    before = (folder / "lease.json").read_text()
    with pytest.raises(Stopped) as error, lease(folder):
        pass
    since = json.loads(before)["since"]
    assert str(error.value) == (
        f"{folder} is in use by process {other.pid} on {socket.gethostname()}, since {since}"
        f" (`kill {other.pid}` stops it); when it has ended, run this again"
    )
    assert (folder / "lease.json").read_text() == before


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_holder_of_this_machine_is_followed_at_once(
    folder: Path, other: subprocess.Popen[str], reaped: bool
) -> None:
    other.kill()
    while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    if reaped:
        other.wait()
    begin = time.monotonic()
    with lease(folder):
        assert json.loads((folder / "lease.json").read_text())["process"] == os.getpid()
    assert time.monotonic() - begin < module.SILENT_SECONDS / 4


def test_another_process_with_the_number_of_a_dead_holder_is_not_taken_for_it(
    elsewhere: Callable[..., Path], folder: Path
) -> None:
    elsewhere(0, host=socket.gethostname(), machine=machine(), process=os.getpid(), started=1.0)
    with lease(folder):
        pass


def test_a_holder_on_another_machine_that_shows_life_stops_this_one(
    elsewhere: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = elsewhere(5)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: os.utime(path, (time.time(),) * 2))
    with pytest.raises(Stopped) as error, lease(folder):
        pass
    assert str(error.value) == (
        f"{folder} is in use by Slurm job 99 on node7, since 2026-11-21T10:00:00Z (`scancel 99` stops it); when it has"
        " ended, run this again"
    )


@pytest.mark.parametrize("ago", [5, -200, 3 * 86_400])
def test_a_silent_holder_on_another_machine_is_followed_after_a_bounded_time(
    elsewhere: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch, ago: float
) -> None:
    """Its clock may be fast or slow."""
    naps, sleep = [], time.sleep
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.6)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: (naps.append(seconds), sleep(seconds)))
    elsewhere(ago)
    begin = time.monotonic()
    with lease(folder):
        waited = time.monotonic() - begin
        assert json.loads((folder / "lease.json").read_text())["process"] == os.getpid()
    assert bool(naps) == (abs(ago) < 600)
    assert waited >= 0.6 or not naps


def test_a_holder_on_a_machine_of_the_same_name_is_watched_for_signs_of_life(
    elsewhere: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process number says nothing here, though the first namespace of all machines has the same name."""
    path = elsewhere(5, host=socket.gethostname(), process=2**22 - 1)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: os.utime(path, (time.time(),) * 2))
    with pytest.raises(Stopped), lease(folder):
        pass


def test_a_holder_from_before_this_machine_was_started_anew_is_followed(
    elsewhere: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a process has its number now."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.3)
    elsewhere(5, host=socket.gethostname(), process=os.getpid(), started=psutil.Process().create_time())
    with lease(folder):
        assert json.loads((folder / "lease.json").read_text())["machine"] == machine()


def test_a_lease_that_cannot_be_written_whole_is_named_and_leaves_nothing(folder: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from splatdag.workflow.lease import lease
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
try:
    with lease(Path({str(folder)!r})):
        pass
except OSError as error:
    print(error.filename)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{folder / 'lease.json'}\n"
    assert not folder.parent.exists()


@pytest.mark.parametrize("data", [b"", b'{"host": "node7', b"\xff", b'{"host": "node\xff"}'])
def test_a_lease_that_a_kill_or_a_bad_disk_left_unreadable_is_followed(
    elsewhere: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.3)
    elsewhere(5).write_bytes(data)
    with lease(folder):
        pass


def test_of_two_that_find_a_dead_holder_one_goes_on(
    elsewhere: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, judge = elsewhere(86_400), module._gives_signs_of_life
    alive = Holder.model_validate_json(path.read_text()).model_copy(update={"process": 1})

    def overtaken(of: Path, holder: Holder | None) -> bool:
        if holder == alive:
            return True
        answer = judge(of, holder)
        path.write_text(alive.model_dump_json())  # the other was faster
        return answer

    monkeypatch.setattr(module, "_gives_signs_of_life", overtaken)
    with pytest.raises(Stopped), lease(folder):
        pass
    assert Holder.model_validate_json(path.read_text()) == alive


def test_a_holder_shows_life_and_ends_once_its_lease_is_another_s(folder: Path, other: subprocess.Popen[str]) -> None:
    """As one that was suspended for long does when it wakes up."""
    path = folder / "lease.json"
    os.utime(path, (1, 1))
    deadline = time.monotonic() + 20
    while path.stat().st_mtime < time.time() - 10:
        assert time.monotonic() < deadline, "no sign of life"
        time.sleep(0.02)
    taken = Holder.model_validate_json(path.read_text()).model_copy(update={"host": "node8"})
    path.write_text(taken.model_dump_json())
    assert other.wait(timeout=20) == 75
    assert Holder.model_validate_json(path.read_text()) == taken


def start(data: Path, run_dir: Path, log: Path) -> subprocess.Popen[str]:
    flags = [f"--data-dir={data}", f"--model={data / 'sparse' / '0'}", f"--result-dir={run_dir}", f"--log={log}"]
    options = ["--preset=small", "--max-steps=100000", "--checkpoint-every=5", "--test-every=4"]
    command = [sys.executable, "-m", "splatdag.scene.train", *flags, *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait(process: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_of_two_trainings_of_one_run_the_second_stops_and_a_killed_one_is_continued(tmp_path: Path) -> None:
    """From two projects, so that each has its own lock of Snakemake and its own log."""
    data, run_dir = write_gaussian_scene(tmp_path / "data"), tmp_path / "run"
    first = start(data, run_dir, tmp_path / "first.log")
    started = [first]
    try:
        wait(first, (run_dir / "state" / "checkpoint.pt").exists)
        started.append(second := start(data, run_dir, tmp_path / "second.log"))
        _, said = second.communicate(timeout=60)
        assert second.returncode == 75
        assert "Traceback" not in said
        assert f"stopped: {run_dir / 'state'} is in use by process {first.pid} on " in said.splitlines()[-1]
        assert first.poll() is None
        first.kill()
        started.append(third := start(data, run_dir, log := tmp_path / "third.log"))
        wait(third, lambda: log.exists() and "continuing after step" in log.read_text())
        assert f"taking over from process {first.pid} on " in log.read_text()
        third.terminate()
        assert third.wait(timeout=60) == 75
        assert not (run_dir / "state" / "lease.json").exists()
    finally:
        for process in started:
            process.kill()
            process.communicate()
