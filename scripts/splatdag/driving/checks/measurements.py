"""Measurements of one log: lengths of lists, clocks, poses, lidars, cameras and boxes; nothing is assumed.

What can't be measured is null. Every function returns figures and adds what is wrong to `problems`, a line each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from splatdag.driving.clips.clips import measured_rate
from splatdag.driving.clips.lift import pixels_of
from splatdag.driving.logs.folders import CUBOIDS, SEMSEG, TABLES, by_frame
from splatdag.driving.logs.json_files import read_list
from splatdag.driving.logs.pandaset import PANDAR64, PANDARGT, Boxes, Log, Sweep
from splatdag.formats.images import read_header, text
from splatdag.workflow.errors import UserError, listed
from splatdag.workflow.sequences import evenly

Size = tuple[int, int]
_JITTER = 0.02
"""Seconds that a camera's time may vary against the lidar's."""
_APART = 0.03
"""Seconds between an image and the median point in it."""
_SWEEP = 0.3
"""Seconds between a frame's time and its points."""
_GROUND = 0.5
"""Metres between the ground and the ego vehicle's origin."""
_SPEED = 1.0
"""Metres a second between poses and GPS, and below which a vehicle stands."""


def measured(log: Log, most: int | None) -> dict[str, Any]:
    """Figures and problems of a log, of at most so many opened frames."""
    problems = list(log.problems)
    lists = lengths(log, problems)
    sizes = image_sizes(log, problems)
    facts: dict[str, Any] = {
        "lists": lists,
        "image_sizes": sizes,
        "clock": clocks(log, problems),
        "ego": ego(log, problems),
    }
    frames = sorted(frame for frame in log.tables if frame < log.frames)
    chosen = [frames[row] for row in evenly(len(frames), most)] if frames else []
    facts["opened"] = [opened(log, frame, sizes, problems) for frame in chosen]
    return {"log": log.name, "frames": log.frames, **_plain(facts), "problems": problems}


def lengths(log: Log, problems: list[str]) -> dict[str, Any]:
    """Count the frames in each list and folder; the longest list says how many frames the log should have."""
    found: dict[str, int | None] = {
        "lidar/poses.json": len(log.ego_to_world),
        "lidar/timestamps.json": len(log.lidar_times),
    }
    files: dict[str, Iterable[int]] = {"lidar": log.tables}
    for name, camera in log.cameras.items():
        found[f"camera/{name}/poses.json"] = len(camera.camera_to_world)
        found[f"camera/{name}/timestamps.json"] = len(camera.times)
        files[f"camera/{name}"] = camera.images
    files[CUBOIDS] = by_frame(log.folder / CUBOIDS, TABLES)
    if log.has_semseg:
        files[SEMSEG] = by_frame(log.folder / SEMSEG, TABLES)
    for name in ("meta/gps.json", "meta/timestamps.json"):
        found[name] = _length(log, name, problems)
    frames = max([length for length in found.values() if length], default=0)
    for name, length in found.items():
        if length is not None and length != frames:
            problems.append(f"{name} has {length} frames, other lists {frames}")
    for name, there in files.items():
        _tell(problems, sorted(set(range(frames)) - set(there)), f"{name} lacks frames")
        _tell(problems, sorted(set(there) - set(range(frames))), f"{name} has frames that no list has,")
        found[name] = len(set(there))
    values = {"lidar/poses.json": log.ego_to_world, "lidar/timestamps.json": log.lidar_times}
    for name, camera in log.cameras.items():
        values |= {f"camera/{name}/poses.json": camera.camera_to_world, f"camera/{name}/timestamps.json": camera.times}
    for name, array in values.items():
        wrong = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        _tell(problems, np.flatnonzero(wrong).tolist(), f"{name} has values that are no number in frames")
    return found


def _length(log: Log, name: str, problems: list[str]) -> int | None:
    """Return the length of an optional list; None if it is absent or can't be read."""
    try:
        return len(read_list(log.folder / name)) if (log.folder / name).is_file() else None
    except UserError as error:
        problems.append(str(error))
        return None


def _tell(problems: list[str], frames: list[int], what: str) -> None:
    if frames:
        problems.append(f"{what} {listed([str(frame) for frame in frames])}")


def image_sizes(log: Log, problems: list[str]) -> dict[str, Size]:
    """Width and height of each camera's first image, from its header; all headers are read."""
    found: dict[str, Size] = {}
    for name, camera in log.cameras.items():
        sizes: dict[int, Size] = {}
        for frame, path in camera.images.items():
            try:
                sizes[frame] = read_header(path).size
            except UserError as error:
                problems.append(str(error))
        if sizes:
            first = next(iter(sizes.values()))
            found[name] = first
            others = [frame for frame, size in sizes.items() if size != first]
            _tell(problems, others, f"{name}: not {text(first)} pixels as the first image are frames")
    return found


def clocks(log: Log, problems: list[str]) -> dict[str, Any]:
    """Measure the frames a second, and how far each camera's times lie from the lidar's."""
    times = log.lidar_times[np.isfinite(log.lidar_times)]
    rate, steps = measured_rate(times), np.diff(times)
    if rate is None and len(times) > 1:
        problems.append("lidar/timestamps.json does not go forward")
    elif rate is not None:
        uneven = np.flatnonzero(np.abs(steps * rate - 1) > 0.5)
        _tell(problems, (uneven + 1).tolist(), "lidar/timestamps.json has uneven steps before frames")
    found: dict[str, Any] = {"frames_per_second": rate}
    for name, camera in log.cameras.items():
        count = min(len(camera.times), len(log.lidar_times))
        apart = camera.times[:count] - log.lidar_times[:count]
        apart = apart[np.isfinite(apart)]
        if len(apart):
            mean, spread = float(apart.mean()), float(np.ptp(apart))
            found[name] = {"mean_s": mean, "spread_s": spread}
            if spread > _JITTER:
                problems.append(f"{name}: its times vary by {spread:.3f} s against the lidar's")
    return found


def ego(log: Log, problems: list[str]) -> dict[str, Any]:
    """Measure the vehicle's motion by its poses and by GPS."""
    count = log.frames
    positions, times = log.ego_to_world[:count, :3, 3], log.lidar_times[:count]
    found: dict[str, Any] = {"first_position_m": positions[0].tolist() if count else None}
    steps, seconds = np.diff(positions, axis=0), np.diff(times)
    posed = np.isfinite(log.ego_to_world[:count].reshape(count, 16)).all(axis=1)
    usable = posed[1:] & posed[:-1] & np.isfinite(seconds) & (seconds > 0)
    if not usable.any():
        return found
    speeds = np.linalg.norm(steps[usable], axis=1) / seconds[usable]
    found |= {"speed_mps": float(np.median(speeds)), "fastest_mps": float(speeds.max())}
    local = np.einsum("nij,ni->nj", log.ego_to_world[: count - 1][usable, :3, :3], steps[usable])
    moving = speeds > _SPEED
    if moving.any():
        forward = float(np.median(local[moving, 1] / np.linalg.norm(local[moving], axis=1)))
        found["forward"] = forward
        if forward < 0.9:
            problems.append(f"the vehicle does not move along y of lidar/poses.json (cosine {forward:.2f})")
    path = log.folder / "meta" / "gps.json"
    try:
        given = read_list(path)[:count] if path.is_file() else []
        measured_speeds = np.array([[fix["xvel"], fix["yvel"]] for fix in given], dtype=np.float64).reshape(-1, 2)
    except (UserError, KeyError, TypeError, ValueError, OverflowError):
        problems.append("meta/gps.json: expected a list of lat, long, height, xvel, yvel")
        return found
    if len(measured_speeds) == count:
        wrong = ~np.isfinite(measured_speeds).all(axis=1)
        _tell(problems, np.flatnonzero(wrong).tolist(), "meta/gps.json has values that are no number in frames")
        by_gps = np.linalg.norm(measured_speeds, axis=1)[:-1][usable]
        known = np.isfinite(by_gps)
        if not known.any():
            return found
        apart = float(np.median(np.abs(by_gps - speeds)[known]))
        found |= {"gps_speed_mps": float(np.median(by_gps[known])), "apart_mps": apart}
        if apart > _SPEED:
            problems.append(f"meta/gps.json: its speeds are {apart:.2f} m/s from those of lidar/poses.json")
    return found


def opened(log: Log, frame: int, sizes: dict[str, Size], problems: list[str]) -> dict[str, Any]:
    """Figures of one frame's tables."""
    try:
        sweep = log.sweep(frame)
    except UserError as error:
        problems.append(str(error))
        return {"frame": frame}
    where = f"frame {frame}"
    found: dict[str, Any] = {"frame": frame, "points": {}, "seconds_after_timestamp": {}}
    for sensor in np.unique(sweep.sensors).tolist():
        times = sweep.of(sensor).times - log.lidar_times[frame]
        found["points"][str(sensor)] = len(times)
        found["seconds_after_timestamp"][str(sensor)] = [float(times.min()), float(times.max())]
        if _SWEEP < np.abs(times).max() < np.inf:
            problems.append(f"{where}: points of lidar {sensor} are more than {_SWEEP} s from lidar/timestamps.json")
        if sensor not in (PANDAR64, PANDARGT):
            problems.append(f"{where}: lidar {sensor} in column d; expected 0 or 1")
    if str(PANDAR64) not in found["points"]:
        problems.append(f"{where}: no points of lidar {PANDAR64}")
    found["ground_m"] = ground(log, frame, sweep)
    if found["ground_m"] is not None and abs(found["ground_m"]) > _GROUND:
        problems.append(f"{where}: the ground lies at {found['ground_m']:.2f} m of lidar/poses.json, not near 0")
    found["images"] = {name: seen(log, frame, name, size, sweep, problems) for name, size in sizes.items()}
    try:
        found["boxes"] = boxes(log.boxes(frame), sweep, where, problems)
    except UserError as error:
        problems.append(str(error))
    if log.has_semseg:
        try:
            classes = log.classes(frame)
            found["classes"] = len(np.unique(classes))
            if len(classes) != len(sweep.points):
                problems.append(f"{where}: {len(classes)} classes of {len(sweep.points)} points")
        except UserError as error:
            problems.append(str(error))
    return found


def ground(log: Log, frame: int, sweep: Sweep) -> float | None:
    """Height (m) in the ego frame of the ground around the vehicle: of the lowest returns in squares of 1 m, 3 to 15 m
    away, the median."""
    pose = log.ego_to_world[frame]
    local = (sweep.of(PANDAR64).points - pose[:3, 3]) @ pose[:3, :3]
    away = np.hypot(local[:, 0], local[:, 1])
    near = local[(away > 3) & (away < 15)]
    if not len(near) or not np.isfinite(pose).all():
        return None
    squares, of_point = np.unique(np.floor(near[:, :2]), axis=0, return_inverse=True)
    lowest = np.full(len(squares), np.inf)
    np.minimum.at(lowest, of_point.reshape(-1), near[:, 2])
    return float(np.median(lowest))


def seen(log: Log, frame: int, name: str, size: Size, sweep: Sweep, problems: list[str]) -> dict[str, Any]:
    """Count each lidar's points in an image; also tells their share, and their times after the image (s)."""
    camera = log.cameras[name]
    if log.reason_against(frame, (name,)):
        return {}
    *_, inside = pixels_of(camera, frame, sweep.points, *size)
    found: dict[str, Any] = {}
    for sensor in (PANDAR64, PANDARGT):
        of_sensor = sweep.sensors == sensor
        count = int((inside & of_sensor).sum())
        found[str(sensor)] = {"points": count, "share": count / max(1, int(of_sensor.sum()))}
        if count:
            after = np.percentile(sweep.times[inside & of_sensor] - camera.times[frame], [1, 50, 99])
            found[str(sensor)]["seconds_after_image"] = after.tolist()
            if sensor == PANDAR64 and abs(after[1]) > _APART:
                problems.append(f"frame {frame}: {name} is {1000 * after[1]:.0f} ms from the points that it sees")
    if not found[str(PANDAR64)]["points"]:
        problems.append(f"frame {frame}: {name} sees no point of lidar {PANDAR64}")
    return found


def boxes(found: Boxes, sweep: Sweep, where: str, problems: list[str]) -> dict[str, Any]:
    """Boxes, pairs of the same object, and points in cars as their axes are and with width and length swapped."""
    row = {name: number for number, name in enumerate(found.ids)}
    pairs = [(number, row[other]) for number, other in enumerate(found.siblings) if row.get(other, -1) > number]
    apart = [float(np.linalg.norm(found.centers[one] - found.centers[other])) for one, other in pairs]
    facts: dict[str, Any] = {"boxes": len(found.ids), "sibling_pairs": len(pairs)}
    if apart:
        facts |= {"siblings_apart_m": {"median": float(np.median(apart)), "largest": max(apart)}}
    inside, swapped = 0, 0
    turned = replace(found, sizes=found.sizes[:, [1, 0, 2]])
    for box in [number for number, label in enumerate(found.labels) if label == "Car"]:
        reach = np.linalg.norm(found.sizes[box]) / 2
        near = sweep.points[(np.abs(sweep.points - found.centers[box]) <= reach).all(axis=1)]
        inside += int(found.inside(near, box).sum())
        swapped += int(turned.inside(near, box).sum())
    facts |= {"points_in_cars": inside, "points_in_cars_axes_swapped": swapped}
    if swapped > inside:
        problems.append(f"{where}: more points lie in cars with width and length swapped ({swapped} to {inside})")
    return facts


def _plain(figures: Any) -> Any:
    """Replace floats that are not finite by None, JSON's null: it has no NaN."""
    if isinstance(figures, dict):
        return {name: _plain(value) for name, value in figures.items()}
    if isinstance(figures, list | tuple):
        return [_plain(value) for value in figures]
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures
