"""Recording of what was measured of a driving log: lidar, Gaussians, camera, motion and pictures over its frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from splatdag.recording.cameras import Cameras, log_camera
from splatdag.recording.images import in_threads, log_images, side_by_side
from splatdag.recording.options import CaptureRecordingOptions
from splatdag.recording.plots import log_curve
from splatdag.recording.recording import Layout, recording
from splatdag.recording.splats import gaussians_of, read_splat
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import read_json
from splatdag.workflow.sequences import evenly

TIMELINE = "frame"
_FPS = 10.0
"""Frames a second of PandaSet."""
_MOVES = 0.3
"""Metres from the first image of a clip to the last by which a Gaussian is said to move."""
_FAST = 0.5
"""Speed (m/s) from which a point has an arrow."""
_ARROWS = 1500
_ARROW_SECONDS = 0.3
_FAR = 300.0
"""Metres from the camera beyond which Gaussians, of the sky above all, are left out of the world's view."""
_OF_VIEW = {"frame", "log_frame", "given", "seconds", "camera_to_world", "K", "width", "height"}
"""Keys of a view in `cameras.json`."""
_BLUE, _ORANGE = (31, 119, 180), (255, 140, 0)


@dataclass(frozen=True)
class DrivingClip:
    """One measured clip of a log, as its evaluation left it."""

    folder: Path
    views: list[dict[str, Any]]
    """Views of `cameras.json`."""
    motion: dict[str, np.ndarray]
    """Arrays of `motion.npz`: points, colors, seconds, velocities and their coefficients."""

    @property
    def frames(self) -> list[int]:
        """Frames of the log that the views show."""
        return [int(view["log_frame"]) for view in self.views]

    def file(self, kind: str, view: dict[str, Any], suffix: str) -> Path:
        """Return the path of a file of one view."""
        return self.folder / f"{kind}_{view['frame']:02d}.{suffix}"

    def points_at(self, seconds: float, chosen: np.ndarray) -> np.ndarray:
        """[M, 3] where chosen points are at a time of the clip."""
        terms = self.motion["coefficients"][chosen]
        powers = np.arange(1, terms.shape[1] + 1)
        spans = (seconds**powers - self.motion["seconds"][chosen, None] ** powers) / powers
        return self.motion["points"][chosen] + (terms * spans[..., None]).sum(axis=1)


def read_clips(folder: Path) -> list[DrivingClip]:
    """The clips of a measured log, by their first frame.

    Raises:
        UserError: there is none, or a file can't be read.
    """
    found = [_read_clip(path.parent) for path in sorted(folder.glob("*/motion.npz"))]
    if not found:
        raise UserError(f"{folder}: no clip was measured and kept; it has no test clip, or save_renders was off")
    return sorted(found, key=lambda clip: clip.frames[0])


def _read_clip(folder: Path) -> DrivingClip:
    try:
        views = read_json(folder / "cameras.json")["views"]
        with np.load(folder / "motion.npz", allow_pickle=False) as file:
            motion = {name: file[name] for name in ("points", "colors", "seconds", "velocities", "coefficients")}
        for view in views:
            _check_view(view)
        _check_motion(motion)
    except Exception as error:  # whatever damaged files make their readers raise
        raise UserError(f"{folder}: not what an evaluation leaves ({type(error).__name__}: {error})") from None
    if not views:
        raise UserError(f"{folder / 'cameras.json'}: no views")
    return DrivingClip(folder, views, motion)


def _check_view(view: dict[str, Any]) -> None:
    if missing := _OF_VIEW - set(view):
        raise KeyError(", ".join(sorted(missing)))
    if not all(type(view[name]) is int for name in ("frame", "log_frame", "width", "height")):
        raise TypeError("frame, log_frame, width and height are whole numbers")
    numbers = [float(view["seconds"]), *np.array(view["camera_to_world"][:3], np.float64).reshape(12)]
    if not np.isfinite([*numbers, *np.array(view["K"], np.float64).reshape(9)]).all():
        raise ValueError("seconds, camera_to_world or K has a value that is no number")


def _check_motion(motion: dict[str, np.ndarray]) -> None:
    count = len(motion["points"])
    terms = motion["coefficients"].shape[1:2]
    shapes = {"points": (3,), "colors": (3,), "seconds": (), "velocities": (3,), "coefficients": (*terms, 3)}
    for name, shape in shapes.items():
        if motion[name].shape != (count, *shape) or motion[name].dtype.kind not in "fiu":
            raise ValueError(f"{name} has the shape {motion[name].shape}")


def record_drive(
    clips: list[DrivingClip], name: str, out: Path, options: CaptureRecordingOptions, threads: int, sample: str = ""
) -> None:
    """Record the clips of a log, in its world.

    What stands still is stored once for each clip, what moves for every frame.

    Args:
        clips: of one log.
        name: of the recording.
        out: the recording (.rrd).
        options: how it is recorded.
        threads: to decode and encode pictures with.
        sample: bundled sample that it is made from, as manifests have it.

    Raises:
        UserError: a file can't be read, or the recording would be too large.
    """
    clips = [_thinned(clip, options.frame_stride) for clip in clips]
    psnrs = _psnrs(clips[0].folder.parent / "metrics.json")
    with recording(out, "splatdag_drive", name, _layout(clips[0], bool(psnrs)), options.max_size_mb, sample) as stream:
        stream.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        for clip in clips:
            _log_clip(stream, clip, options, threads)
        for kind, color in (("given", _BLUE), ("predicted", _ORANGE)):
            rows = [(frame, value) for clip in clips for frame, value in _of_clip(clip, psnrs, kind == "given")]
            if rows:
                frames, values = zip(*rows, strict=True)
                log_curve(
                    stream, f"plots/psnr/{kind}", frames, values, f"PSNR (dB), {kind}", color,
                    as_points=True, timeline=TIMELINE,
                )  # fmt: skip


def _thinned(clip: DrivingClip, stride: int) -> DrivingClip:
    return DrivingClip(clip.folder, clip.views[::stride], clip.motion)


def _log_clip(stream: rr.RecordingStream, clip: DrivingClip, options: CaptureRecordingOptions, threads: int) -> None:
    poses = np.array([view["camera_to_world"] for view in clip.views], np.float64)
    Ks = np.array([view["K"] for view in clip.views], np.float64)
    sizes = np.array([(view["width"], view["height"]) for view in clip.views])
    log_camera(stream, "world/camera", clip.frames, Cameras(Ks, np.linalg.inv(poses)[:, :3], sizes), 3.0, _ORANGE)
    pairs = [[clip.file("pred", view, "jpg"), clip.file("gt", view, "jpg")] for view in clip.views]
    blobs = in_threads(lambda paths: side_by_side(paths, options), pairs, threads)
    log_images(stream, "pictures/pred_gt", clip.frames, blobs, TIMELINE)
    stream.set_time(TIMELINE, sequence=clip.frames[0])
    stream.log(
        "world/lidar",
        rr.Points3D(clip.motion["points"], colors=clip.motion["colors"], radii=rr.Radius.ui_points(1.5)),
    )
    _log_gaussians(stream, clip, poses[:, :3, 3], options)
    _log_arrows(stream, clip)


def _log_gaussians(
    stream: rr.RecordingStream, clip: DrivingClip, centers: np.ndarray, options: CaptureRecordingOptions
) -> None:
    ends = {index: read_splat(clip.file("splat", clip.views[index], "ply")) for index in {0, len(clip.views) - 1}}
    first, last = ends[0], ends[len(clip.views) - 1]
    if len(first["means"]) != len(last["means"]):
        raise UserError(f"{clip.folder}: splats of one clip differ in their number of Gaussians")
    near = np.linalg.norm(first["means"] - centers.mean(axis=0), axis=1) < _FAR
    moves = np.linalg.norm(last["means"] - first["means"], axis=1) > _MOVES
    stream.set_time(TIMELINE, sequence=clip.frames[0])
    stream.log("world/splat/still", gaussians_of(_rows(first, near & ~moves), options))
    for index, view in enumerate(clip.views):
        splat = ends[index] if index in ends else read_splat(clip.file("splat", view, "ply"))
        stream.set_time(TIMELINE, sequence=int(view["log_frame"]))
        stream.log("world/splat/moving", gaussians_of(_rows(splat, near & moves), options))


def _rows(splat: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[chosen] for name, values in splat.items()}


def _log_arrows(stream: rr.RecordingStream, clip: DrivingClip) -> None:
    fast = np.flatnonzero(np.linalg.norm(clip.motion["velocities"], axis=1) > _FAST)
    fast = fast[evenly(len(fast), _ARROWS)]
    for view in clip.views:
        stream.set_time(TIMELINE, sequence=int(view["log_frame"]))
        arrows = rr.Arrows3D(
            origins=clip.points_at(float(view["seconds"]), fast),
            vectors=_ARROW_SECONDS * clip.motion["velocities"][fast],
            colors=_ORANGE,
            radii=rr.Radius.ui_points(1),
        )
        stream.log("world/velocity", arrows)


def _psnrs(path: Path) -> dict[tuple[str, int], float]:
    """PSNR (dB) of each image, by clip and frame; none where nothing was measured."""
    if not path.is_file():
        return {}
    try:
        rows = read_json(path)["rows"]["images"]
        return {(row["clip_id"], row["frame"]): float(row["psnr"]) for row in rows}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not what an evaluation leaves ({type(error).__name__}: {error})") from None


def _of_clip(clip: DrivingClip, psnrs: dict[tuple[str, int], float], given: bool) -> list[tuple[int, float]]:
    return [
        (int(view["log_frame"]), psnrs[clip.folder.name, view["frame"]])
        for view in clip.views
        if bool(view["given"]) == given and (clip.folder.name, view["frame"]) in psnrs
    ]


def _layout(clip: DrivingClip, plotted: bool) -> Layout:
    """The world from behind the first camera; pictures and PSNR beside it."""
    pose = np.array(clip.views[0]["camera_to_world"], np.float64)
    forward, center = pose[:3, 2], pose[:3, 3]
    eye = rrb.EyeControls3D(
        position=center - 12 * forward + (0, 0, 6), look_target=center + 15 * forward, eye_up=(0, 0, 1)
    )
    world = rrb.Spatial3DView(
        origin="world", name="world", eye_controls=eye, overrides={"world/lidar": rrb.EntityBehavior(visible=False)}
    )
    pictures = rrb.Spatial2DView(origin="pictures/pred_gt", name="prediction | ground truth")
    plots = [rrb.TimeSeriesView(origin="plots/psnr", name="PSNR")] if plotted else []
    return Layout(rrb.Horizontal(world, rrb.Vertical(pictures, *plots)), timeline=TIMELINE, fps=_FPS)
