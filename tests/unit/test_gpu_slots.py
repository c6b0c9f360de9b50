"""Jobs on one machine never share a GPU. Tested without GPUs: what matters is who may see which."""

import os
import subprocess
import sys
import time

import pytest

JOB = """
import os, sys, time
from pathlib import Path
from splatdag.workflow.gpu_slots import take_gpus
take_gpus(int(sys.argv[2]), Path(sys.argv[1]) / "locks")
mine = os.environ["CUDA_VISIBLE_DEVICES"]
with open(sys.argv[1] + "/log", "a") as log:
    log.write(f"+{mine}\\n"); log.flush()
    time.sleep(float(sys.argv[3]))
    log.write(f"-{mine}\\n")
"""


def job(folder, seconds, count=1, **environment):
    environ = {k: v for k, v in os.environ.items() if k not in ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES")} | environment
    command = [sys.executable, "-c", JOB, str(folder), str(count), str(seconds)]
    return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)


def test_five_jobs_on_two_gpus_one_of_them_killed(tmp_path):
    devices = "0,GPU-8f6e"
    doomed = job(tmp_path, 60, CUDA_VISIBLE_DEVICES=devices)
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text():
        time.sleep(0.05)
    others = [job(tmp_path, 0.3, CUDA_VISIBLE_DEVICES=devices) for _ in range(4)]
    doomed.kill()
    assert [other.wait(60) for other in others] == [0, 0, 0, 0]
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
    done = job(tmp_path, 0, CUDA_VISIBLE_DEVICES="3,4", SLURM_JOB_ID="7")
    assert done.wait(60) == 0
    assert (tmp_path / "log").read_text().splitlines()[0] == "+3,4"


@pytest.mark.parametrize("preset", ["", "-1", "0"])
def test_more_gpus_than_there_are_is_an_error(tmp_path, preset):
    done = job(tmp_path, 0, count=2, CUDA_VISIBLE_DEVICES=preset)
    assert "2 GPUs asked for" in done.communicate(timeout=60)[1]
    assert not (tmp_path / "log").exists()
