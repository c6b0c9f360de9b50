"""What is measured of a run: a folder for each log, and the run contract from all of them."""

from __future__ import annotations

import json
import logging
import shutil
import time
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
from splatdag.splats.devices import device_memory_mb
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import RunId, now, write_manifest
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job

logger = logging.getLogger(__name__)
MEASURED = "metrics.json"
"""Of a log's folder, written last: what was measured, by image and on the whole."""


def measure_scene(
    model: Flux4D,
    reader: Reader,
    clips: list[Clip],
    folder: Path,
    definition: Definition,
    save_max_clips: int | None,
    device: torch.device,
    strict: bool = True,
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

    Returns:
        what was measured, of which `metrics.json` has the whole as `rows`.

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
            found = evaluate_clip(model, scene, log, reader.options, definition)
        except UserError as error:
            if strict:
                raise
            left_out[clip.clip_id] = str(error)
            logger.warning("clip %s left out: %s", clip.clip_id, error)
            continue
        images += found.images
        pairs += found.pairs
        seconds.append(found.seconds)
        gaussians = max(gaussians, len(scene.start))
        logger.info("%s: %s", clip.clip_id, _told(found))
        saved = save_max_clips is None or number < save_max_clips
        if saved:
            write_splats(folder / clip.clip_id, log, scene, found.moving)
        if saved or len(seconds) == 1:
            write_pictures(folder / clip.clip_id, log, scene, found.drawn, video=saved)
    rows = {
        "images": images,
        "pairs": pairs,
        "seconds": seconds,
        "wall_seconds": time.perf_counter() - begin,
        "left_out": left_out,
        "gaussians": gaussians,
        "dynamic_mask": DEFINITIONS[definition],
        "memory_mb": device_memory_mb(device),
    }
    about = {"scene": folder.name, "created_at": now(), "dynamic_mask": DEFINITIONS[definition]}
    write_json(folder / MEASURED, (summary(images, pairs, about) if images else {"meta": about}) | {"rows": rows})
    return rows


def _told(found: ClipEvaluation) -> str:
    novel = [row["psnr"] for row in found.images if row["kind"] != "input"] or [row["psnr"] for row in found.images]
    return f"{np.mean(novel):.2f} dB, {found.seconds['reconstruct']:.2f} s to reconstruct"


def publish_run(run_dir: Path, measured: list[Row], about: dict[str, Any], job: Job) -> None:
    """Write metrics.json, preview.jpg and, last, manifest.json of a run from what was measured of its logs.

    Args:
        run_dir: with meta.json of the training and a folder of each log.
        measured: of each log, as `measure_scene` returns it.
        about: more for `meta` of metrics.json.
        job: how the stage runs.

    Raises:
        UserError: nothing was measured.
    """
    begin = time.perf_counter()
    images = [row for one in measured for row in one["images"]]
    pairs = [row for one in measured for row in one["pairs"]]
    left_out = {name: reason for one in measured for name, reason in one["left_out"].items()}
    if not images:
        reason = next(iter(left_out.values()), "the index has none of these logs")
        raise UserError(f"no test clip can be measured: {reason}")
    meta = json.loads((run_dir / "meta.json").read_text(encoding="utf-8"))
    (run_dir / "manifest.json").unlink(missing_ok=True)  # of an older run, whose files are now replaced
    clips = [one for row in measured for one in row["seconds"]]
    about = {
        "created_at": now(),
        "step": meta["steps"],
        "dynamic_mask": measured[0]["dynamic_mask"],
        "seconds": {name: float(np.median([clip[name] for clip in clips])) for name in clips[0]},
        "left_out": left_out,
        "velocity_unit": "metres per second",
        "camera_name": meta["options"]["camera"],
        **about,
    }
    metrics = summary(images, pairs, about)
    _write_preview(run_dir / "preview.jpg", run_dir)
    write_json(run_dir / "metrics.json", metrics)
    seconds = {
        **meta["seconds"],
        "eval": sum(one["wall_seconds"] for one in measured),
        "publish": time.perf_counter() - begin,
    }
    peaks = [meta["peak_memory_mb"], *(one["memory_mb"] for one in measured)]
    memory = {"cuda": max(peak["cuda"] for peak in peaks if "cuda" in peak)} if "cuda" in meta["peak_memory_mb"] else {}
    write_manifest(
        run_dir / "manifest.json",
        stage=meta["stage"],
        run=RunId.of(job.run_id, meta["stage"], run_dir),
        sample=job.sample,
        seconds=seconds,
        options=meta["options"],
        inputs=meta["inputs"],
        device=meta["device"],
        device_memory_mb=memory,
        images=f"{len(images)} images of {len({row['clip_id'] for row in images})} clips",
        gaussians=max(one["gaussians"] for one in measured),
        steps=meta["steps"],
        offset=[0.0, 0.0, 0.0],
    )
    mean, first = metrics["mean"], metrics["baselines"]["init_only"]["nvs"]["full"]
    logger.info(
        "%s dB; %s without the network, %s an image of the mean colour",
        *(_figure(value) for value in (mean["psnr"], first["psnr_mean"], metrics["baseline"]["psnr"])),
    )


def _figure(value: float | None) -> str:
    return "no" if value is None else f"{value:.2f}"


def _write_preview(path: Path, folder: Path) -> None:
    """Prediction | ground truth of some images of all logs; of those to be predicted, where there are any."""
    found = [
        (cameras.parent, view)
        for cameras in sorted(folder.glob("*/*/cameras.json"))
        for view in json.loads(cameras.read_text(encoding="utf-8"))["views"]
    ]
    predicted = [(place, view) for place, view in found if not view["given"]]
    write_pairs(path, [_pair(place, view["frame"]) for place, view in spread(predicted or found)])


def _pair(place: Path, frame: int) -> tuple[np.ndarray, np.ndarray, str]:
    prediction, truth = (read_pixels(place / f"{kind}_{frame:02d}.jpg").rgb for kind in ("pred", "gt"))
    return prediction, truth, f"{place.name}, image {frame:02d}"
