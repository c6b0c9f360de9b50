"""Record what was measured of a driving log for the Rerun viewer."""

from __future__ import annotations

import logging
from pathlib import Path

from splatdag.driving.record import read_clips, record_drive
from splatdag.recording.options import CaptureRecordingOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)


def main(log_dir: Path, out: Path, options: CaptureRecordingOptions, job: Job) -> None:
    """Record the measured clips of a driving log: lidar, Gaussians, camera, velocities and pictures over its frames.

    Args:
        log_dir: folder of the log in a run, with a folder for each clip.
        out: the recording (.rrd).
        options: what is recorded, and how.
        job: how to run.
    """
    if not log_dir.is_dir():
        raise UserError(f"log_dir: no such folder: {log_dir}")
    name = "-".join(log_dir.absolute().parts[-2:])
    record_drive(read_clips(log_dir), name, out, options, job.threads, job.sample)
    logger.info("%s: %.1f MB", out, out.stat().st_size / 1e6)


if __name__ == "__main__":
    run(main)
