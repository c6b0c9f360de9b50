"""The stage `scene.train` for a capture by hand: `--config` finds its options in a whole config.yaml."""

from __future__ import annotations

from pathlib import Path

from splatdag.captures.config import TrainOptions
from splatdag.scene import train
from splatdag.workflow.manifest import RunId
from splatdag.workflow.stage import Job, run


def main(data_dir: Path, model: Path, result_dir: Path, options: TrainOptions, job: Job, device_count: int = 0) -> None:
    run_id = job.run_id or str(RunId.of("", "captures.train", result_dir))
    train.main(data_dir, model, result_dir, options, job.model_copy(update={"run_id": run_id}), device_count)


main.__doc__ = train.main.__doc__

if __name__ == "__main__":
    run(main)
