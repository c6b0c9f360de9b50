"""What can happen to a job on a cluster, and how each case ends."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil
import pytest
from projects import TRAINING

from splatdag.workflow.attempts import State, stage_status

FAULTS = ("killed", "fat", "cancelled", "crashed", "warned")
SHEET = """\
capture,data_dir,resources.train.mem_mb,resources.train.threads
killed,../data
cancelled,../data
warned,../data
fat,../data,2000
crashed,../data,,16
"""
"""`crashed` asks for all CPUs of a node, so that a crash of it meets no other."""
SITE = "{gpu_style: gres, gpu_classes: {any: {slurm_partition: gpu, gpu_model: a100, constraint: fast}}}"


def accident(posed, box, capture):
    """What happens to a training as soon as it has a state."""
    posed.wait_for_state(capture)
    job = posed.history(capture)[-1]
    if capture == "killed":
        psutil.Process(posed.process(capture)).kill()
    elif capture == "cancelled":
        box.ask("scancel", job["job"])
    elif capture == "warned":  # the steps of the job, as by `--signal=TERM@120` before the time limit
        box.ask("scancel", "--signal=TERM", job["job"])
    else:
        box.crash_node(job["node"])


@pytest.fixture(scope="module")
def after(posed, box):
    """The project after one run in which each training had its accident."""
    posed.configure(SHEET, captures={"train": TRAINING | {"max_steps": 1500}})
    (posed.folder / "workflow_profiles" / "slurm" / "site.yaml").write_text(SITE)
    (posed.witness / "take-results_captures_fat_single").write_text("2500")
    run = posed.start("captures")
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(accident, posed, box), ("killed", "cancelled", "warned", "crashed")))
    posed.output = posed.end(run)
    yield posed
    for node in ("gpu-1", "gpu-2"):
        if f"slurmd-{node}" not in box.processes:
            box.start_node(node)
            box.wait(node, lambda node=node: "idle" in box.ask("sinfo", "-h", "-n", node, "-o", "%T"))


def test_every_training_ends_well_after_its_accident(after):
    assert after.output.returncode == 0, after.output.stdout
    for capture in FAULTS:
        assert after.manifest(capture)["exit_reason"] == "finished"
        assert len(after.history(capture)) == 2, after.history(capture)
        assert after.history(capture)[-1]["state"] == "COMPLETED"
        assert stage_status(after.folder / "logs" / "captures" / capture / "single" / "train.log").state is State.DONE


def test_a_killed_training_goes_on_from_its_state(after):
    assert after.history("killed")[0]["state"] == "FAILED"
    assert after.continued("killed") >= 20


def test_a_job_over_its_memory_is_ended_and_gets_twice_as_much(after):
    first, second = after.history("fat")
    assert first["state"] in ("FAILED", "OUT_OF_MEMORY")
    assert (first["memory"], second["memory"]) == ("2000M", "4000M")
    assert "exceeded" in after.slurm_log("fat", 0)


def test_a_cancelled_job_is_seen_as_such_and_repeated(after):
    assert after.history("cancelled")[0]["state"] == "CANCELLED"
    assert after.continued("cancelled") >= 20


def test_a_job_on_a_node_that_crashes_runs_again_on_another(after):
    first, second = after.history("crashed")
    assert first["state"] == "NODE_FAIL"
    assert first["node"] != second["node"]
    assert after.continued("crashed") >= 20


def test_a_training_that_is_warned_of_its_time_limit_saves_its_state_and_goes_on(after):
    assert after.history("warned")[0]["state"] == "FAILED"
    stopped = int(re.search(r"stopped: state saved after step (\d+)", after.slurm_log("warned", 0))[1])
    assert after.continued("warned") == stopped


def test_gres_gives_each_training_a_gpu_of_its_own(after):
    seen = [stage for stage in after.stages() if stage["stage"] == "splatdag.scene.train"]
    assert len(seen) == 2 * len(FAULTS)
    for stage in seen:
        assert stage["gpus"] in {"0", "1", "2", "3"}
        assert stage["arguments"][stage["arguments"].index("--device-count") + 1] == "1"
    first = {capture: after.history(capture)[0] for capture in FAULTS}
    together = {job["job"] for job in first.values() if job["node"] == first["killed"]["node"]}  # started at once
    assert len({stage["gpus"] for stage in seen if stage["job"] in together}) == len(together) > 1


def test_ctrl_c_leaves_no_jobs_and_a_state_to_go_on_from(posed, box):
    posed.configure(
        "capture,data_dir\ninterrupted,../data\n",
        captures={"train": {"preset": "small", "max_steps": 100_000, "checkpoint_every": 20}},
    )
    site = "{gpu_classes: {any: {slurm_partition: h100, gpu_model: h100}}}"
    (posed.folder / "workflow_profiles" / "slurm" / "site.yaml").write_text(site)
    run = posed.start("captures")
    posed.wait_for_state("interrupted")
    os.killpg(run.pid, signal.SIGINT)
    done = posed.end(run)
    assert done.returncode != 0
    box.wait("no jobs", lambda: not box.jobs(posed.folder))
    [job] = posed.history("interrupted")
    assert (job["state"], job["node"]) == ("CANCELLED", "h100-1")
    assert re.search(r"stopped: state saved after step \d+", posed.log("interrupted"))
    assert not list((posed.folder / ".snakemake" / "locks").glob("*")), "the next run needs no --unlock"


def test_ctrl_c_while_jobs_are_submitted_cancels_all_and_submits_no_more(posed, box):
    posed.configure("capture,data_dir\n" + "".join(f"one_of_{number},../data\n" for number in range(30)))
    run = posed.start("captures")
    box.wait("a job", lambda: bool(box.jobs(posed.folder)))
    os.killpg(run.pid, signal.SIGINT)
    done = posed.end(run)
    assert done.returncode != 0
    box.wait("no jobs", lambda: not box.jobs(posed.folder))
    time.sleep(3)
    assert not box.jobs(posed.folder)
