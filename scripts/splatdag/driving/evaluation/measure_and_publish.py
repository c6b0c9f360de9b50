"""Evaluation of a network: a folder for each log, and metrics and preview from all of them."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splatdag.driving.clips.clip_reader import Reader
from splatdag.driving.clips.clips import Clip
from splatdag.driving.evaluation.dynamic_masks import DEFINITIONS, Definition
from splatdag.driving.evaluation.evaluation import ClipEvaluation, evaluate_clip
from splatdag.driving.evaluation.outputs import write_pictures, write_splats
from splatdag.driving.evaluation.scores import Row, summary
from splatdag.driving.logs.pandaset import PANDARGT
from splatdag.driving.network.model import Flux4D
from splatdag.driving.training_options import NO_DEPTH
from splatdag.formats.images import read_pixels
from splatdag.scene.preview import spread, write_pairs
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import Manifest, now
from splatdag.workflow.publish import write_json

logger = logging.getLogger(__name__)
MEASURED = "metrics.json"
"""File in a log's folder, written last: the figures of each image, and of all."""


def measure_scene(
    model: Flux4D,
    reader: Reader,
    clips: list[Clip],
    folder: Path,
    definition: Definition,
    save_max_clips: int | None,
    device: torch.device,
    strict: bool = True,
    manifest: Callable[[dict[str, float]], Manifest] | None = None,
) -> Row:
    """Measure clips of one log and write what they look like; `metrics.json` comes last.

    Args:
        model: trained.
        reader: of clips, as the model was trained on them.
        clips: of the log.
        folder: of the log, which is emptied first.
        definition: of what is called dynamic.
        save_max_clips: clips that leave splats, motion and a video; None is all. These and the first leave pictures.
        device: of the model.
        strict: stop at a clip that can't be read or measured.
        manifest: makes the manifest of this process from wall times by name, where it is a part of a run.

    Returns:
        rows of images and pairs, and what else `metrics.json` has as `rows`.

    Raises:
        UserError: a clip can't be read or measured, and `strict` is set.
    """
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.perf_counter()
    images: list[Row] = []
    pairs: list[Row] = []
    seconds: list[dict[str, float]] = []
    left_out: dict[str, str] = {}
    gaussians = 0
    if reader.options.lidar_sensor_id == PANDARGT:
        logger.info("depth_rmse is null, since %s", NO_DEPTH)
    for number, clip in enumerate(clips):
        try:
            scene, log = reader(clip).to(device), reader.log(clip)
            evaluation = evaluate_clip(model, scene, log, reader.options, definition)
        except UserError as error:
            if strict:
                raise
            left_out[clip.clip_id] = str(error)
            logger.warning("clip %s left out: %s", clip.clip_id, error)
            continue
        images += evaluation.images
        pairs += evaluation.pairs
        seconds.append(evaluation.seconds)
        gaussians = max(gaussians, len(scene.start))
        logger.info("%s: %s", clip.clip_id, _brief(evaluation))
        saved = save_max_clips is None or number < save_max_clips
        if saved:
            write_splats(folder / clip.clip_id, log, scene, evaluation.moving)
        if saved or len(seconds) == 1:
            write_pictures(folder / clip.clip_id, log, scene, evaluation.drawn, video=saved)
    rows = {
        "images": images,
        "pairs": pairs,
        "seconds": seconds,
        "left_out": left_out,
        "gaussians": gaussians,
        "dynamic_mask": DEFINITIONS[definition],
    }
    if manifest is not None:
        rows["manifest"] = manifest({"eval": time.perf_counter() - begin}).model_dump(mode="json")
    meta = {"scene": folder.name, "created_at": now(), "dynamic_mask": DEFINITIONS[definition]}
    write_json(folder / MEASURED, (summary(images, pairs, meta) if images else {"meta": meta}) | {"rows": rows})
    return rows


def _brief(evaluation: ClipEvaluation) -> str:
    images = evaluation.images
    novel = [row["psnr"] for row in images if row["kind"] != "input"] or [row["psnr"] for row in images]
    return f"{np.mean(novel):.2f} dB, {evaluation.seconds['reconstruct']:.2f} s to reconstruct"


def check_place(run_dir: Path, ckpt: Path) -> None:
    """Check that what is measured of a checkpoint replaces nothing of another.

    Raises:
        UserError: the folder is that of another training.
    """
    others = sorted(path.name for path in run_dir.glob("ckpt_*.pt"))
    if others and ckpt.resolve().parent != run_dir.resolve():
        raise UserError(f"{run_dir}: has {others[0]} of another training; measure {ckpt} in a folder of its own")


def publish_run(run_dir: Path, measured: dict[str, Row], about: dict[str, Any]) -> dict[str, Any]:
    """Write preview.jpg and metrics.json of a run from the rows of logs; an older manifest is removed first.

    Args:
        run_dir: with a folder of each log.
        measured: rows of each log, as `measure_scene` returns them, by the name of its folder.
        about: more for `meta` of metrics.json; `step` is that of the checkpoint.

    Returns:
        optional fields of the manifest, which is left to be written.

    Raises:
        UserError: nothing was measured.
    """
    images = [row for rows in measured.values() for row in rows["images"]]
    pairs = [row for rows in measured.values() for row in rows["pairs"]]
    left_out = {name: reason for rows in measured.values() for name, reason in rows["left_out"].items()}
    if not images:
        reason = next(iter(left_out.values()), "the index has none of these logs")
        raise UserError(f"no test clip can be measured: {reason}")
    (run_dir / "manifest.json").unlink(missing_ok=True)  # of an older run, whose files are now replaced
    clips = [clip for rows in measured.values() for clip in rows["seconds"]]
    meta = {
        "created_at": now(),
        "dynamic_mask": next(iter(measured.values()))["dynamic_mask"],
        "seconds": {name: float(np.median([clip[name] for clip in clips])) for name in clips[0]},
        "left_out": left_out,
        "velocity_unit": "metres per second",
        **about,
    }
    metrics = summary(images, pairs, meta)
    _write_preview(run_dir / "preview.jpg", [run_dir / name for name in measured])
    write_json(run_dir / "metrics.json", metrics)
    mean, initial = metrics["mean"], metrics["baselines"]["init_only"]["nvs"]["full"]
    logger.info(
        "%s dB; %s without the network, %s an image of the mean colour",
        *(_decibels(value) for value in (mean["psnr"], initial["psnr_mean"], metrics["baseline"]["psnr"])),
    )
    return {
        "images": f"{len(images)} images of {len({row['clip_id'] for row in images})} clips",
        "gaussians": max(rows["gaussians"] for rows in measured.values()),
        "steps": about["step"],
        "offset": [0.0, 0.0, 0.0],
    }


def _decibels(value: float | None) -> str:
    return "no" if value is None else f"{value:.2f}"


def _write_preview(path: Path, logs: list[Path]) -> None:
    """Draw prediction | ground truth of some images of logs; of those to be predicted, where there are any."""
    views = [
        (cameras.parent, view)
        for log in logs
        for cameras in sorted(log.glob("*/cameras.json"))
        for view in json.loads(cameras.read_text(encoding="utf-8"))["views"]
    ]
    predicted = [(clip, view) for clip, view in views if not view["given"]]
    write_pairs(path, [_pair(clip, view["frame"]) for clip, view in spread(predicted or views)])


def _pair(clip: Path, frame: int) -> tuple[np.ndarray, np.ndarray, str]:
    prediction, truth = (read_pixels(clip / f"{kind}_{frame:02d}.jpg").rgb for kind in ("pred", "gt"))
    return prediction, truth, f"{clip.name}, image {frame:02d}"
