"""Masks of the pixels of an image that show something that moves, by the annotated boxes.

Flux4D's paper does not define it. `boxes` is what is common for street scenes (projected boxes that are faster than
1 m/s), `points_dilated` what the reproduction measured with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal

import cv2
import numpy as np

from splatdag.driving.clips.lift import NEAR, pixels_of
from splatdag.driving.logs.box_tracks import Steps, from_local, has_boxes, matches, steps
from splatdag.driving.logs.pandaset import PANDAR64, Camera, Log
from splatdag.formats.images import read_header

Definition = Literal["boxes", "points_dilated"]
MIN_SPEED = 1.0
MIN_STEP = 0.05
MIN_TURN = 1.0
RADIUS = 5.0
FULL_WIDTH = 1920
DEFINITIONS: dict[Definition, dict[str, Any]] = {
    "boxes": {
        "name": "boxes",
        "region": "filled convex hulls of the projected corners of moving boxes",
        "min_speed_mps": MIN_SPEED,
        "near_m": NEAR,
        "siblings": "of two boxes of one object, that of the Pandar64",
    },
    "points_dilated": {
        "name": "points_dilated",
        "region": "points of the Pandar64 in moving boxes, dilated by a disc",
        "min_step_m_per_frame": MIN_STEP,
        "or_min_turn_deg_per_frame": MIN_TURN,
        "majority_of_frames": 3,
        "radius_px": RADIUS,
        "at_width_px": FULL_WIDTH,
        "siblings": "of two boxes of one object, that of the Pandar64",
    },
}
"""Description of each kind of mask, to be written beside the figures that are measured on it."""
_SIGNS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_EDGES = [(one, other) for one, other in combinations(range(8), 2) if (_SIGNS[one] != _SIGNS[other]).sum() == 1]


def dynamic_mask(
    log: Log, frame: int, camera: str, width: int, height: int, definition: Definition = "boxes"
) -> np.ndarray:
    """Mask [H, W] (bool) the pixels that show what moves; none where the frame has no boxes.

    Args:
        log: the sequence.
        frame: of it.
        camera: name; its image is read for its size.
        width: of the mask, pixels; that of the image may differ.
        height: of the mask.
        definition: see `DEFINITIONS`.

    Raises:
        UserError: a table is damaged.
    """
    if not has_boxes(log, frame):
        return np.zeros((height, width), bool)
    view = resized(log.cameras[camera], frame, width, height)
    if definition == "boxes":
        return box_mask(view, frame, steps(log, frame), width, height)
    return _point_mask(log, view, frame, width, height)


def resized(camera: Camera, frame: int, width: int, height: int) -> Camera:
    """Scale the intrinsics of a camera to another size of its image of a frame."""
    own_width, own_height = read_header(camera.images[frame]).size
    scale = np.array([[width / own_width], [height / own_height], [1.0]])
    return replace(camera, K=scale * camera.K)


def box_mask(camera: Camera, frame: int, moving: Steps, width: int, height: int) -> np.ndarray:
    """Mask [H, W] (bool) the hulls of boxes faster than MIN_SPEED in an image of the camera."""
    mask = np.zeros((height, width), bool)
    boxes = moving.boxes
    for box in np.flatnonzero(boxes.of(PANDAR64) & (moving.speeds > MIN_SPEED)).tolist():
        fill(mask, outline(camera, frame, from_local(boxes, _SIGNS * boxes.sizes[box], box)))
    return mask


def outline(camera: Camera, frame: int, corners: np.ndarray) -> np.ndarray:
    """Project a box to its hull [P, 2] (x, y pixels) in an image, of what lies NEAR metres before the camera or beyond.

    Args:
        camera: one of a log.
        frame: of the log.
        corners: [8, 3] world, in the order of `_SIGNS`.
    """
    world_to_camera = np.linalg.inv(camera.camera_to_world[frame])
    local = corners @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    ahead = np.array([*local[local[:, 2] >= NEAR], *_crossings(local)]).reshape(-1, 3)
    if not len(ahead):
        return np.empty((0, 2))
    pixels = (ahead @ camera.K.T)[:, :2] / ahead[:, 2:]
    return cv2.convexHull(pixels.astype(np.float32))[:, 0].astype(np.float64)


def _crossings(corners: np.ndarray) -> Iterator[np.ndarray]:
    """Intersect the edges of a box of corners [8, 3] in a camera's axes with the plane NEAR metres before it."""
    for one, other in _EDGES:
        depth, end = corners[one, 2], corners[other, 2]
        if (depth < NEAR) != (end < NEAR):
            yield corners[one] + (NEAR - depth) / (end - depth) * (corners[other] - corners[one])


def fill(mask: np.ndarray, polygon: np.ndarray) -> None:
    """Set the pixels of a mask [H, W] whose centres lie in a convex polygon [P, 2], however large it is."""
    if len(polygon) < 3:
        return
    height, width = mask.shape
    left, top = np.floor(polygon.min(axis=0)).clip(0, (width, height)).astype(int)
    right, bottom = np.ceil(polygon.max(axis=0)).clip(0, (width, height)).astype(int)
    x, y = np.arange(left, right) + 0.5, np.arange(top, bottom)[:, None] + 0.5
    on_left = on_right = np.ones((bottom - top, right - left), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        side = (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)
        on_left, on_right = on_left & (side >= 0), on_right & (side <= 0)
    mask[top:bottom, left:right] |= on_left | on_right


def _point_mask(log: Log, camera: Camera, frame: int, width: int, height: int) -> np.ndarray:
    """Mask [H, W] (bool) discs around points of the Pandar64 in boxes that move in most of three frames."""
    points = log.sweep(frame).of(PANDAR64).points
    pixels, _, inside = pixels_of(camera, frame, points, width, height)
    points, pixels = points[inside], pixels[inside]
    boxes = log.boxes(frame)
    moving = np.zeros(len(points), bool)
    for box in np.flatnonzero(boxes.of(PANDAR64) & _mostly_moving(log, frame)).tolist():
        moving |= boxes.inside(points, box)
    if not moving.any():
        return np.zeros((height, width), bool)
    column, row = pixels[moving].astype(np.int64).T
    away = np.ones((height, width), np.uint8)
    away[row, column] = 0
    distances = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distances <= RADIUS * width / FULL_WIDTH


def _mostly_moving(log: Log, frame: int) -> np.ndarray:
    """Mask [B] boxes of a frame that move in most of this frame and those before and after, as far as is known."""
    boxes = log.boxes(frame)
    votes, known = np.zeros(len(boxes.ids)), np.zeros(len(boxes.ids))
    for number in (frame - 1, frame, frame + 1):
        if not has_boxes(log, number):
            continue
        moving = steps(log, number)
        rows = matches(boxes, moving.boxes)
        matched, rows = rows >= 0, rows[rows >= 0]
        votes[matched] += (moving.metres[rows] > MIN_STEP) | (moving.radians[rows] > np.radians(MIN_TURN))
        known[matched] += ~np.isnan(moving.metres[rows])
    return 2 * votes > known
