"""Record one task of one epoch of a run of the human trainer, for the Rerun viewer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from splatdag.humans.record_nvs import record_nvs
from splatdag.humans.record_pose import record_pose
from splatdag.humans.record_trn_nv_generation import record_trn_nv_generation
from splatdag.humans.results_tree import RunEpoch, read_epoch
from splatdag.recording.options import RecordingOptions, Task
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)
_RECORDERS: dict[Task, Callable[[RunEpoch, Path, RecordingOptions, int, str], None]] = {
    "nvs": record_nvs,
    "pose": record_pose,
    "trn_nv_generation": record_trn_nv_generation,
}


def main(
    run_dir: Path, task: Task, epoch: str, out: Path, scenes_dir: Path, options: RecordingOptions, job: Job
) -> None:
    """Record one task of one epoch of a run of the human trainer.

    Args:
        run_dir: folder of the run, `<results_root>/<scene>/<experiment>`.
        task: what to record.
        epoch: such as `epoch_0010`, or `10`.
        out: the recording (.rrd).
        scenes_dir: folder of `<scene>.json`, which says which camera is the source.
        options: of the pictures.
        job: how to run.
    """
    if not run_dir.is_dir():
        raise UserError(f"run_dir: no such folder: {run_dir}")
    found = read_epoch(run_dir, task, epoch, scenes_dir)
    _RECORDERS[task](found, out, options, job.threads, job.sample)
    logger.info("%s: %.1f MB", out, out.stat().st_size / 1e6)


if __name__ == "__main__":
    run(main)
