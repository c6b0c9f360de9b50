"""Recording of a novel-view evaluation: prediction | ground truth of every camera."""

from __future__ import annotations

from pathlib import Path

import rerun.blueprint as rrb

from splatdag.humans.results_tree import RunEpoch
from splatdag.recording.images import frames_in, in_threads, log_images, side_by_side
from splatdag.recording.options import RecordingOptions
from splatdag.recording.recording import Layout, recording
from splatdag.workflow.errors import UserError, listed
from splatdag.workflow.sequences import by_number


def record_nvs(of: RunEpoch, out: Path, options: RecordingOptions, threads: int, sample: str = "") -> None:
    """Record `evaluation/<epoch>/nvs` of a run: a view for each camera, of which the source's is visible.

    Raises:
        UserError: prediction and ground truth have other cameras or frames, or an image can't be read.
    """
    pairs = {camera: _pairs(of.folder, camera, options.frame_stride) for camera in _cameras(of.folder)}
    shown = of.source if of.source in pairs else next(iter(pairs))
    entities = {camera: f"evaluation/{of.epoch}/nvs/cam_{camera}/pred_gt" for camera in pairs}
    views = [
        rrb.Spatial2DView(origin=entity, name=f"cam_{camera}", visible=camera == shown)
        for camera, entity in entities.items()
    ]
    layout = Layout(rrb.Grid(*views, name="prediction | ground truth"))
    with recording(out, "splatdag_nvs", of.name, layout, options.max_size_mb, sample) as stream:
        for camera, of_frame in pairs.items():
            blobs = in_threads(lambda pair: side_by_side(pair, options), of_frame.values(), threads)
            log_images(stream, entities[camera], of_frame, blobs)


def _cameras(folder: Path) -> list[str]:
    """List the ids of the cameras, in order."""
    sides = [_camera_folders(folder / side) for side in ("pred", "gt_inputs")]
    for side, other, there in (("gt_inputs", 0, 1), ("pred", 1, 0)):
        if missing := sides[other] - sides[there]:
            raise UserError(f"{folder / side}: has no cam_{', cam_'.join(sorted(missing))}, but the other side has")
    if not sides[0]:
        raise UserError(f"{folder / 'pred'}: no folder cam_<id> in it")
    return sorted(sides[0], key=by_number)


def _camera_folders(folder: Path) -> set[str]:
    found = folder.glob("cam_*") if folder.is_dir() else ()
    return {path.name.removeprefix("cam_") for path in found if path.is_dir()}


def _pairs(folder: Path, camera: str, stride: int) -> dict[int, tuple[Path, Path]]:
    """Find prediction and ground truth of each frame."""
    predicted, truth = (frames_in(folder / side / f"cam_{camera}" / "metrics_input") for side in ("pred", "gt_inputs"))
    where = f"{folder}: cam_{camera}"
    if predicted.keys() != truth.keys():
        alone = [path for frame, path in {**predicted, **truth}.items() if (frame in predicted) != (frame in truth)]
        names = listed([str(path.relative_to(folder)) for path in alone], 3)
        raise UserError(
            f"{where}: {len(predicted)} predictions, but {len(truth)} of the ground truth; only on one side: {names}"
        )
    if not predicted:
        raise UserError(f"{where}: no images in pred/cam_{camera}/metrics_input")
    return {frame: (predicted[frame], truth[frame]) for frame in list(predicted)[::stride]}
