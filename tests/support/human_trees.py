"""The sample of the human trainer's results, small, and recordings of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from splatdag.humans.record_epoch import main
from splatdag.recording.options import RecordingOptions
from splatdag.samples.humans import make_humans
from splatdag.samples.humans_options import HUMANS_RUN, HumansOptions
from splatdag.workflow.stage import Job

FRAMES = [1, 2, 3]
EPOCHS = {"nvs": "epoch_0015", "pose": "epoch_0015", "trn_nv_generation": "epoch_0016"}


def make_tree(folder: Path) -> Path:
    """Write `results/` and `scenes/`."""
    make_humans(folder, HumansOptions(frames=len(FRAMES), width=48, height=64))
    return folder


def run_of(tree: Path) -> Path:
    """The folder of its run."""
    return tree / "results" / Path(*HUMANS_RUN)


def record(tree: Path, task: Any, epoch: str | None = None, **options: Any) -> Path:
    """Record a task of an epoch, the last if none is named."""
    out = tree / f"{task}.rrd"
    main(run_of(tree), task, epoch or EPOCHS[task], out, tree / "scenes", RecordingOptions(**options), Job())
    return out
