"""What a log tells about the last attempt at a stage."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from splatdag.workflow.attempts import Attempt, State, read_attempt

HEADER = "2026-02-01 10:00:00 started splatdag.scene.train (process 12)\n2026-02-01 10:00:00 --max-steps 10\n"
STEP = "2026-02-01 10:00:30 step 300 of 1000\n"
DONE = "2026-02-01 10:01:00 finished in 60.0 s\n"
FAILED = "2026-02-01 10:02:00 failed: photos/room: 2 photos; at least 3 are needed\n"
STOPPED = "2026-02-01 10:03:00 stopped: state saved at step 300\n"

STAGE = """
import sys, time, types
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job, run

def main(how: str, job: Job) -> None:
    if how == "wrong":
        raise UserError("photos: none there")
    if how == "crash":
        raise ZeroDivisionError("no views\\nat all")
    if how == "wait":
        print("ready", flush=True)
        time.sleep(60)

run(main)
"""


@pytest.fixture
def log(tmp_path):
    return tmp_path / "train.log"


@pytest.fixture
def stage(tmp_path, log):
    """Start a real stage that writes `log`: it ends at once, or waits to be told to."""
    script = tmp_path / "stage.py"
    script.write_text(STAGE)

    def start(how):
        command = [sys.executable, str(script), "--how", how, "--log", str(log)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if how == "wait":
            assert process.stdout.readline() == b"ready\n"
        else:
            process.wait(timeout=60)
        return process

    return start


def test_a_stage_without_a_log_waits(log):
    assert read_attempt(log) == Attempt(State.WAITING)
    assert read_attempt(log / "below" / "a.log").state == "waiting"


def test_real_stages_are_read_as_they_end(log, stage):
    stage("well")
    assert (read_attempt(log).state, read_attempt(log).attempts) == ("done", 1)
    stage("wrong")
    assert (read_attempt(log).state, read_attempt(log).reason) == ("failed", "photos: none there")
    stage("crash")
    assert read_attempt(log).reason == "ZeroDivisionError: no views at all"
    assert read_attempt(log).attempts == 3


def test_a_real_stage_runs_until_it_is_killed_or_told_to_stop(log, stage):
    process = stage("wait")
    assert read_attempt(log).state == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    attempt = read_attempt(log)
    assert attempt.state == "killed"
    assert attempt.reason == f"ended without a word: killed, out of memory or a crash; see {log}"
    process = stage("wait")
    assert (read_attempt(log).state, read_attempt(log).attempts) == ("running", 2)
    process.terminate()
    process.wait()
    assert read_attempt(log).state == "stopped"
    assert read_attempt(log).reason.startswith("told to stop")


@pytest.mark.parametrize(
    ("text", "state", "reason", "when"),
    [
        (HEADER + STEP + DONE, "done", "", "2026-02-01 10:01:00"),
        (HEADER + FAILED, "failed", "photos/room: 2 photos; at least 3 are needed", "2026-02-01 10:02:00"),
        (HEADER + STEP + STOPPED, "stopped", "state saved at step 300", "2026-02-01 10:03:00"),
        (HEADER + FAILED + HEADER + DONE, "done", "", "2026-02-01 10:01:00"),
    ],
)
def test_the_last_attempt_counts(log, text, state, reason, when):
    log.write_text(text)
    attempt = read_attempt(log)
    assert (attempt.state, attempt.reason, attempt.when) == (state, reason, when)


def test_an_attempt_after_a_failure_that_has_no_end_was_killed(log):
    log.write_text(HEADER + FAILED + HEADER + STEP)
    assert read_attempt(log).state == "killed"
    assert read_attempt(log).attempts == 2
    assert read_attempt(log).when == "2026-02-01 10:00:00"


def test_words_of_an_ending_inside_an_attempt_do_not_end_it(log):
    log.write_text(HEADER + "2026-02-01 10:00:20 failed: view 3, tried again\n" + STEP)
    assert read_attempt(log).state == "killed"


def test_a_header_on_the_half_line_of_a_killed_attempt_is_found(log):
    log.write_text(HEADER + "2026-02-01 10:00:30 step 30" + HEADER + DONE)
    assert (read_attempt(log).state, read_attempt(log).attempts) == ("done", 2)


def test_binary_junk_is_read_over(log):
    log.write_bytes(os.urandom(3000) + b"\n" + HEADER.encode() + b"\xff\xfe\0\n" + FAILED.encode() + b"\0" * 4096)
    assert read_attempt(log).state == "failed"
    log.write_bytes(b"\x80" * 200_000)
    assert read_attempt(log).state == "waiting"


def test_a_huge_log_is_read_from_its_ends(log):
    with log.open("w") as file:
        file.write(HEADER)
        file.truncate(3_000_000_000)
        file.seek(0, os.SEEK_END)
        file.write("\n" + STEP * 5000)
    assert read_attempt(log).state == "killed"
    with log.open("a") as file:
        file.write(DONE)
    assert (read_attempt(log).state, read_attempt(log).attempts) == ("done", 1)


def test_a_log_that_no_stage_wrote_tells_nothing(log):
    log.write_text("slurmstepd: error: Detected 1 oom_kill event\n")
    assert read_attempt(log).state == "waiting"


def test_reading_leaves_no_lock_behind(log):
    log.write_text(HEADER)
    assert read_attempt(log).state == "killed"
    with log.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert read_attempt(log).state == "running"


@pytest.mark.parametrize(
    ("host", "end", "ago", "state"),
    [
        pytest.param("node7", "", 20, "running", id="a fresh note of another machine, whose locks are not seen here"),
        pytest.param("node7", "", 600, "killed", id="an old one"),
        pytest.param("node7", "failed", 20, "killed", id="one of an attempt before"),
        pytest.param(socket.gethostname(), "", 20, "killed", id="this machine, where the lock tells"),
    ],
)
def test_a_stage_on_another_machine_runs_while_it_notes_its_usage(log, host, end, ago, state):
    log.write_text(HEADER + STEP)
    about = {"started": "2026-02-01T10:00:00Z", "seconds": 30, "device": "D", "threads": 2, "host": host, "end": end}
    note = log.with_suffix(".usage.json")
    note.write_text(json.dumps([about]))
    os.utime(note, (time.time() - ago,) * 2)
    assert read_attempt(log).state == state
