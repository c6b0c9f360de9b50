"""Record a run of a capture for the Rerun viewer."""

from __future__ import annotations

import logging
from pathlib import Path

from splatdag.captures.record import read_run, record_capture
from splatdag.recording.colmap import read_colmap
from splatdag.recording.options import CaptureRecordingOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)


def main(run_dir: Path, model: Path, out: Path, options: CaptureRecordingOptions, job: Job) -> None:
    """Record a run of a capture: cameras, points and Gaussians, held-out views, loss and PSNR.

    Args:
        run_dir: folder of the run.
        model: COLMAP model that it was trained from: its folder, or a file in it.
        out: the recording (.rrd).
        options: what is recorded, and how.
        job: how to run.
    """
    if not run_dir.is_dir():
        raise UserError(f"run_dir: no such folder: {run_dir}")
    colmap = read_colmap(model if model.is_dir() else model.parent)
    record_capture(read_run(run_dir), colmap, out, options, job.threads, job.sample)
    logger.info("%s: %.1f MB", out, out.stat().st_size / 1e6)


if __name__ == "__main__":
    run(main)
