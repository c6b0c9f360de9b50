"""Scene flow: motion of lidar points from a frame to the next, by the annotated boxes, and errors of a predicted flow.

Points are those of the Pandar64 that an image shows. A point moves rigidly with its box, background stands still.
EPE3D, Acc5 and Acc10 are absolute (metres; shares of points off by at most 5 and 10 cm). Three-way EPE is that of the
Argoverse 2 challenge (background static, foreground static, foreground dynamic: faster than 0.5 m/s); bucket-normalised
EPE is that of Khatri et al., I Can't Believe It's Not Scene Flow! (ECCV 2024), by the labels of the boxes. The Flux4D
reproduction's "bucketed nEPE" is another figure: each point's error over the length of its own flow, by five classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from splatdag.driving.clips.lift import EGO_RADIUS, pixels_of
from splatdag.driving.logs.box_tracks import from_local, has_boxes, matches
from splatdag.driving.logs.pandaset import PANDAR64, Boxes, Log
from splatdag.formats.images import read_header

BACKGROUND = "background"
"""Label of points in no box."""
DYNAMIC_SPEED = 0.5
"""Speed (m/s) above which a point of the foreground counts as dynamic."""
BUCKET, LAST = 0.4, 50
"""Width of a speed bucket (m/s) and number of the last, which has no upper bound; bucket 0 counts as static."""
SHORTEST_FLOW = 0.05
"""Metres that a flow counts as at least, where a point's error is divided by its length."""
_SHORTEST = 1e-6
"""Metres below which a flow has no direction."""


@dataclass(frozen=True)
class Pair:
    """N points of a frame and their flow to the next."""

    frame: int
    """Frame of the log."""
    seconds: float
    """Time from this frame to the next."""
    rows: np.ndarray
    """[N] int64: rows of `log.sweep(frame).of(PANDAR64)`."""
    points: np.ndarray
    """[N, 3] float64 world, metres."""
    flow: np.ndarray
    """[N, 3] float64 metres, world axes; 0 where it is not valid."""
    valid: np.ndarray
    """[N] bool: False on what has no box in the next frame."""
    labels: np.ndarray
    """[N] str: label of the box that a point is in, the smallest if several, or BACKGROUND."""


def pair_of(log: Log, frame: int, camera: str = "front_camera") -> Pair | None:
    """Pair the points of a frame that a camera sees with their flow.

    None unless this frame and the next are usable and have boxes.

    Returns of the recording vehicle are left out: it moves, and has no box. So these are, in their order, the points
    that `lift` of this camera and lidar has as seen.

    Raises:
        UserError: a table is damaged.
    """
    if not (has_boxes(log, frame) and has_boxes(log, frame + 1)):
        return None
    seconds = float(log.lidar_times[frame + 1] - log.lidar_times[frame])
    if seconds <= 0:
        return None
    points = log.sweep(frame).of(PANDAR64).points
    view = log.cameras[camera]
    *_, visible = pixels_of(view, frame, points, *read_header(view.images[frame]).size)
    visible &= np.hypot(*(points - log.ego_to_world[frame, :3, 3])[:, :2].T) >= EGO_RADIUS
    boxes, later = log.boxes(frame), log.boxes(frame + 1)
    flow, valid, labels = rigid_flow(points[visible], boxes, later)
    return Pair(frame, seconds, np.flatnonzero(visible), points[visible], flow, valid, labels)


def rigid_flow(points: np.ndarray, boxes: Boxes, later: Boxes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Move points [N, 3] of the Pandar64 with their boxes: flow [N, 3], whether it is known [N], and label [N]."""
    flow, valid = np.zeros((len(points), 3)), np.ones(len(points), bool)
    labels = np.full(len(points), BACKGROUND, dtype=object)
    rows = matches(boxes, later)
    counted = np.flatnonzero(boxes.of(PANDAR64))
    for box in counted[np.argsort(-boxes.sizes[counted].prod(axis=1), kind="stable")]:  # the smallest last
        inside = boxes.inside(points, box)
        labels[inside], valid[inside], flow[inside] = boxes.labels[box], rows[box] >= 0, 0
        if rows[box] >= 0:
            flow[inside] = from_local(later, boxes.local(points[inside], box), int(rows[box])) - points[inside]
    return flow, valid, labels


def pair_row(pair: Pair, predicted: np.ndarray) -> dict[str, Any]:
    """Measure a predicted flow: means over the valid points, and sums that `scores.summary` adds up, as JSON has them.

    Args:
        pair: points and their true flow.
        predicted: [N, 3] metres from this frame to the next, in world axes; zeros for the trivial baseline.

    Raises:
        ValueError: it is not of these points, or has values that are no numbers.
    """
    if predicted.shape != pair.flow.shape or not np.isfinite(predicted).all():
        raise ValueError(f"flow of shape {predicted.shape}; expected finite numbers of shape {pair.flow.shape}")
    true, flow, labels = pair.flow[pair.valid], predicted[pair.valid].astype(np.float64), pair.labels[pair.valid]
    errors, lengths = np.linalg.norm(flow - true, axis=1), np.linalg.norm(true, axis=1)
    speeds = lengths / pair.seconds
    both = (lengths > _SHORTEST) & (np.linalg.norm(flow, axis=1) > _SHORTEST)
    foreground = labels != BACKGROUND
    parts = {
        "BS": ~foreground,
        "FS": foreground & (speeds <= DYNAMIC_SPEED),
        "FD": foreground & (speeds > DYNAMIC_SPEED),
    }
    return {
        "points": len(errors),
        "epe3d": _mean(errors),
        "acc5": _mean(errors <= 0.05),
        "acc10": _mean(errors <= 0.10),
        "theta_e": _mean(_angles(true[both], flow[both])),
        "v_rmse_mps": float(np.sqrt(np.mean((errors / pair.seconds) ** 2))) if len(errors) else None,
        "epe_3way": {part: _mean(errors[mask]) for part, mask in parts.items()},
        "epe_3way_count": {part: int(mask.sum()) for part, mask in parts.items()},
        "buckets": _buckets(labels, speeds, errors, lengths),
    }


def _angles(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compute the angles [N] (radians) between vectors [N, 3], neither of which is 0."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.arccos(np.clip((one * other).sum(axis=1) / lengths, -1, 1))


def _buckets(
    labels: np.ndarray, speeds: np.ndarray, errors: np.ndarray, lengths: np.ndarray
) -> list[dict[str, str | int | float]]:
    """Sum up each bucket of label and speed: points, their errors and flows (m), and error over flow of each point."""
    rows = []
    numbers = np.minimum(np.floor(speeds / BUCKET), LAST).astype(np.int64)
    relative = errors / np.maximum(lengths, SHORTEST_FLOW)
    for label in sorted(set(labels.tolist())):
        for number in np.unique(numbers[labels == label]).tolist():
            mask = (labels == label) & (numbers == number)
            sums = {"error_m": float(errors[mask].sum()), "flow_m": float(lengths[mask].sum())}
            sums |= {"error_over_flow": float(relative[mask].sum())}
            rows.append({"label": label, "bucket": number, "points": int(mask.sum()), **sums})
    return rows


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
