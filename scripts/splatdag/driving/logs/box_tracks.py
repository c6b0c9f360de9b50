"""Motion of the annotated boxes of a log from frame to frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from splatdag.driving.logs.pandaset import PANDAR64, Boxes, Log


@dataclass(frozen=True)
class Steps:
    """Motion of a frame's boxes until the next frame; since the one before, where an object is not in the next."""

    boxes: Boxes
    metres: np.ndarray
    """[B]: how far the centre moves; NaN where an object is in neither frame, as are the others."""
    radians: np.ndarray
    """[B]: by how much the yaw changes, at most π."""
    speeds: np.ndarray
    """[B] m/s of the centre, by the times of the frames."""


def has_boxes(log: Log, frame: int) -> bool:
    """Tell whether a frame of a log is there, with its pose and time, and has a table of boxes."""
    return frame in log.box_tables and log.reason_against(frame, ()) is None


def matches(boxes: Boxes, other: Boxes) -> np.ndarray:
    """Match boxes with those of another frame: [B] int64, the row of the same object, or -1.

    Rows are of boxes that count for the Pandar64. An object keeps its id; where it enters or leaves the part that both
    lidars see, either of its two boxes may have been the one before.
    """
    rows: dict[str, int] = {}
    counted = np.flatnonzero(other.of(PANDAR64)).tolist()
    rows |= {other.siblings[row]: row for row in counted}
    rows |= {other.ids[row]: row for row in counted}
    rows[""] = -1
    names = zip(boxes.ids, boxes.siblings, strict=True)
    return np.array([rows.get(own, rows.get(sibling, -1)) for own, sibling in names], dtype=np.int64)


def steps(log: Log, frame: int) -> Steps:
    """Measure how the boxes of a frame move.

    Raises:
        UserError: the frame has no table of boxes, or one that is damaged.
    """
    boxes = log.boxes(frame)
    metres, radians, seconds = (np.full(len(boxes.ids), np.nan) for _ in range(3))
    for number in (frame + 1, frame - 1):
        if not np.isnan(metres).any() or not has_boxes(log, number):
            continue
        apart = abs(log.lidar_times[number] - log.lidar_times[frame])
        if not apart:
            continue
        other = log.boxes(number)
        rows = matches(boxes, other)
        new = np.isnan(metres) & (rows >= 0)
        same = rows[new]
        metres[new] = np.linalg.norm(other.centers[same] - boxes.centers[new], axis=1)
        radians[new] = np.abs((other.yaws[same] - boxes.yaws[new] + np.pi) % (2 * np.pi) - np.pi)
        seconds[new] = apart
    return Steps(boxes, metres, radians, metres / seconds)


def from_local(boxes: Boxes, local: np.ndarray, box: int) -> np.ndarray:
    """Turn points [N, 3] in the axes of a box, from its centre, into the world; the inverse of `Boxes.local`."""
    cos, sin = math.cos(boxes.yaws[box]), math.sin(boxes.yaws[box])
    x, y, z = local.T
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=1) + boxes.centers[box]
