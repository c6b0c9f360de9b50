"""A cluster for the session, and projects that run on it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box import Box, CannotStart, running_box

INSIDE = Path(__file__).with_name("inside")
QUICK = ("--latency-wait", "10")
"""As the profile, but it waits less for a file system that is slow to show files."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several workers, one of them has the cluster."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("slurm"))


@pytest.fixture(scope="session")
def box() -> Iterator[Box]:
    """The running cluster; without Slurm the tests are skipped, or fail where REQUIRE_SLURM says that it must be."""
    try:
        with running_box() as running:
            yield running
    except CannotStart as reason:
        (pytest.fail if os.environ.get("REQUIRE_SLURM") else pytest.skip)(f"no Slurm here: {reason}")


class Project:
    """A copy of the workflow whose jobs go to the box."""

    def __init__(self, folder: Path, box: Box) -> None:
        self.folder = folder
        self.box = box
        self.witness = folder / "witness"
        self.witness.mkdir()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake with the Slurm profile, in a process group of its own."""
        command = [sys.executable, "-m", "snakemake", "--workflow-profile", "workflow_profiles/slurm", *QUICK]
        environment = self.box.environment | {
            "WITNESS": str(self.witness),
            "PYTHONPATH": f"{INSIDE}:{os.environ.get('PYTHONPATH', '')}",
        }
        return subprocess.Popen(
            [*command, *arguments], cwd=self.folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *arguments: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        """Run Snakemake to its end; both its streams are in `stdout`."""
        return self.end(self.start(*arguments), seconds)

    def end(self, process: subprocess.Popen[str], seconds: float = 240) -> subprocess.CompletedProcess[str]:
        """Wait for a started Snakemake; one that does not end fails the test with what it said."""
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            pytest.fail(f"snakemake did not end in {seconds} s:\n{output}\n{self.box.ask('squeue', '-a', '-t', 'all')}")
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def stages(self) -> list[dict[str, Any]]:
        """What the jobs' stages got from Slurm, in the order in which they began."""
        return [json.loads(path.read_text()) for path in sorted(self.witness.glob("*.json"))]

    def configure(self, sheet: str, **config: Any) -> None:
        """Write sheet (commas for tabs) and config."""
        (self.folder / "config" / "captures.tsv").write_text(sheet.replace(",", "\t"))
        (self.folder / "config" / "config.yaml").write_text(json.dumps(config))

    def log(self, capture: str, stage: str = "single/train") -> str:
        """A stage's log; empty while there is none."""
        path = self.folder / "logs" / "captures" / capture / f"{stage}.log"
        return path.read_text() if path.exists() else ""

    def attempts(self, capture: str) -> list[int]:
        """Process ids of the attempts at a training."""
        return [int(number) for number in re.findall(r"captures\.train \(process (\d+)\)", self.log(capture))]

    def manifest(self, capture: str) -> dict[str, Any]:
        """The manifest of a finished run."""
        path = self.folder / "results" / "captures" / capture / "single" / "manifest.json"
        return json.loads(path.read_text())  # type: ignore[no-any-return]


@pytest.fixture
def slurm_project(project: Path, box: Box) -> Iterator[Project]:
    """A project on the cluster; jobs that a test leaves there are cancelled."""
    made = Project(project, box)
    yield made
    if left := box.jobs(project):
        box.ask("scancel", *left)
        box.wait("the jobs to end", lambda: not box.jobs(project))
