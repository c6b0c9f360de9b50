"""What is said about a folder that can't be run in, and what is cancelled."""

import json
import os
import subprocess
import sys
import time

import pytest
from support.processes import run_module

from splatdag.workflow.attempts import machine
from splatdag.workflow.doctor import advice, lock_age
from splatdag.workflow.slurm import LiveJob

JOBS = [LiveJob(str(number), "RUNNING" if number == 7 else "PENDING", "run", "train_capture room") for number in (7, 8)]
RUN = "splatdag_01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture
def locked(tmp_path):
    """Lock a folder as Snakemake does, some seconds ago."""

    def lock(seconds):
        folder = tmp_path / ".snakemake" / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("0.input.lock", "0.output.lock"):
            (folder / name).write_text("results/x\n")
            os.utime(folder / name, (time.time() - seconds,) * 2)
        return tmp_path

    return lock


def test_a_folder_without_lock_and_jobs_is_fine(tmp_path):
    assert advice(tmp_path, []) == ["nothing in the way: no lock, no jobs of this folder"]


@pytest.mark.parametrize(("seconds", "age"), [(5, "0 min"), (3599, "59 min"), (2 * 3600 + 61, "2 h 1 min")])
def test_the_age_of_a_lock_is_told(locked, seconds, age):
    assert lock_age(locked(seconds)) == age


def test_a_lock_without_a_process_is_explained_with_the_command_that_removes_it(locked):
    lines = advice(locked(600), [])
    assert lines[0].startswith("a lock from 10 min ago, and no Snakemake in this folder on this machine")
    assert lines[1].split("#")[0].strip() == "snakemake --unlock"


def test_a_lock_whose_snakemake_runs_is_its_own(locked):
    folder = locked(600)
    (folder / "snakemake").write_text("import time\ntime.sleep(600)\n")
    running = subprocess.Popen([sys.executable, "snakemake"], cwd=folder)
    try:
        lines = advice(folder, [])
    finally:
        running.kill()
        running.wait()
    assert f"process {running.pid}" in lines[0]
    assert [line.split("#")[0].strip() for line in lines[1:]] == [
        f"kill -TERM {running.pid}",
        f"kill -TERM -- -{os.getpgid(0)}",
    ]
    assert not any("--unlock" in line for line in lines)


def test_stages_of_a_killed_run_are_told_with_the_command_that_makes_them(tmp_path):
    about = {"started": "2026-02-01T10:00:00Z", "seconds": 60, "host": "a", "device": "processor", "threads": 2}
    for name, end in (("captures/a b/pose", ""), ("captures/a b/train", ""), ("captures/c/pose", "failed")):
        path = tmp_path / "logs" / f"{name}.attempts.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([about | {"end": end, "machine": machine()}]))
    lines = advice(tmp_path, [])
    assert lines[0].startswith("2 stages were killed")
    assert lines[1:3] == [f"    {tmp_path}/logs/captures/a b/{stage}.log" for stage in ("pose", "train")]
    assert lines[3].split("#")[0].strip() == "snakemake --rerun-incomplete"
    assert not any("rerun-incomplete" in line for line in advice(tmp_path, JOBS)), "they are being made"


def test_a_stage_without_a_snakemake_is_told_with_the_command_that_stops_it(tmp_path):
    (tmp_path / "splatdag").mkdir()
    (tmp_path / "splatdag" / "__init__.py").touch()
    (tmp_path / "splatdag" / "work.py").write_text("import time\ntime.sleep(600)\n")
    running = subprocess.Popen([sys.executable, "-m", "splatdag.work"], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    try:
        lines = advice(tmp_path, [])
    finally:
        running.kill()
        running.wait()
    assert lines[0].startswith(f"splatdag.work runs here (process {running.pid}) without a Snakemake")
    assert lines[1].split() == ["kill", str(running.pid)]


def test_jobs_are_listed_with_the_command_that_cancels_them(tmp_path):
    assert advice(tmp_path, JOBS) == [
        "jobs of this folder in Slurm, of 1 run: 1 pending, 1 running",
        "    7  running  train_capture room",
        "    8  pending  train_capture room",
        "    python -m splatdag.commands.doctor --cancel",
    ]
    assert advice(tmp_path, JOBS, cancelled=True)[-1] == "    cancelled"


def test_cancel_ends_the_jobs_of_this_folder_and_no_others(tmp_path):
    rows = [
        f"1|RUNNING|{RUN}|{tmp_path}|rule_train_capture_wildcards_room_single",
        f"2|RUNNING|{RUN}|{tmp_path}/other|rule_train_capture_wildcards_room_single",
        f"3|RUNNING|interactive|{tmp_path}|(null)",
        f"4|PENDING|{RUN}|{tmp_path}|rule_pose_capture_wildcards_a|b",
    ]
    (tmp_path / "squeue").write_text(f"#!/bin/sh\ncat <<'end'\n{chr(10).join(rows)}\nend\n")
    (tmp_path / "scancel").write_text(
        f'#!{sys.executable}\nimport json, sys\nopen("cancelled", "w").write(json.dumps(sys.argv[1:]))\n'
    )
    for name in ("squeue", "scancel"):
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = run_module("splatdag.commands.doctor", "--cancel", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "cancelled").read_text()) == ["1", "4"]
    assert "of 1 run: 1 pending, 1 running" in done.stdout


def test_without_slurm_the_lock_is_explained_all_the_same(locked):
    folder = locked(60)
    environment = os.environ | {"PATH": str(folder)}
    command = ["splatdag.commands.doctor", "--directory", folder]
    done = run_module(*command, env=environment)
    assert done.returncode == 0
    assert done.stdout.startswith("jobs in Slurm are not known: squeue: not found")
    assert "snakemake --unlock" in done.stdout
    done = run_module(*command, "--cancel", env=environment)
    assert done.returncode == 2
