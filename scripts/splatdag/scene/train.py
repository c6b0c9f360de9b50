"""Train Gaussians on the posed photos of one scene, evaluate them on held-out photos, and publish the run."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from splatdag.formats.photoset import PhotoSet
from splatdag.scene.evaluation import (
    check_measurable,
    check_sizes,
    evaluate,
    least_side,
    mean_color,
    write_flythrough,
    write_preview,
)
from splatdag.scene.load import Scene, load_scene
from splatdag.scene.options import TrainOptions
from splatdag.scene.simple_trainer_files import RunFiles
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.split import list_file, split_photos
from splatdag.scene.trainer import train
from splatdag.scene.training_state import Trained
from splatdag.scene.views import View
from splatdag.splats.cuda.warm_up import warm_up
from splatdag.splats.devices import OutOfDeviceMemory, device_memory_mb, device_name, use_device
from splatdag.splats.gaussians import Parameters, from_points, random_points
from splatdag.splats.lpips import lpips_where_possible
from splatdag.splats.normalisation import Normalisation, normalisation
from splatdag.splats.ply import write_ply
from splatdag.training.checkpoint import Checkpoint
from splatdag.training.curves import write_curves
from splatdag.training.rank_processes import check_batch
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.digests import digest_of_folder, file_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.lease import lease
from splatdag.workflow.manifest import RunId, write_manifest
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)


def main(data_dir: Path, model: Path, result_dir: Path, options: TrainOptions, job: Job, device_count: int = 0) -> None:
    """Train Gaussians on the posed photos of one scene.

    Args:
        data_dir: folder of photos, or COLMAP dataset with `images/`.
        model: COLMAP model of the photos: its folder, or a file in it.
        result_dir: run folder to publish to.
        options: of the training.
        job: how to run.
        device_count: CUDA devices to use, which share the views of each step; 0 is the CPU.
    """
    options = options.resolved(device_count)
    photos = PhotoSet(data_dir)
    photos.check("data_dir")
    if not model.exists():
        raise UserError(f"model: no such file or folder: {model}")
    model = model if model.is_dir() else model.parent
    check_batch(options.batch_size, max(1, device_count))
    with lease(result_dir / "state"):
        _train(photos, model, result_dir, options, job, device_count)


def _train(photos: PhotoSet, model: Path, result_dir: Path, options: TrainOptions, job: Job, device_count: int) -> None:
    ranks = max(1, device_count)
    device = use_device(device_count, job.threads)
    warm = warm_up(device)
    for notice in options.notices():
        logger.info("%s", notice)
    state = result_dir / "state"
    inputs = {"photos": photos.digest(state, options.data_factor), "model": digest_of_folder(model)}
    scene = load_scene(
        model,
        photos,
        options.data_factor,
        job.threads,
        max_image_size=options.max_image_size,
        with_points=options.depth_loss,
        image_cache=options.image_cache,
        device=device,
        shared=ranks > 1,
    )
    views, held_out = _split(scene, photos.data_dir, options)
    listed = list_file(options.split, photos.data_dir)
    if listed is not None:
        inputs["split"] = file_digest(listed)
    frame = _frame(scene, options)
    code = code_digest("scene.train")
    # A state of another kind of device can't be continued: random numbers come from the device.
    key = {"options": options.learnt_from(), "code": code, "device": device.type, **inputs}
    chosen = options.scaled()
    files = RunFiles(result_dir, chosen, frame, {"data_dir": str(photos.data_dir), "result_dir": str(result_dir)})
    average = mean_color(views, chosen.white_bg, device)

    lpips = lpips_where_possible(chosen.lpips_net, least_side(held_out), device)

    def measure(model: SplatModel, step: int) -> dict[str, Any]:
        found = evaluate(
            model, held_out, frame, average, measure_lpips=lpips, render=lambda index: files.render(step, index)
        )
        files.evaluated(step, found.figures["mean"], found.seconds_per_image, len(model.parameters["means"]))
        if not chosen.disable_video:
            write_flythrough(files.video(step), model, scene.views, frame, scene.points)
        return found.figures

    warm()
    startup = time.time() - psutil.Process().create_time()
    start = _start(scene, frame, chosen)
    checkpoint = Checkpoint(state, key)
    about: dict[str, Any] = {
        "stage": "scene.train",
        "run": RunId.of(job.run_id, "scene.train", result_dir),
        "sample": job.sample,
        "options": options.model_dump(mode="json"),
        "inputs": inputs,
        "device": device_name(device, ranks),
        "images": scene.kept,
        "offset": frame.offset().tolist(),
        "weights": lpips.weights if lpips else [],
    }
    try:
        result = train(views, frame, start, chosen, checkpoint, measure, files, device, ranks)
    except OutOfDeviceMemory as error:
        about |= {"steps": error.step, "gaussians": error.gaussians, "device_memory_mb": device_memory_mb(device)}
        write_manifest(state / "manifest.json", seconds={"startup": startup}, exit_reason="cuda_oom", **about)
        raise
    logger.info("held out: %(psnr).2f dB PSNR, %(ssim).4f SSIM", result.evaluations[-1]["mean"])
    about["device_memory_mb"] = device_memory_mb(device, result.rank_memory_mb)
    _publish(result, held_out, frame, options.antialiased, result_dir, startup, about)
    (state / "manifest.json").unlink(missing_ok=True)  # of an attempt that ended for want of memory


def _split(scene: Scene, data_dir: Path, options: TrainOptions) -> tuple[list[View], list[View]]:
    """Views to train on and views to evaluate on."""
    if len(scene.views) < 2:
        raise UserError(f"only {len(scene.views)} registered photo; training needs at least two")
    if not len(scene.points) and options.init_type == "sfm":
        raise UserError("the COLMAP model has no points to start from; init_type random starts without")
    check_sizes(scene.views)
    by_name = {view.name: view for view in scene.views}
    sides = split_photos(
        list(by_name),
        split=options.split,
        test_every=options.test_every,
        match_string=options.match_string,
        eval_match_string=options.eval_match_string,
        data_dir=data_dir,
    )
    views, held_out = ([by_name[name] for name in side] for side in sides)
    check_measurable(held_out)
    logger.info("%d photos to train on, %d held out, %d points", len(views), len(held_out), len(scene.points))
    if set(sides[0]) & set(sides[1]):
        logger.info("photos are evaluated that are trained on; the figures say nothing about new views")
    return views, held_out


def _frame(scene: Scene, options: TrainOptions) -> Normalisation:
    centers = np.array([view.center for view in scene.views])
    frame = normalisation(centers, scene.points, options.normalize_world_space)
    return replace(frame, extent=frame.extent * options.global_scale)


def _start(scene: Scene, frame: Normalisation, options: TrainOptions) -> Parameters:
    generator = torch.Generator().manual_seed(options.seed)
    if options.init_type == "random":
        middle = frame.points(np.mean([view.center for view in scene.views], axis=0))
        points, colors = random_points(options.init_num_pts, middle, options.init_extent * frame.extent, generator)
    else:
        points = frame.points(scene.points[: options.max_init_points])
        colors = scene.colors[: options.max_init_points]
    return from_points(
        points,
        colors,
        sh_degree=options.sh_degree,
        init_opacity=options.init_opa,
        init_scale=options.init_scale,
        generator=generator,
    )


def _publish(
    result: Trained,
    held_out: list[View],
    frame: Normalisation,
    antialiased: bool,
    run_dir: Path,
    startup: float,
    about: dict[str, Any],
) -> None:
    """Write the run contract, the manifest last."""
    begin = time.perf_counter()
    model, gaussians = result.model, len(result.model.parameters["means"])
    (run_dir / "manifest.json").unlink(missing_ok=True)  # of an older run, whose files are now replaced
    write_ply(run_dir / "splat.ply", model.published(), frame, antialiased)
    write_preview(run_dir / "preview.jpg", model, held_out, frame)
    write_curves(run_dir / "curves.png", result.curve, result.evaluations, f"{run_dir.parent.name} / {run_dir.name}")
    write_json(run_dir / "metrics.json", result.evaluations[-1])
    write_extra_curves(run_dir / "curves.json", result)
    publish = time.perf_counter() - begin
    seconds = {
        "startup": startup + result.rank_seconds,
        "train": result.train_seconds,
        "eval": result.eval_seconds,
        "publish": publish,
    }
    write_manifest(run_dir / "manifest.json", seconds=seconds, gaussians=gaussians, steps=result.step, **about)


def write_extra_curves(path: Path, result: Trained) -> None:
    """Write the numbers of curves.png: of the views trained on, and the means of the held-out ones, by step."""
    columns = zip(("step", "loss", "psnr"), np.array(result.curve).reshape(-1, 3).T.tolist(), strict=True)
    held_out = [{"step": evaluation["step"], **evaluation["mean"]} for evaluation in result.evaluations]
    write_json(path, {"training": dict(columns), "held_out": held_out})


if __name__ == "__main__":
    run(main)
