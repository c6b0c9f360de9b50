"""Train Flux4D on one clip, and measure it on the same: a check of the whole chain, not of what it has learnt."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from splatdag.driving.clips.clip_reader import Reader, loader
from splatdag.driving.clips.clips import clip_at
from splatdag.driving.evaluation.measure_and_publish import measure_scene, publish_run
from splatdag.driving.targets import clip_folder
from splatdag.driving.training import training_run
from splatdag.driving.training.checkpoints import LAST
from splatdag.driving.training.flux4d_training import Flux4DTraining
from splatdag.driving.training.training_run import train_run
from splatdag.driving.training_options import OverfitOptions
from splatdag.training.run import Run
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)
STAGE = "driving.training.overfit"


def main(
    index_path: Path,
    data_root: Path,
    output_dir: Path,
    options: OverfitOptions,
    job: Job,
    device_count: int = 0,
    cache_dir: Path | None = None,
) -> None:
    """Train Flux4D on all images of one clip, or on one of them, and measure it on that clip.

    Args:
        index_path: index of clips.
        data_root: folder of the logs.
        output_dir: run folder, for ckpt_step_XXXXXX.pt, ckpt_last.pt, train.log, metrics.json, pictures and, last,
            manifest.json.
        options: of the training.
        job: how to run.
        device_count: CUDA devices to use, each of which has images of its own in a step; 0 is the CPU.
        cache_dir: folder where lifted frames are kept, and made where they are missing.
    """
    options = options.resolved(device_count)
    clip = clip_at(index_path, options.clip_index)
    frame = options.fixed_target_frame
    if frame is not None and frame not in (*clip.inputs, *clip.targets):
        raise UserError(f"fixed_target_frame: {frame} is no input or target frame of clip {clip.clip_id}")
    reader = Reader(data_root, options, cache_dir)
    make_loader = partial(loader, reader, [clip], 1, True, job.threads)
    frames = None if frame is None else (frame,)

    def learnt_from() -> dict[str, Any]:
        return {
            **{"index_path": str(index_path), "clip_index": options.clip_index, "clip_id": clip.clip_id},
            "num_gaussians": len(reader(clip).start),
        }

    def measure(training: Flux4DTraining, run: Run) -> dict[str, Any]:
        name = clip_folder(options.clip_index)
        with run.timed("eval"):
            rows = measure_scene(training.model, reader, [clip], output_dir / name, "boxes", 1, run.device)
        about = {
            **{"ckpt": LAST, "index_path": str(index_path), "trained_on": "the clip that is measured"},
            **{"step": training.step, "camera_name": options.camera},
        }
        with run.timed("publish"):
            return publish_run(output_dir, {name: rows}, about)

    train_run(
        STAGE, data_root, make_loader, frames, [clip], output_dir, options, job, device_count, learnt_from, measure
    )


def input_digests(index_path: Path, data_root: Path, options: OverfitOptions) -> dict[str, str]:
    """Digests of all that is learnt from."""
    clips = [clip_at(index_path, options.clip_index)]
    source = None if options.resume_from is None else Path(options.resume_from)
    return training_run.input_digests(data_root, clips, options, source)


if __name__ == "__main__":
    run(main)
