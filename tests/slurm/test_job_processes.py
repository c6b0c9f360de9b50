"""A job's own Snakemake, started with the very line that sbatch gets: it plans the area of its job alone."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from box import HANGS
from support.pandaset_logs import write_metadata
from support.scenes import write_gaussian_scene

SRUN = """#!/bin/sh
until [ "${1##*/}" != "${1##*/python}" ]; do shift; done
exec "$@"
"""
"""Runs what follows its own options."""
SPY = """
import os
from pathlib import Path

from splatdag import areas

look_up = areas.Plans.__getitem__


def noted(plans, name):
    with Path(os.environ["PLANS_MADE"]).open("a") as file:
        file.write(name + "\\n")
    return look_up(plans, name)


areas.Plans.__getitem__ = noted
"""
"""Notes which plans are looked up."""
JOBS = {
    "driving": ("index_pandaset", "driving/index/report.json", "config/captures.tsv"),
    "captures": ("pose_capture", "captures/apple/registration.json", "data/logs/001/lidar/poses.json"),
}
"""Area → rule of a job, what it makes, and a file of another area that is spoilt before it runs."""


@pytest.fixture
def start(project, tmp_path):
    """Start what sbatch was to run; gives the run, and the areas that were planned."""
    for name, text in (("srun", SRUN), ("spy/sitecustomize.py", SPY)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    noted = tmp_path / "planned"

    def run(command: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
        noted.write_text("")
        environment = os.environ | {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": f"{tmp_path / 'bin' / 'spy'}:{os.environ.get('PYTHONPATH', '')}",
            "PLANS_MADE": str(noted),
            "SLURM_JOB_ID": "1",
        }
        done = subprocess.run(
            command, shell=True, cwd=project, env=environment, capture_output=True, text=True, timeout=HANGS
        )
        return done, set(noted.read_text().split())

    return run


def test_a_job_plans_its_own_area_alone(project, fake_slurm, start):
    write_gaussian_scene(project / "data" / "apple")
    write_metadata(project / "data" / "logs")
    (project / "config" / "captures.tsv").write_text("capture\tdata_dir\napple\t../data/apple\n")
    (project / "config" / "config.yaml").write_text("driving: {data_root: data/logs}")
    _, calls = fake_slurm(*(f"results/{output}" for _, output, _ in JOBS.values()), "--retries", "0")
    lines = [call[-1].removeprefix("--wrap=") for call in calls if call[0] == "sbatch"]
    for folder in re.findall(r"--wait-for-files '?([^' ]+)", "\n".join(lines)):
        Path(folder).mkdir(exist_ok=True)  # as long as Snakemake waits for its jobs
    for area, (rule, output, spoilt) in JOBS.items():
        [line] = [line for line in lines if f"--allowed-rules {rule} " in line]
        whole = (project / spoilt).read_text()
        (project / spoilt).write_text("spoilt")
        done, planned = start(line)
        assert done.returncode == 0, done.stdout + done.stderr
        assert planned == {area}
        assert Path(project, "results", output).is_file(), done.stdout + done.stderr
        (project / spoilt).write_text(whole)
