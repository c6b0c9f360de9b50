"""PandaSet's doctor: what logs hold, measured and drawn, and what is wrong with them."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from splatdag.driving import pictures
from splatdag.driving.checks.measurements import measured
from splatdag.driving.clips.lift import pixels_of
from splatdag.driving.logs.folders import CAMERAS
from splatdag.driving.logs.pandaset import PANDAR64, Log, sequences
from splatdag.driving.options import CheckOptions
from splatdag.formats.images import read_pixels
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import write_json, write_text
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)
_ROWS = (
    ("front_left_camera", "front_camera", "front_right_camera"),
    ("left_camera", "back_camera", "right_camera"),
)
_TILE = (640, 360)
"""Largest width and height of one camera's picture."""


def main(data_root: Path, out_dir: Path, options: CheckOptions, job: Job) -> None:
    """Measure and draw every log.

    Args:
        data_root: folder of the logs (001, 002, …).
        out_dir: folder for <log>.jpg, report.txt and, last, report.json.
        options: which logs and frames.
        job: how to run.
    """
    folders = {folder.name: folder for folder in sequences(data_root)}
    missing = [name for name in options.scenes if name not in folders]
    if missing:
        raise UserError(f"scenes: {data_root} has no log {missing[0]}")
    chosen = [folders[name] for name in options.scenes or folders]

    def checked(folder: Path) -> dict[str, Any]:
        found, picture = _checked(folder, options)
        pictures.write_jpg(out_dir / f"{folder.name}.jpg", picture)
        return found

    with ThreadPoolExecutor(job.threads) as pool:
        logs = list(pool.map(checked, chosen))
    problems = [f"{log['log']}: {problem}" for log in logs for problem in log["problems"]]
    for problem in problems:
        logger.warning("%s", problem)
    write_text(out_dir / "report.txt", _table(logs) + "".join(f"{line}\n" for line in ["", *problems]))
    write_json(out_dir / "report.json", {"logs": logs, "problems": len(problems)})
    logger.info("%d logs, %d problems; figures and pictures are in %s", len(logs), len(problems), out_dir)
    if problems and options.strict:
        raise UserError(f"{problems[0]} (the first of {len(problems)} problems)")


def _checked(folder: Path, options: CheckOptions) -> tuple[dict[str, Any], np.ndarray]:
    """Figures and picture of one log."""
    try:
        log = Log(folder)
    except UserError as error:
        return {"log": folder.name, "problems": [str(error)]}, _card(_TILE, str(error))
    found = measured(log, options.frames)
    usable = [frame["frame"] for frame in found["opened"] if "points" in frame]
    if not usable:
        return found, _card(_TILE, "no frame can be opened")
    return found, _drawn(log, usable[len(usable) // 2], found["problems"])


def _drawn(log: Log, frame: int, problems: list[str]) -> np.ndarray:
    """All cameras' images of a frame with the Pandar64's points in the colours of their depths."""
    points = log.sweep(frame).of(PANDAR64).points
    tiles = {name: _tile(log, frame, name, points, problems) for name in CAMERAS}
    size = max((tile.shape[1::-1] for tile in tiles.values() if isinstance(tile, np.ndarray)), default=_TILE)
    drawn = {}
    for name, tile in tiles.items():
        image = _card(size, tile) if isinstance(tile, str) else cv2.resize(tile, size, interpolation=cv2.INTER_AREA)
        drawn[name] = _labelled(image, f"{log.name} {name} {frame:02d}")
    return np.concatenate([np.concatenate([drawn[name] for name in row], axis=1) for row in _ROWS])


def _tile(log: Log, frame: int, name: str, points: np.ndarray, problems: list[str]) -> np.ndarray | str:
    """A camera's image with points, scaled down, or why there is none."""
    if reason := log.reason_against(frame, (name,)):
        return reason
    camera = log.cameras[name]
    try:
        image = read_pixels(camera.images[frame]).rgb
    except UserError as error:
        if str(error) not in problems:  # its header has told as much
            problems.append(str(error))
        return "can't be decoded"
    height, width = image.shape[:2]
    pixels, depths, inside = pixels_of(camera, frame, points, width, height)
    pixels, depths = pixels[inside], depths[inside]
    scale = min(1.0, _TILE[0] / width, _TILE[1] / height)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return pictures.with_points(small, pixels * scale, depths, pictures.by_value(depths, 0, pictures.FARTHEST), 0)


def _card(size: tuple[int, int], words: str) -> np.ndarray:
    """A grey picture with a few words."""
    grey = np.full((size[1], size[0], 3), pictures.BACKGROUND, np.uint8)
    return _labelled(grey, words[-size[0] // 6 :], size[1] // 2)


def _labelled(image: np.ndarray, words: str, y: int = 12) -> np.ndarray:
    drawn = np.ascontiguousarray(image)
    for shift, color in ((1, (0, 0, 0)), (0, (255, 255, 255))):
        cv2.putText(drawn, words, (4 + shift, y + shift), cv2.FONT_HERSHEY_SIMPLEX, 0.35, color, 1, cv2.LINE_AA)
    return drawn


_COLUMNS = (
    "log", "frames", "rate", "points d=0", "d=1", "d=0 ms", "d=1 ms", "front ms", "in front", "ground m", "m/s",
    "gps m/s", "boxes", "pairs", "in cars", "swapped", "problems",
)  # fmt: skip


def _table(logs: list[dict[str, Any]]) -> str:
    """A line for each log; of what is measured per frame, the median over opened frames."""
    rows = [_COLUMNS, *(_row(log) for log in logs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(lines) + "\n"


def _row(log: dict[str, Any]) -> tuple[str, ...]:
    clock, ego = log.get("clock", {}), log.get("ego", {})
    front = clock.get("front_camera")

    def median(*keys: str | int, digits: int = 0, factor: float = 1) -> str:
        found = [value for frame in log.get("opened", []) if (value := _at(frame, keys)) is not None]
        return f"{factor * np.median(found):.{digits}f}" if found else "-"

    def span(sensor: str) -> str:
        ends = [median("seconds_after_timestamp", sensor, end, factor=1000) for end in (0, 1)]
        return "-" if "-" in ends else f"{ends[0]}…{ends[1]}"

    def shown(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return (
        log["log"],
        str(log.get("frames", "-")),
        shown(clock.get("frames_per_second"), 2),
        median("points", "0"),
        median("points", "1"),
        span("0"),
        span("1"),
        shown(front and 1000 * front["mean_s"], 1),
        median("images", "front_camera", "0", "points"),
        median("ground_m", digits=2),
        shown(ego.get("speed_mps"), 1),
        shown(ego.get("gps_speed_mps"), 1),
        median("boxes", "boxes"),
        median("boxes", "sibling_pairs"),
        median("boxes", "points_in_cars"),
        median("boxes", "points_in_cars_axes_swapped"),
        str(len(log["problems"])),
    )


def _at(found: Any, keys: tuple[str | int, ...]) -> Any:
    """Return the value at a path of keys; None where a key is missing."""
    for key in keys:
        if found is None or (isinstance(key, str) and key not in found):
            return None
        found = found[key]
    return found


if __name__ == "__main__":
    run(main)
