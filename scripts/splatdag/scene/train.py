"""Train Gaussians on the posed photos of one scene, evaluate them on held-out photos, and publish the run."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splatdag.formats.photoset import PhotoSet
from splatdag.scene.evaluation import (
    HeldOut,
    check_views,
    evaluate,
    mean_color,
    write_flythrough,
    write_preview_of,
)
from splatdag.scene.load import Scene
from splatdag.scene.options import TrainOptions
from splatdag.scene.simple_trainer_files import RunFiles
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.split import list_file, split_photos
from splatdag.scene.training import ADVICE, SplatTraining, check_batch, train
from splatdag.scene.views import View
from splatdag.splats.cuda.extension import ensure_extension
from splatdag.splats.cuda.warm_up import warm_up
from splatdag.splats.gaussians import Parameters, from_points, random_points
from splatdag.splats.normalisation import Normalisation, normalisation
from splatdag.splats.ply import write_ply
from splatdag.training.curves import write_curves, write_extra_curves
from splatdag.training.loop import Result
from splatdag.training.run import Run, run_folder
from splatdag.workflow.digests import digest_of_folder, file_digest
from splatdag.workflow.errors import UserError
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
    scene = Scene(model, photos, options.data_factor, options.max_image_size)
    train_names, held_out = _split(scene, options)
    inputs = partial(_digests_of_learnt, scene, train_names, model, options)
    with run_folder(
        "scene.train", result_dir, options, inputs, job, device_count, advice=ADVICE, prepare=ensure_extension
    ) as run:
        _train(run, scene, train_names, held_out, options)


def input_digests(data_dir: Path, model: Path, options: TrainOptions, cache: Path) -> dict[str, str]:
    """Return digests of a run's inputs: those of the training, and the photos that it is evaluated on."""
    model = model if model.is_dir() else model.parent
    scene = Scene(model, PhotoSet(data_dir), options.data_factor)
    train_names, held_out = _split(scene, options)
    learnt = _digests_of_learnt(scene, train_names, model, options, cache)
    return {**learnt, "held_out": scene.photos.digest(cache, options.data_factor, only=held_out)}


def _digests_of_learnt(
    scene: Scene, train_names: list[str], model: Path, options: TrainOptions, cache: Path
) -> dict[str, str]:
    """Return digests of training photos, their COLMAP model, and the list of held-out photos, which stay closed."""
    inputs = {
        "photos": scene.photos.digest(cache, options.data_factor, only=train_names),
        "model": digest_of_folder(model),
    }
    listed = list_file(options.split, scene.photos.data_dir)
    if listed is not None and listed.is_file():
        inputs["split"] = file_digest(listed)
    return inputs


def _train(run: Run, scene: Scene, train_names: list[str], held_out_names: list[str], options: TrainOptions) -> None:
    wait_until_warm = warm_up(run.device)
    loaded = scene.load(
        train_names,
        run.job.threads,
        with_points=options.depth_loss,
        image_cache=options.image_cache,
        device=run.device,
        shared=run.ranks > 1,
    )
    views = loaded.views
    check_views(views)
    frame = _frame(scene, options)
    chosen = options.scaled()
    inputs = {"data_dir": str(scene.photos.data_dir), "result_dir": str(run.folder)}
    files = RunFiles(run.folder, chosen, frame, inputs)
    average = mean_color(views, chosen.white_bg, run.device)
    held_out = HeldOut(scene, held_out_names, views, chosen.lpips_net, options.image_cache, run.job.threads, run.device)

    def measure(model: SplatModel, step: int) -> dict[str, Any]:
        found = evaluate(
            model,
            held_out.views,
            frame,
            average,
            measure_lpips=held_out.lpips,
            render=lambda index: files.render(step, index),
        )
        files.evaluated(step, found.figures["mean"], found.seconds_per_image, len(model.parameters["means"]))
        if not chosen.disable_video:
            write_flythrough(files.video(step), model, held_out.with_trained, frame, scene.points)
        return found.figures

    initial = _initial_gaussians(scene, frame, chosen)
    wait_until_warm()
    result = train(views, frame, initial, chosen, run.state_file, measure, files, run.device, run.ranks)
    run.add(result)
    run.seconds["eval"] = result.training.eval_seconds
    logger.info("held out: %(psnr).2f dB PSNR, %(ssim).4f SSIM", result.training.evaluations[-1]["mean"])
    with run.timed("publish"):
        _publish(run.folder, result, held_out.views, frame, options.antialiased)
    run.inputs["held_out"] = scene.photos.digest(run.folder / "state", options.data_factor, only=held_out_names)
    run.write_manifest(
        images=loaded.kept,
        gaussians=result.training.gaussians,
        steps=result.training.step,
        offset=frame.offset().tolist(),
        weights=list(held_out.lpips.weights),
    )


def _split(scene: Scene, options: TrainOptions) -> tuple[list[str], list[str]]:
    """Return the names of the photos to train on and of those to evaluate on."""
    if len(scene.names) < 2:
        raise UserError(f"only {len(scene.names)} registered photo; training needs at least two")
    if not len(scene.points) and options.init_type == "sfm":
        raise UserError("the COLMAP model has no points to start from; init_type random starts without")
    train, held_out = split_photos(
        scene.names,
        split=options.split,
        test_every=options.test_every,
        match_string=options.match_string,
        eval_match_string=options.eval_match_string,
        data_dir=scene.photos.data_dir,
    )
    logger.info("%d photos to train on, %d held out, %d points", len(train), len(held_out), len(scene.points))
    if set(train) & set(held_out):
        logger.info("photos are evaluated that are trained on; the figures say nothing about new views")
    return train, held_out


def _frame(scene: Scene, options: TrainOptions) -> Normalisation:
    frame = normalisation(scene.centers, scene.points, options.normalize_world_space)
    return replace(frame, extent=frame.extent * options.global_scale)


def _initial_gaussians(scene: Scene, frame: Normalisation, options: TrainOptions) -> Parameters:
    generator = torch.Generator().manual_seed(options.seed)
    if options.init_type == "random":
        middle = frame.points(np.mean(scene.centers, axis=0))
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
    run_dir: Path, result: Result[SplatTraining], held_out: list[View], frame: Normalisation, antialiased: bool
) -> None:
    """Write the run contract but for the manifest."""
    model, curve, evaluations = result.training.model, result.progress.curve, result.training.evaluations
    (run_dir / "manifest.json").unlink(missing_ok=True)  # of an older run, whose files are now replaced
    write_ply(run_dir / "splat.ply", model.published(), frame, antialiased)
    write_preview_of(run_dir / "preview.jpg", model, held_out, frame)
    write_curves(run_dir / "curves.png", curve, evaluations, f"{run_dir.parent.name} / {run_dir.name}")
    write_json(run_dir / "metrics.json", evaluations[-1])
    held_out_rows = [{"step": evaluation["step"], **evaluation["mean"]} for evaluation in evaluations]
    write_extra_curves(run_dir / "curves.json", curve, held_out_rows)


if __name__ == "__main__":
    run(main)
