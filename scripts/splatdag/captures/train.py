"""The stage `scene.train` for a capture by hand: `--config` finds its options in a whole config.yaml."""

from __future__ import annotations

from pathlib import Path

from splatdag.captures.config import TrainOptions
from splatdag.scene import train
from splatdag.workflow.stage import Job, run


def main(data_dir: Path, model: Path, result_dir: Path, options: TrainOptions, job: Job, device_count: int = 0) -> None:
    train.main(data_dir, model, result_dir, options, job, device_count)


main.__doc__ = train.main.__doc__

if __name__ == "__main__":
    run(main)
