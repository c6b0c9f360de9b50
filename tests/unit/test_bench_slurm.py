"""What `make bench-slurm` makes of what it sees."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "bench" / "slurm.py"
    spec = importlib.util.spec_from_file_location("bench_slurm", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_slurm"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_idle_time_is_what_no_job_covers(bench: ModuleType) -> None:
    assert bench._idle([(4, 6), (1, 3), (2, 5)], 0, 10) == 5
    assert bench._idle([], 2, 10) == 8


def test_the_dry_run_gives_commands_requests_and_an_order(bench: ModuleType, project: Path) -> None:
    """Of a grouped pair too; an input of one is an output of the other."""
    video = project / "walk.mp4"
    video.touch()
    (project / "config" / "captures.tsv").write_text(f"capture\tdata_dir\nwalk\t{video}\n")
    targets = ["results/captures/walk/registration.json"]
    frames, poses = bench._planned(project, targets, dict(os.environ))
    assert "splatdag.captures.frames --video" in frames.command
    assert set(frames.outputs) <= set(poses.inputs)
    assert {"--cpus-per-task=2", "--mem=8000", "--time=240", "--partition=cpu"} <= set(poses.request)
    assert "--threads 2 " in poses.command
