"""Recording of a capture's run: cameras, points and Gaussians in the world, held-out views, and curves over steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from splatdag.recording.cameras import Cameras, log_camera, log_frusta, log_up
from splatdag.recording.colmap import ColmapModel
from splatdag.recording.images import in_threads, jpeg, log_images, read_image
from splatdag.recording.options import CaptureRecordingOptions
from splatdag.recording.plots import log_curve
from splatdag.recording.recording import Layout, recording
from splatdag.recording.splats import log_splats
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import read_json
from splatdag.workflow.sequences import evenly

TIMELINE = "step"
_SHOWN = 6
"""Held-out views that are visible at first."""
_LOOP_SECONDS = 5
_HELD_OUT = (255, 140, 0)
_TRAINING = (140, 140, 140)
_RENDER = re.compile(r"val_step(\d+)_(\d+)\.png")
_BLUE, _RED = (31, 119, 180), (214, 39, 40)


@dataclass(frozen=True)
class CaptureRun:
    """Results of a run of a capture, read from its folder."""

    folder: Path
    held_out: list[str]
    """Names of the held-out photos, in the order of the renders."""
    renders: dict[int, list[Path]]
    """Pictures of the held-out views, ground truth | prediction, by the number of steps done."""
    training: dict[str, list[float]]
    """Columns step, loss and psnr; empty for a run that was finished before curves.json was written."""
    evaluations: list[tuple[int, float]]
    """Step and mean PSNR (dB) of the held-out views."""
    offset: np.ndarray
    """[3] vector that was subtracted from positions in the world to make those in splat.ply."""


def read_run(folder: Path) -> CaptureRun:
    """Read the results of a finished run.

    Raises:
        UserError: the run is not finished, or its files can't be read.
    """
    if not (folder / "manifest.json").is_file():
        raise UserError(f"{folder}: the run is not finished, it has no manifest.json")
    manifest, metrics = read_json(folder / "manifest.json"), read_json(folder / "metrics.json")
    try:
        held_out = [str(view["name"]) for view in metrics["views"]]
        offset = np.array(manifest["offset"], np.float64).reshape(3)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{folder}: not a run of a capture; manifest.json has offset, metrics.json has views") from None
    renders = dict(_renders(folder / "renders", held_out))
    if not renders:
        raise UserError(f"{folder / 'renders'}: no pictures of all {len(held_out)} held-out views; train the run again")
    training, evaluations = _curves(folder)
    return CaptureRun(folder, held_out, renders, training, evaluations, offset)


def _curves(folder: Path) -> tuple[dict[str, list[float]], list[tuple[int, float]]]:
    """Read the numbers of curves.png; of an older run, only those of its held-out views, from `stats/`."""
    file = folder / "curves.json"
    try:
        if file.is_file():
            curves = read_json(file)
            training = {name: [float(value) for value in curves["training"][name]] for name in ("step", "loss", "psnr")}
            return training, [(int(means["step"]), float(means["psnr"])) for means in curves["held_out"]]
        held_out = []
        for file in folder.glob("stats/val_step*.json"):
            if match := re.fullmatch(r"val_step(\d+)\.json", file.name):
                held_out.append((int(match[1]) + 1, float(read_json(file)["psnr"])))
        return {}, sorted(held_out)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{file}: not what a training writes ({type(error).__name__}: {error})") from None


def _renders(folder: Path, held_out: list[str]) -> Iterator[tuple[int, list[Path]]]:
    """Yield steps done and pictures of every evaluation whose pictures are all there."""
    found: dict[int, dict[int, Path]] = {}
    for path in folder.glob("val_step*_*.png"):
        if match := _RENDER.fullmatch(path.name):
            found.setdefault(int(match[1]) + 1, {})[int(match[2])] = path
    for step, of_step in sorted(found.items()):
        if sorted(of_step) == list(range(len(held_out))):
            yield step, [of_step[index] for index in range(len(held_out))]


def record_capture(
    run: CaptureRun, model: ColmapModel, out: Path, options: CaptureRecordingOptions, threads: int, sample: str = ""
) -> None:
    """Record a run.

    Args:
        run: the run.
        model: cameras and points that it was trained from.
        out: the recording.
        options: what is recorded, and how.
        threads: to decode and encode pictures with.
        sample: bundled sample that it is made from, as manifests have it.

    Raises:
        UserError: as `recording`, or a file of the run can't be read.
    """
    if missing := [name for name in run.held_out if name not in model.names]:
        raise UserError(f"{run.folder / 'metrics.json'}: {missing[0]} is no photo of the COLMAP model")
    model = model.moved(-run.offset)
    pictures = {
        step: in_threads(lambda path: _swapped(path, options), paths, threads) for step, paths in run.renders.items()
    }
    sizes = [size for size, _ in next(iter(pictures.values()))]
    entities = [f"held_out/{rr.escape_entity_path_part(name)}" for name in run.held_out]
    name = "-".join(run.folder.absolute().parts[-2:])
    with recording(out, "splatdag_capture", name, _layout(run, model, entities), options.max_size_mb, sample) as stream:
        _log_world(stream, run, model, sizes, options)
        for index, entity in enumerate(entities):
            blobs = [of_step[index][1] for of_step in pictures.values()]
            if len(blobs) == 1:  # seen at every step, since there is nothing before it
                stream.log(
                    f"{entity}/pred_gt", rr.EncodedImage(contents=blobs[0], media_type="image/jpeg"), static=True
                )
            else:
                log_images(stream, f"{entity}/pred_gt", pictures, blobs, TIMELINE)
        _log_curves(stream, run)


def _swapped(path: Path, options: CaptureRecordingOptions) -> tuple[tuple[int, int], bytes]:
    """Return width and height of a prediction, and prediction | ground truth, made of a render's opposite order."""
    pixels = read_image(path)
    height, middle = pixels.shape[0], pixels.shape[1] // 2
    return (middle, height), jpeg(np.hstack([pixels[:, middle:], pixels[:, :middle]]), options)


def _log_world(
    stream: rr.RecordingStream,
    run: CaptureRun,
    model: ColmapModel,
    sizes: list[tuple[int, int]],
    options: CaptureRecordingOptions,
) -> None:
    depth = _spacing(model.cameras)
    log_up(stream, "world", model.cameras)
    if len(model.points):
        stream.log(
            "world/points",
            rr.Points3D(model.points, colors=model.colors, radii=rr.Radius.ui_points(1.5)),
            static=True,
        )
    log_splats(stream, "world/splat", run.folder / "splat.ply", options)
    log_frusta(stream, "world/cameras/training", model.without(run.held_out), depth, _TRAINING)
    for name, size in zip(run.held_out, sizes, strict=True):
        entity = f"world/cameras/held_out/{rr.escape_entity_path_part(name)}"
        log_camera(stream, entity, [0], model.camera(name, size), depth, _HELD_OUT)


def _spacing(cameras: Cameras) -> float:
    """Return the length of drawn frusta: a tenth of the cameras' median distance from the median of their positions."""
    centers = cameras.centers
    distance = float(np.median(np.linalg.norm(centers - np.median(centers, axis=0), axis=1)))
    return 0.1 * distance or 0.1


def _log_curves(stream: rr.RecordingStream, run: CaptureRun) -> None:
    if run.training:
        steps = [int(step) for step in run.training["step"]]
        log_curve(stream, "plots/loss/training", steps, run.training["loss"], "loss, training", _BLUE)
        log_curve(stream, "plots/psnr/training", steps, run.training["psnr"], "PSNR (dB), training", _BLUE)
    steps, psnrs = [step for step, _ in run.evaluations], [psnr for _, psnr in run.evaluations]
    log_curve(stream, "plots/psnr/held_out", steps, psnrs, "PSNR (dB), held out", _RED, as_points=True)


def _layout(run: CaptureRun, model: ColmapModel, entities: list[str]) -> Layout:
    """Lay out the world as the first held-out camera sees it, beside held-out views and plots.

    The loop is from the first evaluation, before which there are no pictures, to the last; with one evaluation,
    all steps are played.
    """
    shown = set(evenly(len(entities), _SHOWN).tolist())
    views = [
        rrb.Spatial2DView(origin=f"{entity}/pred_gt", name=f"{name}: prediction | ground truth", visible=index in shown)
        for index, (entity, name) in enumerate(zip(entities, run.held_out, strict=True))
    ]
    seen_by = model.camera(run.held_out[0], (1, 1))
    forward, down = seen_by.rotations[0][:, 2], seen_by.rotations[0][:, 1]
    middle = np.median(model.cameras.centers, axis=0)
    reach = float(np.linalg.norm(seen_by.centers[0] - middle)) or 1.0
    beyond_frustum = seen_by.centers[0] + 1.1 * _spacing(model.cameras) * forward
    eye = rrb.EyeControls3D(position=beyond_frustum, look_target=beyond_frustum + reach * forward, eye_up=-down)
    world = rrb.Spatial3DView(
        origin="world", name="world", eye_controls=eye, overrides={"world/points": rrb.EntityBehavior(visible=False)}
    )
    kinds = ("loss", "psnr") if run.training else ("psnr",)
    plots = [rrb.TimeSeriesView(origin=f"plots/{kind}", name=kind) for kind in kinds]
    pictures = rrb.Grid(*views, grid_columns=2, name="held-out views")
    first, last = min(run.renders), max(run.renders)
    return Layout(
        rrb.Horizontal(world, rrb.Vertical(pictures, rrb.Horizontal(*plots), row_shares=[2, 1])),
        timeline=TIMELINE,
        fps=max(1.0, (last - first or last) / _LOOP_SECONDS),
        loop=(first, last) if last > first else None,
    )
