"""Projects whose jobs go to the test cluster."""

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
from box import HANGS, Box

INSIDE = Path(__file__).with_name("inside")
POSED = ("killed", "fat", "cancelled", "crashed", "warned", "interrupted", "limited", "first", "second", "orphaned")
"""Captures of `posed`, named after what happens to them."""
TRAINING = {"preset": "small", "max_steps": 600, "checkpoint_every": 20}
"""Some seconds, with a state to continue from soon."""
QUICK = ("--latency-wait", "10")
"""As the profile, but it waits less for a file system that is slow to show files."""


class Project:
    """A copy of the workflow whose jobs go to the box."""

    def __init__(self, folder: Path, box: Box) -> None:
        self.folder = folder
        self.box = box
        self.witness = folder / "witness"
        self.witness.mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """Environment of commands in the project."""
        witness = {"WITNESS": str(self.witness), "PYTHONPATH": f"{INSIDE}:{os.environ.get('PYTHONPATH', '')}"}
        return self.box.environment | witness

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start Snakemake with the Slurm profile, in a process group of its own."""
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` ignores it
        command = [sys.executable, "-m", "snakemake", "--workflow-profile", "workflow_profiles/slurm", *QUICK]
        return subprocess.Popen(
            [*command, *arguments], cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake to its end; both its streams are in `stdout`."""
        return self.end(self.start(*arguments))

    def doctor(self, *arguments: str) -> str:
        """What the doctor says."""
        command = [sys.executable, "-m", "splatdag.commands.doctor", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=HANGS, check=True
        ).stdout

    def end(self, process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        """Wait for a started Snakemake; one that does not end fails the test with what it said."""
        try:
            output, _ = process.communicate(timeout=HANGS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            pytest.fail(f"snakemake did not end in {HANGS} s:\n{output}\n{self.box.ask('squeue', '-a', '-t', 'all')}")
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def wait_for_state(self, capture: str) -> None:
        """Wait until a training has saved its state."""
        state = self.folder / "results" / "captures" / capture / "single" / "state" / "checkpoint.pt"
        self.box.wait(f"a state of {capture}", state.exists)

    def history(self, capture: str) -> list[dict[str, str]]:
        """What Slurm knows of the jobs that train a capture, in order."""
        return self.box.history(self.folder, f"rule_train_capture_wildcards_{capture}_single")

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

    def process(self, capture: str) -> int:
        """Process id of the training whose log is there: Snakemake removes that of the attempt before."""
        return int(re.search(r"scene\.train \(process (\d+)\)", self.log(capture))[1])  # type: ignore[index]

    def continued(self, capture: str) -> int:
        """The step after which the last attempt at a training went on; -1 if it began anew."""
        found = re.search(r"continuing after step (\d+)", self.log(capture))
        return int(found[1]) if found else -1

    def slurm_log(self, capture: str, attempt: int) -> str:
        """What Slurm wrote of an attempt at a training; the first is 0."""
        job = self.history(capture)[attempt]["job"]
        return (self.folder / "slurm_logs" / "rule_train_capture" / f"{capture}_single" / f"{job}.log").read_text()

    def manifest(self, capture: str) -> dict[str, Any]:
        """The manifest of a finished run."""
        path = self.folder / "results" / "captures" / capture / "single" / "manifest.json"
        return json.loads(path.read_text())  # type: ignore[no-any-return]


def on_cluster(folder: Path, box: Box) -> Iterator[Project]:
    """A project on the cluster; jobs that are left there in the end are cancelled."""
    yield Project(folder, box)
    if left := box.jobs(folder):
        box.ask("scancel", *left)
        box.wait("the jobs to end", lambda: not box.jobs(folder))
