"""Runs of Flux4D: their inputs, the checkpoint that they begin with, and the files that they leave."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from splatdag.driving.clips.clip_loader import Loader
from splatdag.driving.clips.clips import Clip, clips_digest
from splatdag.driving.logs.contents import learnt_digests
from splatdag.driving.training.checkpoints import LAST, STEP_FILE, STEP_FILES, VELOCITY_UNIT, load_ckpt, steps_of
from splatdag.driving.training.flux4d_training import ADVICE, Flux4DTraining, TrainingData, train
from splatdag.driving.training_options import LearnOptions
from splatdag.splats.cuda.extension import ensure_extension
from splatdag.training.curves import write_curves, write_extra_curves
from splatdag.training.loop import Result
from splatdag.training.run import Run, run_folder
from splatdag.workflow.digests import file_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import now
from splatdag.workflow.publish import read_json, write_json
from splatdag.workflow.stage import Job
from splatdag.workflow.user_cache import user_cache

logger = logging.getLogger(__name__)
LOG = "train.log"


def train_run(
    stage: str,
    data_root: Path,
    make_loader: Callable[[], Loader],
    frames: tuple[int, ...] | None,
    clips: list[Clip],
    run_dir: Path,
    options: LearnOptions,
    job: Job,
    device_count: int,
    learnt_from: Callable[[], dict[str, Any]],
    measure: Callable[[Flux4DTraining, Run], dict[str, Any]] | None = None,
) -> None:
    """Train, and publish the network: curves.png, curves.json and, last, meta.json; checkpoints are there before.

    meta.json is the manifest of the training, with more that old tools read under its old keys: `config` is the file of
    options, None where flags alone gave them; `steps_before` are those of `resume_from`, which `steps` has among them.
    Seconds are of this training alone: `train` over all its attempts, `startup` of the last.

    The state of the training is kept until all is done, `measure` too: after a kill nothing is trained again.

    Args:
        stage: module that trains, such as `driving.training.train`.
        data_root: folder of the logs.
        make_loader: gives the clips; another process can call it too.
        frames: of each clip, to learn from; None is all.
        clips: that are learnt from.
        run_dir: run folder.
        options: of the training.
        job: how to run.
        device_count: CUDA devices; 0 is the CPU.
        learnt_from: gives what meta.json says of index and clip.
        measure: what else there is to do with the network; returns optional fields of the manifest, which then is the
            whole run's.
    """
    inputs = partial(_inputs, data_root, clips, options, run_dir)
    with run_folder(
        stage, run_dir, options, inputs, job, device_count, advice=ADVICE, prepare=ensure_extension, log=LOG
    ) as run:
        if run.device.type == "cpu":
            torch.set_num_threads(job.threads)  # the network's work is torch's, the rasteriser's is numba's
        logger.info("%d clips of %d logs", len(clips), len({clip.scene_id for clip in clips}))
        source = _source(options, run_dir)
        if source is not None:  # the manifest names the file that it began with, whatever the run's last one is then
            run.options = options.model_copy(update={"resume_from": str(source)})
        data = TrainingData(make_loader, frames, options, source)
        result = train(data, run_dir, run.state_file, run.device, run.ranks)
        run.add(result)
        old = {
            "config": None if job.config is None else str(job.config),
            **learnt_from(),
            "camera_name": options.camera,
            "resume_from": None if source is None else str(source),
            "resume_optimizer": not options.resume_no_optim,
            "save_ckpt_every": options.save_ckpt_every,
        }
        _publish(run, result, clips, old)
        if measure is not None:
            run.write_manifest(**measure(result.training, run))


def input_digests(data_root: Path, clips: list[Clip], options: LearnOptions, source: Path | None) -> dict[str, str]:
    """Compute digests of all that is learnt from: frames of the clips, contents of logs, the checkpoint `source`."""
    cameras = {options.camera, *(camera for clip in clips for camera in clip.cameras)}
    names = sorted({clip.scene_id for clip in clips})
    checkpoint = {} if source is None else {"resume_from": file_digest(source)}
    return {
        **checkpoint,
        "clips": clips_digest(clips),
        **learnt_digests(data_root, names, sorted(cameras), user_cache() / "digests"),
    }


def _inputs(data_root: Path, clips: list[Clip], options: LearnOptions, run_dir: Path, cache: Path) -> dict[str, str]:
    """Compute all digests; `cache` is not used, since runs that learn from the same logs need not all read them."""
    return input_digests(data_root, clips, options, _source(options, run_dir))


def _source(options: LearnOptions, run_dir: Path) -> Path | None:
    """Find the checkpoint to begin with; None where the options name none.

    The run's own ckpt_last.pt is the one of the most steps when the training with these options was first asked for:
    resume_from.json remembers it, since the training makes later ones. The file need not be there: Snakemake removes
    what a rule makes, and it is a second name of a ckpt_step_XXXXXX.pt.

    Raises:
        UserError: it is not there.
    """
    if options.resume_from is None:
        return None
    path = Path(options.resume_from)
    if path.name != LAST or path.resolve().parent != run_dir.resolve():
        if not path.is_file():
            raise UserError(f"resume_from: no such file: {path}")
        return path
    memory = run_dir / "resume_from.json"
    known = read_json(memory) if memory.is_file() else {}
    key = hashlib.blake2b(options.training_key().encode(), digest_size=8).hexdigest()
    if key not in known or not (run_dir / str(known[key])).is_file():
        write_json(memory, known | {key: _last_checkpoint(run_dir, path).name})
        return _source(options, run_dir)
    return run_dir / str(known[key])


def _last_checkpoint(run_dir: Path, last: Path) -> Path:
    """Find the ckpt_step_XXXXXX.pt of the most steps; `last` becomes one if it is the only checkpoint."""
    if not list(run_dir.glob(STEP_FILES)):
        if not last.is_file():
            raise UserError(f"resume_from: no such file: {last}, and no ckpt_step_XXXXXX.pt beside it")
        os.link(last, run_dir / STEP_FILE.format(load_ckpt(last, torch.device("cpu"))["step"]))
    return max(run_dir.glob(STEP_FILES), key=steps_of)


def _publish(run: Run, result: Result[Flux4DTraining], clips: list[Clip], old: dict[str, Any]) -> None:
    """Write the curves and, last, meta.json, with what its old keys say."""
    training, curve, begun_at = result.training, result.progress.curve, result.progress.begun_at
    write_curves(run.folder / "curves.png", curve, [], run.folder.name)
    write_extra_curves(run.folder / "curves.json", curve, [])
    meta = {
        **run.manifest(steps=training.step).model_dump(mode="json"),
        **old,
        "created_at": now(),
        "clips": len(clips),
        "left_out": training.left_out,
        "velocity_unit": VELOCITY_UNIT,
        "steps_before": begun_at,
        "parameters": sum(parameter.numel() for parameter in training.parameters),
    }
    write_json(run.folder / "meta.json", meta)
