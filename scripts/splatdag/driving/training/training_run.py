"""What trainings of Flux4D leave in their run folder, and what they continue from."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from splatdag.driving.clips.clip_loader import Loader
from splatdag.driving.clips.clips import Clip
from splatdag.driving.network.model import Flux4D
from splatdag.driving.training.checkpoints import VELOCITY_UNIT
from splatdag.driving.training.trainer import Trained, Work, train
from splatdag.driving.training_options import LearnOptions
from splatdag.splats.devices import device_memory_mb, device_name, use_device
from splatdag.training.checkpoint import Checkpoint
from splatdag.training.curves import write_curves
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.digests import file_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.lease import lease
from splatdag.workflow.manifest import now, package_versions, peak_resident_mb
from splatdag.workflow.publish import complete, write_json
from splatdag.workflow.stage import Job

logger = logging.getLogger(__name__)
_NO_EFFECT = {"log_every", "save_every", "save_ckpt_every", "checkpoint_every", "cache_max_items"}
"""Options that change nothing of what is learnt."""


def learn_run(
    stage: str,
    index_path: Path,
    make_loader: Callable[[], Loader],
    frames: tuple[int, ...] | None,
    clips: list[Clip],
    run_dir: Path,
    options: LearnOptions,
    job: Job,
    device_count: int,
    measure: Callable[[Flux4D, torch.device], None] | None = None,
) -> None:
    """Train, and publish the network: ckpt_last.pt, curves.png, curves.json and, last, meta.json.

    In meta.json `steps` are all that the network has behind it, and `steps_before` those of `resume_from`. Seconds are
    of this training alone: `train` over all its attempts, `startup` of the last.

    The state of the training is kept until all is done, `measure` too: after a kill nothing is trained again.

    Args:
        stage: module that trains, such as `driving.train`.
        index_path: index of the clips.
        make_loader: gives the clips; another process can call it too.
        frames: of each clip, to learn from; None is all.
        clips: that are learnt from.
        run_dir: run folder.
        options: of the training.
        job: how to run.
        device_count: CUDA devices; 0 is the CPU.
        measure: what else there is to do with the network, on its device.
    """
    with lease(run_dir / "state"):
        device = use_device(device_count, job.threads)
        if device.type == "cpu":
            torch.set_num_threads(job.threads)  # the network's work is torch's, the rasteriser's is numba's
        for notice in options.notices():
            logger.info("%s", notice)
        chosen = {name: value for name, value in options.model_dump(mode="json").items() if name not in _NO_EFFECT}
        inputs = {"index": file_digest(index_path)}
        if options.resume_from is not None:
            if not Path(options.resume_from).is_file():
                raise UserError(
                    f"resume_from: no such file: {options.resume_from}; of the same run give a ckpt_step_XXXXXX.pt,"
                    " since ckpt_last.pt is made anew"
                )
            inputs["resume_from"] = file_digest(Path(options.resume_from))
        key = {"options": repr(sorted(chosen.items())), "code": code_digest(stage), "device": device.type, **inputs}
        checkpoint = Checkpoint(run_dir / "state", key)
        startup = time.time() - psutil.Process().create_time()
        logger.info("%d clips of %d logs", len(clips), len({clip.scene_id for clip in clips}))
        work = Work(make_loader, frames, options, checkpoint.path)
        result = train(work, run_dir, checkpoint, device, max(1, device_count))
        meta = {
            "stage": stage,
            "created_at": now(),
            "options": options.model_dump(mode="json"),
            "inputs": inputs,
            "code": code_digest(stage),
            "packages": package_versions(),
            "device": device_name(device, max(1, device_count)),
            "clips": len(clips),
            "left_out": result.left_out,
            "velocity_unit": VELOCITY_UNIT,
            "steps": result.step,
            "steps_before": result.before,
            "parameters": sum(parameter.numel() for parameter in result.model.parameters()),
            "seconds": {"startup": round(startup, 2), "train": round(result.seconds, 2)},
            "peak_memory_mb": {
                "host": round(peak_resident_mb(), 1),
                **device_memory_mb(device, result.rank_memory_mb),
            },
        }
        _publish(run_dir, result, meta)
        if measure is not None:
            measure(result.model, device)


def _publish(run_dir: Path, result: Trained, meta: dict[str, Any]) -> None:
    last = run_dir / f"ckpt_step_{result.step:06d}.pt"
    with complete(run_dir / "ckpt_last.pt") as temporary:
        os.link(last, temporary)  # the same file under a second name
    write_curves(run_dir / "curves.png", result.curve, [], run_dir.name)
    columns = zip(("step", "loss", "psnr"), np.array(result.curve).reshape(-1, 3).T.tolist(), strict=True)
    write_json(run_dir / "curves.json", {"training": dict(columns), "held_out": []})
    write_json(run_dir / "meta.json", meta)
