"""The record of the attempts at a stage: what each used, how it ended, whether one runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from splatdag.workflow.attempts import Attempt, State, Status, machine, read_attempts, recorded, stage_status
from splatdag.workflow.gpu_slots import JOBS_PER_GPU
from splatdag.workflow.manifest import Manifest, RunId, write_manifest

TOY = '''
"""A toy."""
import time
from pathlib import Path

from splatdag.workflow import attempts
from splatdag.workflow.errors import Stopped, UserError
from splatdag.workflow.gpu_slots import take_gpus
from splatdag.workflow.manifest import RunId, write_manifest
from splatdag.workflow.stage import Job, run

attempts.BEAT_SECONDS = 0.05


def main(out: Path, job: Job, end: str = "well", device_count: int = 0, wait: float = 0.0) -> None:
    """A toy stage.

    Args:
        out: manifest to write.
        job: how to run.
        end: how to end.
        device_count: GPUs.
        wait: seconds to work.
    """
    time.sleep(wait)
    if device_count:
        take_gpus(device_count, out.parent / "locks")
        attempts.this_attempt().use("toy GPU")
        time.sleep(wait)
    if end == "badly":
        raise UserError("photos: none\\nthere")
    if end == "crash":
        raise ZeroDivisionError("no views")
    if end == "early":
        raise Stopped("saved")
    if end == "never":
        print("working", flush=True)
        time.sleep(600)
    fields = {"options": {}, "inputs": {}, "device": "toy", "gaussians": 1, "steps": 1, "offset": []}
    write_manifest(out, "workflow.attempts", RunId.parse("toys/a/b"), {"train": 1.0}, **fields)


if __name__ == "__main__":
    run(main)
'''
RUN_ID = "toys/a/b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(TOY)
    return tmp_path


@pytest.fixture
def log(folder: Path) -> Path:
    return folder / "logs" / "toy.log"


def command(*arguments: str) -> list[str]:
    about = ["--out=manifest.json", "--log=logs/toy.log", "--threads=3", f"--run-id={RUN_ID}"]
    return [sys.executable, "-m", "toy", *about, *arguments]


@pytest.fixture
def run(folder: Path, log: Path) -> Callable[..., list[Attempt]]:
    """Run the toy; gives what its record says then."""

    def ended(*arguments: str, **environment: str) -> list[Attempt]:
        without_slurm = {name: value for name, value in os.environ.items() if name != "SLURM_JOB_ID"}
        environment = without_slurm | environment
        done = subprocess.run(command(*arguments), cwd=folder, env=environment, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return read_attempts(log.with_suffix(".attempts.json"))

    return ended


@pytest.fixture
def working(folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start the toy, which works until it is ended."""
    started = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command("--end=never"), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_an_attempt_is_recorded_beside_its_log(run: Callable[..., list[Attempt]]) -> None:
    begin = time.time()
    [attempt] = run("--wait=0.3")
    assert (attempt.stage, attempt.run, attempt.machine) == ("toy", RUN_ID, machine())
    assert (attempt.end, attempt.threads, attempt.gpus, attempt.gpu_seconds, attempt.job) == ("finished", 3, 0, 0, None)
    assert 0.3 <= attempt.seconds <= time.time() - begin + 1, "the kernel tells the start of a process to the second"
    assert attempt.device


def test_how_an_attempt_ended_is_its_status(run: Callable[..., list[Attempt]], log: Path) -> None:
    assert stage_status(log) == Status(State.WAITING)
    assert stage_status(log / "below" / "a.log").state == "waiting"
    for end, status in {
        "badly": Status(State.FAILED, "photos: none there"),
        "crash": Status(State.FAILED, "ZeroDivisionError: no views"),
        "early": Status(State.STOPPED, "saved"),
        "well": Status(State.DONE),
    }.items():
        run(f"--end={end}")
        assert stage_status(log) == status


def test_a_stage_runs_until_it_is_killed_or_told_to_stop(
    working: Callable[[], subprocess.Popen[str]], log: Path
) -> None:
    process = working()
    assert stage_status(log).state == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    reason = f"ended without a word: killed, out of memory or a crash; see {log}"
    assert stage_status(log) == Status(State.KILLED, reason)
    process = working()
    assert stage_status(log).state == "running"
    process.terminate()
    process.wait()
    status = stage_status(log)
    assert (status.state, status.reason[:12]) == ("stopped", "told to stop")


def test_attempts_that_failed_were_stopped_or_killed_count_until_one_finishes(
    run: Callable[..., list[Attempt]], working: Callable[[], subprocess.Popen[str]], folder: Path, log: Path
) -> None:
    run("--end=badly")
    run("--end=early")
    killed, record = working(), log.with_suffix(".attempts.json")
    begin = read_attempts(record)[-1].seconds
    while read_attempts(record)[-1].seconds < begin + 0.2:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    attempts = run()
    assert [attempt.end for attempt in attempts] == ["failed", "stopped", "", "finished"]
    assert attempts[2].seconds >= begin + 0.2, "what it used before the kill, but for the last moment"
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    assert [attempt.end for attempt in manifest.usage] == ["failed", "stopped", "", "finished"]
    assert manifest.usage[:3] == attempts[:3]
    assert 0 < manifest.usage[3].seconds <= attempts[3].seconds
    assert [attempt.end for attempt in run()] == ["finished"], "another result has attempts of its own"


def test_a_damaged_record_is_begun_anew(run: Callable[..., list[Attempt]], log: Path) -> None:
    run("--end=badly")
    log.with_suffix(".attempts.json").write_text("[{")
    assert stage_status(log).state == "waiting"
    assert [attempt.end for attempt in run()] == ["finished"]


def test_a_second_process_of_a_running_stage_is_refused_and_disturbs_nothing(
    working: Callable[[], subprocess.Popen[str]], folder: Path, log: Path
) -> None:
    working()
    second = subprocess.run(command(), cwd=folder, capture_output=True, text=True)
    message = "logs/toy.log: another process is running this stage; wait for it or stop it\n"
    assert (second.returncode, second.stderr) == (2, message)
    assert stage_status(log).state == "running"


@pytest.mark.parametrize(
    ("changes", "ago", "state"),
    [
        pytest.param({"machine": "0123abcd"}, 20, "running", id="another machine, lately noted"),
        pytest.param({"machine": "0123abcd"}, 600, "killed", id="another machine, silent for long"),
        pytest.param({"started": "2026-02-01T10:00:00Z"}, 20, "killed", id="another process has its number now"),
        pytest.param({"started": "at noon"}, 20, "killed", id="no time"),
    ],
)
def test_an_attempt_without_an_end_runs_while_its_process_lives(
    tmp_path: Path, changes: dict[str, str], ago: float, state: str
) -> None:
    log = tmp_path / "a.log"
    with recorded("toy", log, "processor", 2):
        assert stage_status(log).state == "running"
        record = log.with_suffix(".attempts.json")
        [about] = json.loads(record.read_text())
        record.write_text(json.dumps([about | changes]))
        os.utime(record, (time.time() - ago,) * 2)
        assert stage_status(log).state == state


def test_under_slurm_gpus_are_held_from_the_start_of_the_process(run: Callable[..., list[Attempt]]) -> None:
    [attempt] = run("--device-count=2", "--gpu-class=h100", "--wait=0.2", SLURM_JOB_ID="17")
    assert (attempt.gpus, attempt.gpu_class, attempt.job, attempt.device) == (2, "h100", "17", "toy GPU")
    assert attempt.gpu_seconds == pytest.approx(2 * attempt.seconds, abs=0.02)


@pytest.mark.parametrize(("jobs_per_gpu", "share"), [("1", 1), ("4", 0.25)])
def test_elsewhere_gpus_count_once_they_are_taken_and_in_part_where_they_are_shared(
    run: Callable[..., list[Attempt]], jobs_per_gpu: str, share: float
) -> None:
    local = {"CUDA_VISIBLE_DEVICES": "0", JOBS_PER_GPU: jobs_per_gpu}
    [attempt] = run("--device-count=1", "--gpu-class=any", "--wait=0.4", **local)
    assert attempt.gpus == share
    assert 0.4 * share <= attempt.gpu_seconds <= (attempt.seconds - 0.4) * share


def test_the_manifest_of_a_stage_without_a_log_tells_of_its_attempt(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"options": {}, "inputs": {}, "device": "x", "gaussians": 1, "steps": 1, "offset": []}
    with recorded("toy", None, "processor", 2):
        write_manifest(tmp_path / "manifest.json", "workflow.attempts", RunId.parse(RUN_ID), {}, **fields)
    [attempt] = json.loads((tmp_path / "manifest.json").read_text())["usage"]
    assert (attempt["device"], attempt["end"]) == ("processor", "finished")
    assert list(tmp_path.iterdir()) == [tmp_path / "manifest.json"]
    write_manifest(tmp_path / "manifest.json", "workflow.attempts", RunId.parse(RUN_ID), {}, **fields)
    assert json.loads((tmp_path / "manifest.json").read_text())["usage"] == []
