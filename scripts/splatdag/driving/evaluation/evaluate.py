"""Evaluate a trained network on the test clips of one log."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from splatdag.driving.clips.clip_reader import Reader
from splatdag.driving.clips.clips import Clip, clips_digest, clips_of
from splatdag.driving.evaluation.measure_and_publish import check_place, measure_scene
from splatdag.driving.logs.contents import logs_digest
from splatdag.driving.logs.folders import CAMERAS
from splatdag.driving.training.checkpoints import learnt_options, load_ckpt, load_model
from splatdag.driving.training_options import EvaluateOptions
from splatdag.splats.devices import use_device
from splatdag.training.devices import device_memory_mb, device_name
from splatdag.workflow.attempts import process_seconds
from splatdag.workflow.digests import file_digest
from splatdag.workflow.manifest import Manifest, RunId, manifest_of
from splatdag.workflow.stage import Job, run
from splatdag.workflow.user_cache import user_cache

logger = logging.getLogger(__name__)
STAGE = "driving.evaluation.evaluate"


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
    clips = _clips(index_path, scene, options)
    if not clips:
        logger.warning("no test clip of log %s is measured", scene)
    inputs = input_digests(index_path, data_root, ckpt, scene, options)
    startup = process_seconds()

    def manifest(seconds: dict[str, float]) -> Manifest:
        return manifest_of(
            STAGE,
            RunId.of(job.run_id, STAGE, out_dir.parent),
            out_dir.parent,
            {"startup": startup, **seconds},
            part=f"{out_dir.name}/evaluate",
            sample=job.sample,
            options=learnt_options(learn_options) | options.model_dump(mode="json"),
            inputs=inputs,
            device=device_name(device),
            device_memory_mb=device_memory_mb(device),
            steps=step,
        )

    saved = options.save_max_clips if options.save_renders else 0
    reader = Reader(data_root, learn_options, cache_dir)
    measure_scene(model, reader, clips, out_dir, options.dynamic_mask, saved, device, options.strict, manifest)


def _clips(index_path: Path, scene: str, options: EvaluateOptions) -> list[Clip]:
    """The clips of a log that are measured."""
    return [clip for clip in clips_of(index_path, "test", options.max_eval_clips) if clip.scene_id == scene]


def input_digests(
    index_path: Path, data_root: Path, ckpt: Path, scene: str, options: EvaluateOptions
) -> dict[str, str]:
    """Digests of the checkpoint, of which clips of a log are measured, and of what the log holds."""
    clips = _clips(index_path, scene, options)
    rendered = load_ckpt(ckpt, torch.device("cpu"))["options"].get("camera")
    cameras = {rendered, *(camera for clip in clips for camera in clip.cameras)}
    names = tuple(name for name in CAMERAS if name in cameras)
    log = logs_digest(data_root, [scene], user_cache() / "digests", names, opened=True, annotated=True)
    return {"ckpt": file_digest(ckpt), f"clips_{scene}": clips_digest(clips), f"log_{scene}": log}


if __name__ == "__main__":
    run(main)
