"""A cluster for the session, and projects that run on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from box import HANGS, Box, CannotStart, running_box
from projects import POSED, TRAINING, Project, on_cluster
from support.scenes import write_gaussian_scene


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    """The running cluster; without Slurm the tests are skipped, or fail where REQUIRE_SLURM says that it must be."""
    try:
        with running_box() as running:
            yield running
    except CannotStart as reason:
        (pytest.fail if os.environ.get("REQUIRE_SLURM") else pytest.skip)(f"no Slurm here: {reason}")


@pytest.fixture
def fake_slurm(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, list[list[str]]]]:
    """Run Snakemake in `project` with commands of Slurm that only note their calls; sbatch refuses every job.

    What else a command shall answer is given by its name, None to let it fail. Gives the run and the calls.
    """
    commands, calls = tmp_path_factory.mktemp("bin"), tmp_path_factory.mktemp("calls") / "calls"
    for name in ("sbatch", "squeue", "scontrol", "sinfo", "sacctmgr", "sacct", "sshare", "scancel"):
        script = commands / name
        script.write_text(f"#!{sys.executable}\n" + Path(__file__).with_name("fake_slurm.py").read_text())
        script.chmod(0o755)
    usual = {"sinfo": "cpu\ngpu\nh100", "squeue": "", "scontrol": "MinJobAge = 300 sec", "sacctmgr": "lab\nother"}

    def run(*arguments: str, **answers: str | None) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
        given = {name: answer for name, answer in (usual | answers).items() if answer is not None}
        environment = os.environ | {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "PWD": str(project),
            "FAKE_SLURM_CALLS": str(calls),
            "FAKE_SLURM_ANSWERS": json.dumps(given),
        }
        command = [sys.executable, "-m", "snakemake", *arguments, "--workflow-profile", "workflow_profiles/slurm"]
        command += ["--slurm-init-seconds-before-status-checks", "1"]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=HANGS)
        noted = calls.read_text().splitlines() if calls.exists() else []
        return done, [json.loads(line) for line in noted]

    return run


@pytest.fixture
def slurm_project(project: Path, box: Box) -> Iterator[Project]:
    """A project on the cluster; jobs that a test leaves there are cancelled."""
    yield from on_cluster(project, box)


@pytest.fixture(scope="module")
def posed(module_project: Path, box: Box) -> Iterator[Project]:
    """Captures of a few small photos, whose cameras are there already: what is left to do is a training each."""
    for project in on_cluster(module_project, box):
        write_gaussian_scene(module_project / "data")
        rows = "".join(f"{name},../data\n" for name in POSED)
        project.configure(f"capture,data_dir\n{rows}", captures={"train": TRAINING})
        files = [f"results/captures/{name}/registration.json" for name in POSED]
        kernels = module_project / "results" / "kernels" / "any.json"
        kernels.parent.mkdir(parents=True)
        kernels.write_text("{}")  # as if compiled: what is left to do is the trainings
        command = [sys.executable, "-m", "snakemake", *files, "--cores", "2", "--quiet", "all"]
        subprocess.run(command, cwd=module_project, check=True, timeout=HANGS)
        yield project
