"""Jobs on one machine never share a GPU. Tested without GPUs: what matters is who may see which."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
from support.waiting import wait_until

from splatdag.workflow.errors import UserError
from splatdag.workflow.gpu_slots import JOBS_PER_GPU, take_gpus

JOB = """
import logging, os, sys, time
from pathlib import Path
from splatdag.workflow.errors import UserError
from splatdag.workflow.gpu_slots import take_gpus
logging.basicConfig(level=logging.INFO, format="%(message)s")
take_gpus(int(sys.argv[2]), Path(sys.argv[1]) / "locks")
mine = os.environ["CUDA_VISIBLE_DEVICES"]
with open(sys.argv[1] + "/log", "a") as log:
    log.write(f"+{mine}\\n"); log.flush()
    while sys.argv[3] == "as told" and not Path(sys.argv[1], "go").exists():
        time.sleep(0.01)
    log.write(f"-{mine}\\n")
"""


AS_TOLD = "as told"
"""A job that ends when there is a file named `go`; others end at once."""


def job(folder, until="", count=1, **environment):
    environ = {
        k: v for k, v in os.environ.items() if k not in ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES", JOBS_PER_GPU)
    } | environment
    command = [sys.executable, "-c", JOB, str(folder), str(count), until]
    return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)


def test_five_jobs_on_two_gpus_one_of_them_killed(tmp_path):
    devices = "0,GPU-8f6e"
    doomed = job(tmp_path, AS_TOLD, CUDA_VISIBLE_DEVICES=devices)
    started(tmp_path, 1)
    others = [job(tmp_path, AS_TOLD, CUDA_VISIBLE_DEVICES=devices) for _ in range(4)]
    started(tmp_path, 2)
    doomed.kill()
    started(tmp_path, 3)
    (tmp_path / "go").touch()
    assert [other.wait(300) for other in others] == [0, 0, 0, 0]
    lines = (tmp_path / "log").read_text().splitlines()
    busy, used = {lines[0][1:]}, set()
    busy.clear()  # the first job's GPU came free when it was killed
    for line in lines[1:]:
        sign, device = line[0], line[1:]
        assert (device in busy) is (sign == "-"), lines
        (busy.add if sign == "+" else busy.discard)(device)
        used.add(device)
    assert used == {"0", "GPU-8f6e"}


def test_under_slurm_nothing_is_taken(tmp_path):
    done = job(tmp_path, CUDA_VISIBLE_DEVICES="3,4", SLURM_JOB_ID="7")
    assert done.wait(300) == 0
    assert (tmp_path / "log").read_text().splitlines()[0] == "+3,4"


@pytest.mark.parametrize("preset", ["", "-1", "0", "0,0"])
def test_more_gpus_than_there_are_is_an_error(tmp_path, preset):
    done = job(tmp_path, count=2, CUDA_VISIBLE_DEVICES=preset)
    assert "2 GPUs asked for" in done.communicate(timeout=300)[1]
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("preset", "count", "wanted"),
    [
        ("3", 1, "3"),
        ("3, 5", 2, "3,5"),
        ("GPU-8f6e,GPU-77aa", 2, "GPU-8f6e,GPU-77aa"),
        ("MIG-GPU-8f6e/1/0", 1, "MIG-GPU-8f6e/1/0"),
        ("-1,2", 1, "2"),
    ],
)
def test_what_is_preset_is_what_is_taken(tmp_path, preset, count, wanted):
    done = job(tmp_path, count=count, CUDA_VISIBLE_DEVICES=preset)
    assert done.wait(300) == 0, done.communicate()[1]
    assert (tmp_path / "log").read_text().splitlines()[0] == f"+{wanted}"


SMI = {
    "none": (None, "there are 0 (no nvidia-smi on PATH)"),
    "one": ("echo 'GPU 0: NVIDIA H200 (UUID: GPU-8f6e)'", "there are 1 (listed by nvidia-smi)"),
    "another driver than the kernel's": (
        "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
        "there are 0 (nvidia-smi: Failed to initialize NVML: Driver/library version mismatch; after an update of the"
        " driver: reboot)",
    ),
}


@pytest.mark.parametrize("machine", SMI)
def test_why_there_are_too_few_is_said(tmp_path, monkeypatch, machine):
    script, reason = SMI[machine]
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError) as refused:
        take_gpus(2, tmp_path / "locks")
    assert str(refused.value) == f"2 GPUs asked for, but {reason}; lower --resources gpu=, 0 is the CPU"
    assert not (tmp_path / "locks").exists()


def states(folder):
    """What was in use after each line of the log: the devices, one for each job on it."""
    busy: list[str] = []
    for line in (folder / "log").read_text().splitlines():
        (busy.append if line[0] == "+" else busy.remove)(line[1:])
        yield list(busy)


def started(folder, count):
    wait_until(lambda: (folder / "log").exists() and (folder / "log").read_text().count("+") >= count)


def test_jobs_share_gpus_as_far_as_they_may_and_an_idle_one_is_taken_first(tmp_path):
    shared = {"CUDA_VISIBLE_DEVICES": "0,1", JOBS_PER_GPU: "2"}
    jobs = [job(tmp_path, AS_TOLD, **shared) for _ in range(2)]
    started(tmp_path, 2)
    assert sorted(list(states(tmp_path))[1]) == ["0", "1"]
    jobs += [job(tmp_path, AS_TOLD, **shared) for _ in range(4)]
    started(tmp_path, 4)
    (tmp_path / "go").touch()
    assert [each.wait(300) for each in jobs] == [0] * 6
    assert sorted(max(states(tmp_path), key=len)) == ["0", "0", "1", "1"]


def test_a_job_that_wants_a_gpu_alone_waits_for_those_that_share_it(tmp_path):
    sharing = [job(tmp_path, AS_TOLD, CUDA_VISIBLE_DEVICES="0", **{JOBS_PER_GPU: "2"}) for _ in range(2)]
    started(tmp_path, 2)
    alone = job(tmp_path, CUDA_VISIBLE_DEVICES="0")
    assert alone.stderr.readline() == "waiting for room on 1 of 1 GPUs\n"
    (tmp_path / "go").touch()
    assert [each.wait(300) for each in (*sharing, alone)] == [0, 0, 0]
    assert (tmp_path / "log").read_text().splitlines() == ["+0", "+0", "-0", "-0", "+0", "-0"]


def test_a_file_system_without_locks_is_an_error(tmp_path, monkeypatch):
    def without(handle, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match=r"locks/0: can't be locked \(No locks available\)"):
        take_gpus(1, tmp_path / "locks")


@pytest.mark.parametrize("given", ["0", "two", "-1", "65", "1.5"])
def test_a_number_of_jobs_that_makes_no_sense_is_an_error(tmp_path, given):
    refused = job(tmp_path, CUDA_VISIBLE_DEVICES="0", **{JOBS_PER_GPU: given})
    assert f"jobs_per_gpu: '{given}'; expected a number from 1 to 64" in refused.communicate(timeout=300)[1]
