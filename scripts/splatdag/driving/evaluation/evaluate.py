"""Evaluate a trained network on the test clips of one log."""

from __future__ import annotations

import logging
from pathlib import Path

from splatdag.driving.clips.clip_reader import Reader
from splatdag.driving.clips.clips import clips_digest, clips_of
from splatdag.driving.evaluation.measure_and_publish import check_place, measure_scene
from splatdag.driving.training.checkpoints import load_model, only_learnt
from splatdag.driving.training_options import EvaluateOptions
from splatdag.splats.devices import device_name, use_device
from splatdag.workflow.digests import file_digest
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)


def main(
    index_path: Path,
    data_root: Path,
    ckpt: Path,
    scene: str,
    out_dir: Path,
    options: EvaluateOptions,
    job: Job,
    device_count: int = 0,
    cache_dir: Path | None = None,
) -> None:
    """Evaluate a trained network on the test clips of one log; `merge` then sums up all logs.

    Args:
        index_path: index of clips.
        data_root: folder of the logs.
        ckpt: checkpoint of any training, whose options say how clips are read.
        scene: name of the log.
        out_dir: folder of the log, for metrics.json and, of some clips, splats, pictures and a video; it lies in the
            folder of the run, or in one for this checkpoint alone.
        options: which clips, and what is kept of them.
        job: how to run.
        device_count: CUDA devices to use; 0 is the CPU.
        cache_dir: folder where lifted frames are kept, and made where they are missing.
    """
    check_place(out_dir.parent, ckpt)
    device = use_device(device_count, job.threads)
    model, learn_options, step = load_model(ckpt, device)
    clips = [clip for clip in clips_of(index_path, "test", options.max_eval_clips) if clip.scene_id == scene]
    if not clips:
        logger.warning("no test clip of log %s is measured", scene)
    evaluated = {
        "step": step,
        "options": only_learnt(learn_options) | options.model_dump(mode="json"),
        "inputs": {"ckpt": file_digest(ckpt), f"clips_{scene}": clips_digest(clips)},
        "device": device_name(device),
    }
    saved = options.save_max_clips if options.save_renders else 0
    reader = Reader(data_root, learn_options, cache_dir)
    measure_scene(model, reader, clips, out_dir, options.dynamic_mask, saved, device, options.strict, evaluated)


if __name__ == "__main__":
    run(main)
