"""Check by eye of lidar, poses and cameras: points of one frame drawn over its image, and maps of them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from plyfile import PlyData, PlyElement

from splatdag.driving import pictures
from splatdag.driving.clips.clips import clip_at
from splatdag.driving.clips.lift import lift, neighbour_distances, pixels_of, sensors_of, thinned
from splatdag.driving.logs.pandaset import Camera, Log
from splatdag.driving.options import AlignmentOptions
from splatdag.formats.images import read_pixels
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete, write_json
from splatdag.workflow.sequences import evenly
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)


def main(index_path: Path, data_root: Path, out_dir: Path, options: AlignmentOptions, job: Job) -> None:
    """Draw the points of one frame over its image, and maps of them, as they come and as they are lifted.

    Args:
        index_path: index of clips.
        data_root: folder of the logs.
        out_dir: folder for rgb.png, rgb_points_{raw,lift}.png, depth_gray_{raw,lift}.png,
            bev_{world,ego}_{raw,lift}.png and, last, alignment.json.
        options: which clip and frame, and how points are drawn.
        job: how to run.
    """
    clip = clip_at(index_path, options.clip_index)
    if options.frame_index >= clip.length:
        raise UserError(f"frame_index: {options.frame_index}, but clip {clip.clip_id} has {clip.length} frames")
    log, frame = Log(data_root / clip.scene_id), clip.frames[options.frame_index]
    if reason := log.reason_against(frame, (options.camera,)):
        raise UserError(f"{log.folder}: frame {frame}: {reason}")
    camera = log.cameras[options.camera]
    image = read_pixels(camera.images[frame]).rgb
    sensors = sensors_of(options.lidar_sensor_id)
    sweep = log.sweep(frame)
    raw = sweep.points[np.isin(sweep.sensors, sensors)]
    if not len(raw):
        raise UserError(f"{log.folder}: frame {frame} has no points of lidar {options.lidar_sensor_id}")
    lifted = lift(log, frame, (options.camera,), sensors, job.threads)
    kept = thinned(lifted.points, options.voxel_size) if options.voxel_size else np.arange(len(lifted.points))
    kept = kept[_chosen(len(kept), options)]
    points = lifted.points[kept] + lifted.origin
    pictures.write_png(out_dir / "rgb.png", image)
    facts: dict[str, Any] = {"clip_id": clip.clip_id, "frame": frame, "camera": camera.name, "sensors": list(sensors)}
    for name, given in (("raw", raw), ("lift", points)):
        facts[name] = _drawn(out_dir, name, given, image, camera, frame, log.ego_to_world[clip.start], options)
    facts["seconds_from_sweep_to_image"] = float(camera.times[frame] - log.lidar_times[frame])
    facts["median_spacing_m"] = float(np.median(neighbour_distances(raw - raw.mean(axis=0), job.threads)))
    if options.save_pointcloud:
        _write_points(out_dir / "points_lift.ply", _ego(points, log.ego_to_world[clip.start]), lifted.colors[kept])
    write_json(out_dir / "alignment.json", facts)
    logger.info(
        "%s, frame %d: %d of %d points in the image, %d of %d lifted ones",
        *(clip.clip_id, frame, facts["raw"]["in_image"], len(raw), facts["lift"]["in_image"], len(points)),
    )


def _chosen(count: int, options: AlignmentOptions) -> np.ndarray:
    """Choose at most max_points of `count` points, evenly or at random; returns their indices, ascending."""
    if options.chosen == "evenly" or options.max_points is None or count <= options.max_points:
        return evenly(count, options.max_points)
    return np.sort(np.random.default_rng(options.seed).choice(count, options.max_points, replace=False))


def _base(image: np.ndarray, options: AlignmentOptions) -> np.ndarray:
    """Make the image that points are drawn on, [H, W, 3] uint8."""
    if options.overlay_base == "black":
        return np.zeros_like(image)
    if options.overlay_base == "gray":
        return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return image


def _drawn(
    out_dir: Path,
    name: str,
    points: np.ndarray,
    image: np.ndarray,
    camera: Camera,
    frame: int,
    ego_to_world: np.ndarray,
    options: AlignmentOptions,
) -> dict[str, int]:
    """The pictures of points [N, 3] of the world, and how many there are and lie in the image."""
    height, width = image.shape[:2]
    pixels, depths, inside = pixels_of(camera, frame, points, width, height)
    pixels, depths = pixels[inside], depths[inside]
    column, row = pixels.astype(np.int64).T
    colors = {
        "depth": pictures.by_value(depths, 0, pictures.FARTHEST),
        "from_image": image[row, column],
        "fixed": np.tile(np.array([[255, 0, 0]], np.uint8), (len(pixels), 1)),
    }[options.point_color_mode]
    radius = round(width / 1920) if options.point_radius is None else options.point_radius
    base = _base(image, options)
    pictures.write_png(out_dir / f"rgb_points_{name}.png", pictures.with_points(base, pixels, depths, colors, radius))
    gray = pictures.depth_gray(pictures.depth_image(pixels, depths, width, height), pictures.FARTHEST)
    pictures.write_png(out_dir / f"depth_gray_{name}.png", gray)
    ego = _ego(points, ego_to_world)
    world = points - ego_to_world[:3, 3]
    for frame_name, given in (("world", world), ("ego", ego)):
        seen = pictures.birds_eye(given, ego[:, 2], options.bev_range or pictures.around(options.plot_window_m))
        pictures.write_png(out_dir / f"bev_{frame_name}_{name}.png", seen)
    return {"points": len(points), "in_image": int(inside.sum())}


def _ego(points: np.ndarray, ego_to_world: np.ndarray) -> np.ndarray:
    """Points [N, 3] of the world in the frame of the ego vehicle."""
    return (points - ego_to_world[:3, 3]) @ ego_to_world[:3, :3]


def _write_points(path: Path, points: np.ndarray, colors: np.ndarray) -> None:
    rows = np.empty(len(points), [(axis, "f4") for axis in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")])
    for values, names in ((points, "xyz"), (colors, ("red", "green", "blue"))):
        for column, name in enumerate(names):
            rows[name] = values[:, column]
    with complete(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")]).write(str(temporary))


if __name__ == "__main__":
    run(main)
