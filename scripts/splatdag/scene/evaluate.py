"""Evaluate a run, or splats of any program, on a COLMAP dataset in the same world frame."""

from __future__ import annotations

import logging
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from splatdag.formats.photoset import PhotoSet
from splatdag.scene.ckpt_files import last_checkpoint, of_all_ranks
from splatdag.scene.evaluation import HeldOut, evaluate, mean_color, pair_of, predict, write_preview_of
from splatdag.scene.load import Scene
from splatdag.scene.options import EvaluateOptions
from splatdag.scene.saved_splats import SavedSplats, load_ckpt, load_ply
from splatdag.scene.simple_trainer_files import RunFiles
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.split import matching, split_photos
from splatdag.scene.views import View, camera_tensors
from splatdag.splats.devices import use_device
from splatdag.splats.metrics import psnr
from splatdag.splats.normalisation import Normalisation, normalisation, simple_trainer_frames
from splatdag.training.devices import device_memory_mb, device_name
from splatdag.workflow.attempts import process_seconds
from splatdag.workflow.digests import digest_of_folder, file_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import RunId, write_manifest
from splatdag.workflow.publish import read_json, write_json
from splatdag.workflow.sequences import evenly
from splatdag.workflow.stage import Job
from splatdag.workflow.stage import run as run_stage
from splatdag.workflow.weights import weights_of_run

logger = logging.getLogger(__name__)
_FAR = 10
"""Median distance of the cameras from the run's, in radii of those, from which they are called far."""
_EMPTY = 0.01
"""Mean opacity of a view below which nothing is to be seen."""
_LOOKS = 16
"""Number of views whose mean opacity is compared with it."""
_FRAME_LOOKS = 3
"""Number of views that decide the frame of other programs' Gaussians."""


def main(
    data_dir: Path,
    result_dir: Path,
    options: EvaluateOptions,
    job: Job,
    run: Path | None = None,
    ckpt: Path | None = None,
    ply: Path | None = None,
    trained_on: Path | None = None,
    device_count: int = 0,
) -> None:
    """Evaluate a run, or any file of splats, on the photos of a COLMAP dataset in the same world frame.

    A checkpoint of gsplat's simple_trainer is in a frame that is worked out anew from the dataset that it was trained
    on; cfg.yml of its run is heeded where it is there. The trivial baseline is an image of the mean colour of the
    photos.

    Args:
        data_dir: COLMAP dataset with `images/` and `sparse/`.
        result_dir: folder to publish to, such as `<run>/eval_on_<name>`.
        options: of the evaluation.
        job: how to run.
        run: folder of a run of ours, whose last checkpoint in `ckpts/` is taken.
        ckpt: a checkpoint of ours or of simple_trainer, in place of `run`; files of its other ranks beside it belong to
            it.
        ply: Gaussians in Inria's layout, in place of `run`.
        trained_on: COLMAP dataset that a checkpoint of simple_trainer was trained on, where it is not `data_dir`.
        device_count: CUDA devices to use; 0 is the CPU.
    """
    path = _splat_file(run, ckpt, ply)
    if result_dir.resolve() in path.resolve().parents:
        raise UserError(
            f"result_dir: {result_dir} holds the run itself; give a folder in it, such as eval_on_{data_dir.name}"
        )
    photos, model = _dataset(data_dir, "data_dir")
    device = use_device(device_count, job.threads)
    saved = load_ply(path, device) if ply is not None else load_ckpt(path, device)
    if saved.frame is not None and trained_on is not None:
        raise UserError(f"trained_on: {path} is a checkpoint of ours, which knows its frame; leave it out")
    chosen = _filled(options, saved, trained_on)
    saved.model.options = saved.options.model_copy(
        update={"antialiased": chosen.antialiased, "white_bg": chosen.white_bg}
    )
    scene = Scene(model, photos, chosen.data_factor or 1, chosen.max_image_size)
    names = _names(scene, chosen)
    held_out = HeldOut(scene, names, [], chosen.lpips_net or "alex", "auto", job.threads, device)
    logger.info("%d of %d photos", len(names), len(scene.names))
    if saved.frame is None:
        saved.frame = _frame(saved, scene, trained_on, held_out.views)
    for warning in frame_warnings(saved.model, held_out.views, saved.frame):
        logger.warning("%s", warning)
    with tempfile.TemporaryDirectory() as memory:
        inputs = _digests(photos, saved.files, trained_on, chosen, Path(memory))
    _measure(saved, held_out, chosen, result_dir, inputs, job, path.parent if ply is not None else path.parent.parent)


def _splat_file(run: Path | None, ckpt: Path | None, ply: Path | None) -> Path:
    """Return the file to evaluate."""
    given = [path for path in (run, ckpt, ply) if path is not None]
    if len(given) != 1:
        raise UserError("give one of --run, a run's folder, --ckpt, a checkpoint, and --ply, a file of Gaussians")
    path = last_checkpoint(run) if run is not None else given[0]
    if not path.is_file():
        raise UserError(f"{'ckpt' if ply is None else 'ply'}: no such file: {path}")
    return path


def _dataset(folder: Path, where: str) -> tuple[PhotoSet, Path]:
    """Find photos and COLMAP model of a dataset."""
    photos = PhotoSet(folder)
    photos.check(where)
    if photos.model is None:
        raise UserError(f"{where}: no COLMAP model in {folder}; a COLMAP dataset has images/ and sparse/")
    return photos, photos.model


def _names(scene: Scene, options: EvaluateOptions) -> list[str]:
    """Return the names of the photos to evaluate on."""
    _, held_out = split_photos(
        scene.names,
        split=options.split or "all",
        test_every=options.test_every or 1,
        match_string=None,
        eval_match_string=None,
        data_dir=scene.photos.data_dir,
        where="options",
    )
    return matching(held_out, options.eval_match_string, "eval_match_string")


@torch.no_grad()
def _frame(saved: SavedSplats, scene: Scene, trained_on: Path | None, views: list[View]) -> Normalisation:
    """Find the frame of other programs' Gaussians: of all candidates, the one in which renders equal the photos best.

    In a wrong frame renders are from other places than the photos, so that a few views suffice.
    """
    posed = scene if trained_on is None else Scene(_dataset(trained_on, "trained_on")[1], PhotoSet(trained_on))
    world = replace(normalisation(scene.centers, scene.points, normalize=False), center=saved.offset, scale=1.0)
    frames = [*simple_trainer_frames(posed.world_to_camera, posed.points), world]
    looks = [views[index] for index in evenly(len(views), _FRAME_LOOKS)]
    scores = [_psnr(saved.model, looks, frame) for frame in frames]
    best = int(np.argmax(scores))
    kind = "the world's" if frames[best] is world else "simple_trainer's, worked out from the dataset"
    logger.info("frame: %s (%.1f dB on %d photos; in others %.1f at most)",
                kind, scores[best], len(looks), max(scores[:best] + scores[best + 1 :], default=math.nan))  # fmt: skip
    return frames[best]


def _psnr(model: SplatModel, views: list[View], frame: Normalisation) -> float:
    """Compute the mean PSNR (dB) of views."""
    pairs = (pair_of(predict(model, view, frame), view, model) for view in views)
    return float(np.mean([min(psnr(pair.prediction, pair.truth, pair.mask), 100.0) for pair in pairs]))


def input_digests(
    data_dir: Path,
    options: EvaluateOptions,
    cache: Path,
    run: Path | None = None,
    ckpt: Path | None = None,
    ply: Path | None = None,
    trained_on: Path | None = None,
) -> dict[str, str]:
    """Return digests of the photos, of the files of Gaussians, and of the cameras and points that give their frame."""
    path = _splat_file(run, ckpt, ply)
    return _digests(PhotoSet(data_dir), [path] if ply is not None else of_all_ranks(path), trained_on, options, cache)


def _digests(
    photos: PhotoSet, files: list[Path], trained_on: Path | None, options: EvaluateOptions, cache: Path
) -> dict[str, str]:
    digests = {"photos": photos.digest(cache, options.data_factor or 1)}
    for rank, file in enumerate(files):
        digests[f"checkpoint_rank{rank}" if rank else "checkpoint"] = file_digest(file)
    if trained_on is not None:
        digests["trained_on"] = digest_of_folder(_dataset(trained_on, "trained_on")[1])
    return digests


def _run_id(job: Job, run_dir: Path, result_dir: Path) -> RunId:
    """Return the id of the evaluation: the job's own, else a variant of the run, where that has a manifest."""
    manifest = run_dir / "manifest.json"
    try:
        run = RunId.model_validate(read_json(manifest).get("run") if manifest.is_file() and not job.run_id else None)
    except ValidationError:  # no manifest, or one of others
        return RunId.of(job.run_id, "scene.evaluate", result_dir)
    variant = "/".join(filter(None, (run.variant, result_dir.resolve().name)))
    return run.model_copy(update={"variant": variant})


def _filled(options: EvaluateOptions, saved: SavedSplats, trained_on: Path | None) -> EvaluateOptions:
    """Fill options that are not set with those of the training."""
    same = {
        name: getattr(saved.options, name)
        for name in ("data_factor", "max_image_size", "lpips_net", "test_every", "antialiased", "white_bg")
        if getattr(options, name) is None
    }
    if options.split is None:
        same["split"] = "test_every" if saved.of_simple_trainer and trained_on is None else "all"
    return options.model_copy(update=same)


@torch.no_grad()
def frame_warnings(model: SplatModel, views: list[View], frame: Normalisation) -> list[str]:
    """Return warnings, a line each, that the views' cameras seem to be in another world frame than the run's.

    Args:
        model: Gaussians in the frame of training.
        views: to evaluate on.
        frame: from the world to the frame of training.
    """
    question = "is its COLMAP model in the same world frame as the run's?"
    middle = model.parameters["means"].median(dim=0).values.double().cpu().numpy()
    distances = np.linalg.norm([frame.points(view.center) - middle for view in views], axis=1)
    times = float(np.median(distances)) / frame.extent
    if times > _FAR:
        return [f"the dataset's cameras are {times:,.0f} times as far out as the run's; {question}"]
    seen = [views[i] for i in evenly(len(views), _LOOKS)]
    empty = sum(_opacity(model, view, frame) < _EMPTY for view in seen)
    if empty > len(seen) / 2:
        return [f"nothing is to be seen in {empty} of {len(seen)} views; {question}"]
    return []


def _opacity(model: SplatModel, view: View, frame: Normalisation) -> float:
    height, width = view.image_HW3.shape[:2]
    camera = camera_tensors(view, frame, model.parameters["means"].device)
    return float(model.draw(*camera, width, height)[1].mean())


def _measure(
    saved: SavedSplats,
    held_out: HeldOut,
    options: EvaluateOptions,
    result_dir: Path,
    inputs: dict[str, str],
    job: Job,
    run_dir: Path,
) -> None:
    """Evaluate and write the run contract, the manifest last."""
    assert saved.frame is not None
    startup, begin = process_seconds(), time.perf_counter()
    model, frame, device = saved.model, saved.frame, saved.model.parameters["means"].device
    data_dir = held_out.scene.photos.data_dir
    files = RunFiles(result_dir, model.options, frame, {"data_dir": str(data_dir), "result_dir": str(result_dir)})
    files.begin()
    views, step = held_out.views, max(saved.step, 1)
    found = evaluate(
        model,
        views,
        frame,
        mean_color(views, model.options.white_bg, device),
        measure_lpips=held_out.lpips,
        render=lambda index: files.render(step, index),
    )
    evaluated = time.perf_counter() - begin
    mean, gaussians = found.figures["mean"], len(model.parameters["means"])
    logger.info("%.2f dB PSNR, %.4f SSIM on %d photos of %s", mean["psnr"], mean["ssim"], len(views), data_dir)
    files.evaluated(step, mean, found.seconds_per_image, gaussians)
    write_preview_of(result_dir / "preview.jpg", model, views, frame)
    write_json(result_dir / "metrics.json", {"step": saved.step, **found.figures})
    made_with = [weights for weights in weights_of_run(run_dir) if weights.used_for == "results"]
    write_manifest(
        result_dir / "manifest.json",
        "scene.evaluate",
        _run_id(job, run_dir, result_dir),
        {"startup": startup, "eval": evaluated, "publish": time.perf_counter() - begin - evaluated},
        sample=job.sample,
        options=options.model_dump(mode="json"),
        chosen=options,
        inputs=inputs,
        device=device_name(device),
        device_memory_mb=device_memory_mb(device),
        images=held_out.kept,
        gaussians=gaussians,
        steps=saved.step or None,
        offset=frame.offset().tolist(),
        weights=[*made_with, *held_out.lpips.weights],
    )


if __name__ == "__main__":
    run_stage(main)
