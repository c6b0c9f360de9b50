"""Measure a trained network on the test clips of one log."""

from __future__ import annotations

import logging
from pathlib import Path

from splatdag.driving.clips.clip_reader import Reader
from splatdag.driving.clips.clips import clips_of
from splatdag.driving.evaluation.measure_and_publish import measure_scene
from splatdag.driving.training.checkpoints import load_model
from splatdag.driving.training_options import EvaluateOptions
from splatdag.splats.devices import use_device
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
    """Measure a trained network on the test clips of one log.

    Args:
        index_path: index of clips.
        data_root: folder of the logs.
        ckpt: checkpoint of a training, whose options say how clips are read.
        scene: name of the log.
        out_dir: folder of the log, for metrics.json and, of some clips, splats, pictures and a video.
        options: which clips, and what is kept of them.
        job: how to run.
        device_count: CUDA devices to use; 0 is the CPU.
        cache_dir: folder where lifted frames are kept, and made where they are missing.
    """
    device = use_device(device_count, job.threads)
    model, learnt, _ = load_model(ckpt, device)
    own = [clip for clip in clips_of(index_path, "test", options.max_eval_clips) if clip.scene_id == scene]
    if not own:
        logger.warning("no test clip of log %s is measured", scene)
    saved = options.save_max_clips if options.save_renders else 0
    reader = Reader(data_root, learnt, cache_dir)
    measure_scene(model, reader, own, out_dir, options.dynamic_mask, saved, device, options.strict)


if __name__ == "__main__":
    run(main)
