"""Evaluate a run on another COLMAP dataset of the same scene, in the same world frame."""

from __future__ import annotations

import logging
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from splatdag.formats.photoset import PhotoSet
from splatdag.scene.evaluation import HeldOut, evaluate, mean_color, write_preview_of
from splatdag.scene.load import Scene
from splatdag.scene.options import EvaluateOptions, TrainOptions
from splatdag.scene.simple_trainer_files import LoadedRun, RunFiles, load_ckpt
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.split import matching
from splatdag.scene.views import View, camera_tensors
from splatdag.splats.devices import use_device
from splatdag.splats.normalisation import Normalisation
from splatdag.training.devices import device_memory_mb, device_name
from splatdag.workflow.digests import file_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import RunId, write_manifest
from splatdag.workflow.publish import read_json, write_json
from splatdag.workflow.sequences import evenly
from splatdag.workflow.stage import Job
from splatdag.workflow.stage import run as run_stage
from splatdag.workflow.weights import Weights, weights_of_run

logger = logging.getLogger(__name__)
_FAR = 10
"""Median distance of the cameras from the run's, in radii of those, from which they are called far."""
_EMPTY = 0.01
"""Mean opacity of a view below which nothing is to be seen."""
_LOOKS = 16
"""Views that are looked at for that."""


def main(
    data_dir: Path,
    result_dir: Path,
    options: EvaluateOptions,
    job: Job,
    run: Path | None = None,
    ckpt: Path | None = None,
    device_count: int = 0,
) -> None:
    """Evaluate a run on all photos, or those that match, of another COLMAP dataset in the same world frame.

    The trivial baseline is an image of the mean colour of these photos.

    Args:
        data_dir: COLMAP dataset with `images/` and `sparse/`.
        result_dir: folder to publish to, such as `<run>/eval_on_<name>`.
        options: of the evaluation.
        job: how to run.
        run: folder of the run, whose last checkpoint in `ckpts/` is taken.
        ckpt: the checkpoint, in place of `run`.
        device_count: CUDA devices to use; 0 is the CPU.
    """
    if (run is None) == (ckpt is None):
        raise UserError("give either --run, a run's folder, or --ckpt, a file in its ckpts/")
    path = last_checkpoint(run) if run is not None else ckpt
    assert path is not None
    if not path.is_file():
        raise UserError(f"ckpt: no such file: {path}")
    if result_dir.resolve() in path.resolve().parents:
        raise UserError(
            f"result_dir: {result_dir} holds the run itself; give a folder in it, such as eval_on_{data_dir.name}"
        )
    photos = PhotoSet(data_dir)
    photos.check("data_dir")
    if photos.model is None:
        raise UserError(f"data_dir: no COLMAP model in {data_dir}; a COLMAP dataset has images/ and sparse/")
    device = use_device(device_count, job.threads)
    loaded = load_ckpt(path, TrainOptions, device)
    chosen = _filled(options, loaded)
    scene = Scene(photos.model, photos, chosen.data_factor or 1, chosen.max_image_size)
    names = matching(scene.names, chosen.eval_match_string, "eval_match_string")
    held_out = HeldOut(scene, names, [], chosen.lpips_net or loaded.options.lpips_net, "auto", job.threads, device)
    logger.info("%d of %d photos", len(names), len(scene.names))
    for warning in frame_warnings(loaded.model, held_out.views, loaded.frame):
        logger.warning("%s", warning)
    with tempfile.TemporaryDirectory() as memory:
        inputs = input_digests(data_dir, chosen, Path(memory), ckpt=path)
    made_with = [weights for weights in weights_of_run(path.parent.parent) if weights.used_for == "results"]
    startup = time.time() - psutil.Process().create_time()
    run_id = _run_id(job, path.parent.parent, result_dir)
    _measure(loaded, held_out, chosen, data_dir, result_dir, inputs, job, run_id, startup, made_with)


def input_digests(
    data_dir: Path, options: EvaluateOptions, cache: Path, run: Path | None = None, ckpt: Path | None = None
) -> dict[str, str]:
    """Digests of the photos and of the checkpoint."""
    path = last_checkpoint(run) if run is not None else ckpt
    assert path is not None
    return {"photos": PhotoSet(data_dir).digest(cache, options.data_factor or 1), "checkpoint": file_digest(path)}


def last_checkpoint(run_dir: Path) -> Path:
    """The checkpoint of what a run published; the one after the most steps of a run that is not finished.

    They differ where validation views chose an earlier step as the best.

    Raises:
        UserError: there is none.
    """
    found = {
        int(match.group(1)): path
        for path in (run_dir / "ckpts").glob("*.pt")
        if (match := re.fullmatch(r"ckpt_(\d+)_rank0\.pt", path.name))
    }
    if not found:
        raise UserError(f"run: no checkpoint in {run_dir / 'ckpts'} (ckpt_<step>_rank0.pt); train the run again")
    manifest = run_dir / "manifest.json"
    steps = read_json(manifest).get("steps", 0) if manifest.is_file() else 0
    return found.get(steps - 1, found[max(found)])


def _run_id(job: Job, run_dir: Path, result_dir: Path) -> RunId:
    """Who the evaluation is: a variant of the run that is evaluated, where that has a manifest."""
    manifest = run_dir / "manifest.json"
    if job.run_id or not manifest.is_file():
        return RunId.of(job.run_id, "scene.evaluate", result_dir)
    run = RunId.model_validate(read_json(manifest)["run"])
    variant = "/".join(filter(None, (run.variant, result_dir.resolve().name)))
    return run.model_copy(update={"variant": variant})


def _filled(options: EvaluateOptions, loaded: LoadedRun) -> EvaluateOptions:
    """The options, with those of the training where nothing is set."""
    trained = loaded.options
    assert isinstance(trained, TrainOptions)
    same = {
        name: getattr(trained, name)
        for name in ("data_factor", "max_image_size", "lpips_net")
        if getattr(options, name) is None
    }
    return options.model_copy(update=same)


@torch.no_grad()
def frame_warnings(model: SplatModel, views: list[View], frame: Normalisation) -> list[str]:
    """Signs that the views' cameras are in another world frame than the run's, a line each.

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
    loaded: LoadedRun,
    held_out: HeldOut,
    options: EvaluateOptions,
    data_dir: Path,
    result_dir: Path,
    inputs: dict[str, str],
    job: Job,
    run_id: RunId,
    startup: float,
    made_with: list[Weights],
) -> None:
    """Evaluate and write the run contract, the manifest last."""
    begin = time.perf_counter()
    model, frame, device = loaded.model, loaded.frame, loaded.model.parameters["means"].device
    files = RunFiles(result_dir, loaded.options, frame, {"data_dir": str(data_dir), "result_dir": str(result_dir)})
    files.begin()
    views = held_out.views
    average = mean_color(views, loaded.options.white_bg, device)
    found = evaluate(
        model,
        views,
        frame,
        average,
        measure_lpips=held_out.lpips,
        render=lambda index: files.render(loaded.step, index),
    )
    evaluated = time.perf_counter() - begin
    mean = found.figures["mean"]
    logger.info("%.2f dB PSNR, %.4f SSIM on %d photos of %s", mean["psnr"], mean["ssim"], len(views), data_dir)
    gaussians = len(model.parameters["means"])
    files.evaluated(loaded.step, mean, found.seconds_per_image, gaussians)
    write_preview_of(result_dir / "preview.jpg", model, views, frame)
    write_json(result_dir / "metrics.json", {"step": loaded.step, **found.figures})
    seconds = {"startup": startup, "eval": evaluated, "publish": time.perf_counter() - begin - evaluated}
    write_manifest(
        result_dir / "manifest.json",
        stage="scene.evaluate",
        run=run_id,
        sample=job.sample,
        options=options.model_dump(mode="json"),
        chosen=options,
        inputs=inputs,
        device=device_name(device),
        seconds=seconds,
        device_memory_mb=device_memory_mb(device),
        images=held_out.kept,
        gaussians=gaussians,
        steps=loaded.step,
        offset=frame.offset().tolist(),
        weights=[*made_with, *(held_out.lpips.weights if held_out.lpips else [])],
    )


if __name__ == "__main__":
    run_stage(main)
