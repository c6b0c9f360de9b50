"""Train Flux4D on many clips of many logs."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from splatdag.driving.clips.clip_reader import Reader, loader
from splatdag.driving.clips.clips import clips_of
from splatdag.driving.training import training_run
from splatdag.driving.training.training_run import train_run
from splatdag.driving.training_options import TrainOptions
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)
STAGE = "driving.training.train"


def main(
    index_path: Path,
    data_root: Path,
    output_dir: Path,
    options: TrainOptions,
    job: Job,
    device_count: int = 0,
    cache_dir: Path | None = None,
) -> None:
    """Train Flux4D on the clips of an index that are to train on.

    Args:
        index_path: index of clips.
        data_root: folder of the logs.
        output_dir: run folder, for ckpt_step_XXXXXX.pt, ckpt_last.pt, train.log, curves.png and, last, meta.json.
        options: of the training.
        job: how to run.
        device_count: CUDA devices to use, each of which has clips of its own in a step; 0 is the CPU.
        cache_dir: folder where lifted frames are kept, and made where they are missing.
    """
    options = options.resolved(device_count)
    clips = clips_of(index_path, "train", options.max_train_clips)
    reader = Reader(data_root, options, cache_dir)
    make_loader = partial(loader, reader, clips, options.cache_max_items, options.strict, job.threads)

    def learnt_from() -> dict[str, Any]:
        return {"index_path": str(index_path)}

    train_run(STAGE, data_root, make_loader, None, clips, output_dir, options, job, device_count, learnt_from)


def input_digests(index_path: Path, data_root: Path, options: TrainOptions) -> dict[str, str]:
    """Digests of all that is learnt from."""
    clips = clips_of(index_path, "train", options.max_train_clips)
    source = None if options.resume_from is None else Path(options.resume_from)
    return training_run.input_digests(data_root, clips, options, source)


if __name__ == "__main__":
    run(main)
