"""Runs of the stage `captures.train` in this process, on a tiny scene."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from splatdag.scene import train as stage
from splatdag.scene.evaluation import evaluate
from splatdag.workflow.errors import Stopped
from splatdag.workflow.stage import Job
from support.scenes import write_gaussian_scene
from support.trainings import options


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_gaussian_scene(tmp_path / "data")


CONTRACT = ["curves.png", "manifest.json", "metrics.json", "preview.jpg", "splat.ply"]
FLAGS = {"test_every": 4, "eval_steps": [40]}


def main(data: Path, run_dir: Path, **changes: Any) -> None:
    stage.main(data, data / "sparse" / "0" / "points3D.bin", run_dir, options(**{**FLAGS, **changes}), Job(threads=2))


def stopped_main(data: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that SIGTERM stops after step 41."""

    def measure(*args: Any, **kwargs: Any) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "evaluate", measure)
        with pytest.raises(Stopped, match="after step 41"):
            main(data, run_dir)
    assert outputs(run_dir) == []
    assert (run_dir / "state" / "checkpoint.pt").exists()


def outputs(run_dir: Path) -> list[str]:
    """What the run contract names, of what is there."""
    return sorted(path.name for path in run_dir.iterdir() if path.name in CONTRACT)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("reference")
    data = write_gaussian_scene(folder / "data")
    main(data, folder / "run")
    return folder / "run"


def assert_same_results(run_dir: Path, reference: Path) -> None:
    assert (run_dir / "splat.ply").read_bytes() == (reference / "splat.ply").read_bytes()
    assert (run_dir / "metrics.json").read_bytes() == (reference / "metrics.json").read_bytes()
