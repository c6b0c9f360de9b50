"""Snakemake with little memory and time, and how it refuses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from jobs import HANGS
from support.processes import run_module
from support.sheet_rows import read as read

MEMORY = 3 << 30
"""Bytes that a process may ask for."""


def snakemake(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake with little memory and time."""
    return run_module("snakemake", *arguments, cwd=project, timeout=HANGS, data_limit=MEMORY)


def is_refused(done: subprocess.CompletedProcess[str], project: Path, message: str) -> None:
    [line] = [line for line in done.stderr.splitlines() if line.startswith("splatdag: ")]
    assert done.returncode == 2
    assert re.search(message, line)
    assert "Traceback" not in done.stderr
    assert not {"results", "logs"} & {path.name for path in project.iterdir()}
