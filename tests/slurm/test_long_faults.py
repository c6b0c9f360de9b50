"""Faults that take minutes to show; `make test-slurm` runs them too."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from projects import TRAINING

pytestmark = pytest.mark.slurm_long


def test_before_its_time_limit_a_training_saves_its_state_and_the_retry_goes_on(posed):
    """Three minutes, so that the signal two minutes before their end comes after one."""
    posed.configure(
        "capture,data_dir,resources.train.runtime\nlimited,../data,3\n",
        captures={"train": TRAINING | {"max_steps": 15_000}},
    )
    done = posed.run("captures")
    assert done.returncode == 0, done.stdout
    first, second, *_ = posed.history("limited")
    assert (first["time"], second["time"]) == ("3:00", "6:00")
    assert first["state"] == "FAILED", "it ended by itself, before the limit"
    stopped = int(re.search(r"stopped: state saved after step (\d+)", posed.slurm_log("limited", 0))[1])
    assert 0 < stopped < 15_000
    assert posed.continued("limited") >= stopped
    assert posed.manifest("limited")["exit_reason"] == "finished"


def test_half_a_minute_without_the_controller_costs_no_training(posed, box):
    """One job runs meanwhile, another is submitted."""
    posed.configure(
        "capture,data_dir\nfirst,../data\nsecond,../data\n", captures={"train": TRAINING | {"max_steps": 2000}}
    )
    run = posed.start("captures", "--max-jobs-per-timespan", "1/15s")
    box.wait("a running job", lambda: "RUNNING" in box.ask("squeue", "-h", "-o", "%T"))
    box.stop_controller()
    time.sleep(30)
    box.start_controller()
    done = posed.end(run)
    assert done.returncode == 0, done.stdout
    for capture in ("first", "second"):
        assert posed.manifest(capture)["exit_reason"] == "finished"


def test_after_a_killed_snakemake_its_jobs_are_not_run_twice(posed, box):
    posed.configure("capture,data_dir\norphaned,../data\n", captures={"train": TRAINING | {"max_steps": 3000}})
    run = posed.start("captures")
    posed.wait_for_state("orphaned")
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    [job] = box.jobs(posed.folder)

    again = posed.run("captures")
    assert again.returncode == 2
    assert f"still in Slurm ({job} train_capture orphaned_single)" in again.stdout
    assert "splatdag.commands.doctor --cancel" in again.stdout
    assert box.jobs(posed.folder) == [job], "nothing was submitted or cancelled"
    said = posed.doctor()
    assert "1 running" in said
    assert "snakemake --unlock" in said

    assert "cancelled" in posed.doctor("--cancel")
    box.wait("no jobs", lambda: not box.jobs(posed.folder))
    assert posed.run("--unlock").returncode == 0
    said = posed.doctor()
    assert "--unlock" not in said
    assert "nothing in the way" in said, "the training has saved its state"
    done = posed.run("captures")
    assert done.returncode == 0, done.stdout
    assert posed.continued("orphaned") >= 20
    assert len(posed.history("orphaned")) == 2
