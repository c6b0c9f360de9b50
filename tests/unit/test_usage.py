"""What attempts used is noted while they run, and counted over all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from splatdag.workflow.gpu_slots import JOBS_PER_GPU
from splatdag.workflow.manifest import Manifest, RunId, write_manifest
from splatdag.workflow.usage import Usage, counted, read_usage

TOY = '''
"""A toy."""
import logging
import time
from pathlib import Path

from splatdag.workflow import usage
from splatdag.workflow.errors import Stopped, UserError
from splatdag.workflow.gpu_slots import take_gpus
from splatdag.workflow.manifest import RunId, write_manifest
from splatdag.workflow.options import Options
from splatdag.workflow.stage import Job, run

usage.NOTE_SECONDS = 0.05


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
        usage.this_attempt().use("toy GPU")
        time.sleep(wait)
    logging.getLogger(__name__).info("working")
    if end == "badly":
        raise UserError("bad")
    if end == "early":
        raise Stopped("saved")
    if end == "never":
        time.sleep(60)
    fields = {"options": {}, "inputs": {}, "device": "toy", "gaussians": 1, "steps": 1, "offset": []}
    write_manifest(out, "workflow.usage", RunId.parse("toys/a/b"), {"train": 1.0}, **fields)


if __name__ == "__main__":
    run(main)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(TOY)
    return tmp_path


def command(*arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "toy",
        "--out",
        "manifest.json",
        "--log",
        "logs/toy.log",
        "--threads",
        "3",
        *arguments,
    ]


def run(folder: Path, *arguments: str, **environment: str) -> list[Usage]:
    without_slurm = {name: value for name, value in os.environ.items() if name != "SLURM_JOB_ID"}
    done = subprocess.run(
        command(*arguments), cwd=folder, env=without_slurm | environment, capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    return read_usage(folder / "logs" / "toy.usage.json")


def killed(folder: Path) -> None:
    """An attempt that ends by SIGKILL half a second after it began to work."""
    log = folder / "logs" / "toy.log"
    before = log.read_text().count("working")
    process = subprocess.Popen(command("--end", "never"), cwd=folder, stderr=subprocess.DEVNULL)
    while log.read_text().count("working") == before:
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_an_attempt_is_noted_beside_its_log(folder: Path) -> None:
    begin = time.time()
    [usage] = run(folder, "--wait", "0.3")
    assert (usage.end, usage.threads, usage.gpus, usage.gpu_seconds, usage.job) == ("finished", 3, 0, 0, None)
    assert 0.3 <= usage.seconds <= time.time() - begin + 1, "the kernel tells the start of a process to the second"
    assert usage.device


def test_attempts_that_failed_were_stopped_or_killed_count_until_one_finishes(folder: Path) -> None:
    run(folder, "--end", "badly")
    run(folder, "--end", "early")
    killed(folder)
    attempts = run(folder)
    assert [usage.end for usage in attempts] == ["failed", "stopped", "", "finished"]
    assert attempts[2].seconds >= 0.4, "what it used before the kill, but for the last moment"
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    assert [usage.end for usage in manifest.usage] == ["failed", "stopped", "", "finished"]
    assert [usage.seconds for usage in manifest.usage[:3]] == [usage.seconds for usage in attempts[:3]]
    assert 0 < manifest.usage[3].seconds <= attempts[3].seconds
    assert [usage.end for usage in run(folder)] == ["finished"], "another result has attempts of its own"


def test_a_damaged_note_is_begun_anew(folder: Path) -> None:
    run(folder, "--end", "badly")
    (folder / "logs" / "toy.usage.json").write_text("[{")
    assert [usage.end for usage in run(folder)] == ["finished"]


def test_under_slurm_gpus_are_held_from_the_start_of_the_process(folder: Path) -> None:
    [usage] = run(folder, "--device-count", "2", "--gpu-class", "h100", "--wait", "0.2", SLURM_JOB_ID="17")
    assert (usage.gpus, usage.gpu_class, usage.job, usage.device) == (2, "h100", "17", "toy GPU")
    assert usage.gpu_seconds == pytest.approx(2 * usage.seconds, abs=0.02)


@pytest.mark.parametrize(("jobs_per_gpu", "share"), [("1", 1), ("4", 0.25)])
def test_elsewhere_gpus_count_once_they_are_taken_and_in_part_where_they_are_shared(
    folder: Path, jobs_per_gpu: str, share: float
) -> None:
    local = {"CUDA_VISIBLE_DEVICES": "0", JOBS_PER_GPU: jobs_per_gpu}
    [usage] = run(folder, "--device-count", "1", "--gpu-class", "any", "--wait", "0.4", **local)
    assert usage.gpus == share
    assert 0.4 * share <= usage.gpu_seconds <= (usage.seconds - 0.4) * share


def test_the_manifest_of_a_stage_without_a_log_tells_of_its_attempt(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"options": {}, "inputs": {}, "device": "x", "gaussians": 1, "steps": 1, "offset": []}
    with counted(None, "processor", 2, 0, ""):
        write_manifest(tmp_path / "manifest.json", "workflow.usage", RunId.parse("toys/a/b"), {}, **fields)
    [usage] = json.loads((tmp_path / "manifest.json").read_text())["usage"]
    assert (usage["device"], usage["end"]) == ("processor", "finished")
    assert list(tmp_path.iterdir()) == [tmp_path / "manifest.json"]
    write_manifest(tmp_path / "manifest.json", "workflow.usage", RunId.parse("toys/a/b"), {}, **fields)
    assert json.loads((tmp_path / "manifest.json").read_text())["usage"] == []
