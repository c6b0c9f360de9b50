"""One run from what was measured of its logs."""

from __future__ import annotations

import json
from pathlib import Path

from splatdag.driving.evaluation.measure_and_publish import MEASURED, publish_run
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job, run


def main(run_dir: Path, ckpt: Path, index_path: Path, scenes: tuple[str, ...], job: Job) -> None:
    """Write metrics.json, preview.jpg and, last, manifest.json of a run.

    Args:
        run_dir: with meta.json of the training and a folder of each log.
        ckpt: that was evaluated.
        index_path: that was evaluated on.
        scenes: names of the logs.
        job: how to run.
    """
    measured = []
    for scene in scenes:
        path = run_dir / scene / MEASURED
        try:
            measured.append(json.loads(path.read_text(encoding="utf-8"))["rows"])
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        except (ValueError, OverflowError, KeyError) as error:
            raise UserError(f"{path}: not what an evaluation writes ({error})") from None
    publish_run(run_dir, measured, {"ckpt": str(ckpt), "index_path": str(index_path), "scenes": list(scenes)}, job)


if __name__ == "__main__":
    run(main)
