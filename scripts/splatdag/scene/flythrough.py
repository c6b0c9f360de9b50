"""Paths of a camera through a scene, for videos.

The names of the paths are those of simple_trainer's `render_traj_path`; its axes need a world with z upwards,
these take "up" from the cameras.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import convolve1d
from scipy.spatial.transform import Rotation, Slerp

logger = logging.getLogger(__name__)

PathKind = Literal["interp", "ellipse", "spiral", "raw"]

FPS = 30
_SAMPLES = 2048  # of a path, before frames are spaced evenly along it
_SMOOTHING = 0.2  # radians of motion (see _motion): about the step between two photos of a walk
_DETOUR = 1.5  # name order is kept where it is at most this much longer than a short walk
_MAX_CAMERAS = 240  # on the way; more could not be told apart in seconds
_TURNS = 2  # of the spiral


def camera_path(
    world_to_camera_V44: Sequence[np.ndarray] | np.ndarray,
    kind: PathKind,
    points_P3: np.ndarray | None = None,
    seconds: float = 4.0,
    fps: int = FPS,
) -> np.ndarray:
    """Return the poses of a fly-through, [F, 4, 4] world-to-camera, float64; F is seconds × fps, whatever V is.

    interp: past all cameras, on a curve that rounds off the shake of a hand. They come in the order given where
        that is a walk, else in that of a short walk (nearest neighbours, then 2-opt).
    ellipse: once around the focus at the cameras' mean height, looking at the focus.
    spiral: two turns about the most central camera, looking at the focus: for scenes seen from one side.
    raw: the cameras as they are, in the order given, each held for a few frames (so F may be a little less).

    The focus is the point nearest to all optical axes, where they meet in front of the cameras; else it lies
    ahead of the most central camera, as far as the points there. Up is the cameras' mean up, levelled. Speed is even:
    along the curve for ellipse and spiral; for interp, where a camera may turn on the spot, in `_motion`.

    Args:
        world_to_camera_V44: rigid poses, OpenCV axes, in the order of the photos' names. Fewer than two make
            no path: F is 0, and the log says so.
        kind: which path.
        points_P3: points of the scene, same frame.
        seconds: of the video.
        fps: frames per second.

    Raises:
        ValueError: a matrix is not a rigid pose, or there would be no frame.
    """
    poses = np.asarray(world_to_camera_V44, dtype=np.float64).reshape(-1, 4, 4)
    rotations_V33 = poses[:, :3, :3]
    residual = rotations_V33 @ rotations_V33.transpose(0, 2, 1) - np.eye(3)
    if not (np.isfinite(poses).all() and (np.abs(residual) < 1e-3).all() and (np.linalg.det(rotations_V33) > 0).all()):
        raise ValueError("a world-to-camera matrix is not rigid; expected a rotation and a translation")
    count = round(seconds * fps)
    if count < 1:
        raise ValueError(f"{seconds:g} s at {fps} frames per second is no frame")
    if len(poses) < 2:
        logger.info("no fly-through: it takes two cameras, there are %d", len(poses))
        return np.empty((0, 4, 4))
    if kind == "raw":
        shown = _spread(poses, count)
        return np.repeat(shown, count // len(shown), axis=0)

    positions_V3 = -(rotations_V33.transpose(0, 2, 1) @ poses[:, :3, 3:])[..., 0]
    middle = _most_central(positions_V3, rotations_V33[:, 2])
    focus = _focus(positions_V3, rotations_V33[:, 2], middle, points_P3)
    depth = float(np.linalg.norm(positions_V3 - focus, axis=1).mean())
    if kind == "interp":
        return _through(_spread(positions_V3, _MAX_CAMERAS), _spread(rotations_V33, _MAX_CAMERAS), depth, count)
    up = _up(rotations_V33)
    if kind == "ellipse":
        return _look_at(_ellipse(positions_V3, focus, up, depth, count), focus, up)
    eye, forward = positions_V3[middle], rotations_V33[middle, 2]
    if (focus - eye) @ forward < 0.1 * depth:
        focus = eye + depth * forward
    return _look_at(_spiral(positions_V3, eye, focus, up, count), focus, up)


def _spread(items: np.ndarray, most: int) -> np.ndarray:
    """Return all items, or `most` of them, spread evenly."""
    return items[np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int)]


def _extent(positions_V3: np.ndarray) -> float:
    """Return the median distance of the cameras from their mean; 0 where it is only rounding error."""
    extent = float(np.median(np.linalg.norm(positions_V3 - positions_V3.mean(axis=0), axis=1)))
    return extent if extent > 1e-9 * np.abs(positions_V3).max() else 0.0


def _most_central(positions_V3: np.ndarray, forward_V3: np.ndarray) -> int:
    offsets = np.linalg.norm(positions_V3 - positions_V3.mean(axis=0), axis=1) / (_extent(positions_V3) or 1.0)
    return int(np.argmin(offsets + np.linalg.norm(forward_V3 - forward_V3.mean(axis=0), axis=1)))


def _focus(positions_V3: np.ndarray, forward_V3: np.ndarray, middle: int, points_P3: np.ndarray | None) -> np.ndarray:
    """Return the point [3] that the cameras look at; see `camera_path`."""
    extent, center = _extent(positions_V3), positions_V3.mean(axis=0)
    across_V33 = np.eye(3) - forward_V3[:, :, None] * forward_V3[:, None, :]
    normal = across_V33.mean(axis=0)
    if extent > 0 and np.linalg.eigvalsh(normal)[0] > 0.01:  # directions differ by some 6° or more
        moments = (across_V33 @ (positions_V3 - center)[..., None])[..., 0]
        focus = center + np.linalg.solve(normal, moments.mean(axis=0))
        if np.median(((focus - positions_V3) * forward_V3).sum(axis=1)) > 0.1 * extent:
            return focus
    depths = np.empty(0) if points_P3 is None else (points_P3 - positions_V3[middle]) @ forward_V3[middle]
    ahead = depths[depths > 0]
    depth = float(np.median(ahead)) if len(ahead) else extent or 1.0
    return positions_V3[middle] + depth * forward_V3[middle]


def _up(rotations_V33: np.ndarray) -> np.ndarray:
    """Return the up direction, [3]: the cameras' mean up without its part along their right axes.

    Cameras that look down lean towards the scene, and so does their mean up unless they stand all around it; but
    cameras are held level, so that up has no part along their right axes. For cameras that look down and are turned
    all ways, whose mean up vanishes, up is opposite to their mean view direction.
    """
    right_V3, down_V3, forward_V3 = rotations_V33.transpose(1, 0, 2)
    for up in (-down_V3.mean(axis=0), -forward_V3.mean(axis=0), -down_V3[0]):
        if np.linalg.norm(up) > 0.1:
            break
    level = np.linalg.solve(0.01 * np.eye(3) + right_V3.T @ right_V3 / len(right_V3), up)
    return level / np.linalg.norm(level)


def _look_at(eyes_F3: np.ndarray, focus: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return world-to-camera matrices [F, 4, 4] of cameras at `eyes` that look at `focus`."""
    forward = focus - eyes_F3
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, up)
    along = np.linalg.norm(right, axis=1) < 1e-6
    right[along] = _across(up)[0]
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return _matrices(np.stack([right, np.cross(forward, right), forward], axis=1), eyes_F3)


def _across(up: np.ndarray) -> np.ndarray:
    """Return two unit vectors [2, 3] that are perpendicular to `up` and to each other."""
    first = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(up, first)])


def _matrices(rotations_F33: np.ndarray, positions_F3: np.ndarray) -> np.ndarray:
    matrices = np.tile(np.eye(4), (len(positions_F3), 1, 1))
    matrices[:, :3, :3] = rotations_F33
    matrices[:, :3, 3] = -(rotations_F33 @ positions_F3[..., None])[..., 0]
    return matrices


def _ellipse(positions_V3: np.ndarray, focus: np.ndarray, up: np.ndarray, depth: float, count: int) -> np.ndarray:
    """Return positions [F, 3], from beside the first camera on towards most others. The half axes, along the cameras'
    principal directions, hold nine in ten of them; none is less than half the other, so that the path does not
    cut through the scene."""
    axes = _across(up)
    flat_V2 = (positions_V3 - focus) @ axes.T
    axes = np.linalg.eigh(flat_V2.T @ flat_V2)[1].T @ axes
    flat_V2 = (positions_V3 - focus) @ axes.T
    half = np.percentile(np.abs(flat_V2), 90, axis=0)
    half = np.maximum(half, max(0.5 * half.max(), 0.25 * depth))
    first, mean = flat_V2[0] / half, flat_V2.mean(axis=0) / half
    towards = 1 if first[0] * mean[1] >= first[1] * mean[0] else -1
    angles = np.arctan2(first[1], first[0]) + towards * np.linspace(0, 2 * np.pi, _SAMPLES)
    height = (positions_V3 - focus).mean(axis=0) @ up * up
    return _even(focus + height + (half * np.stack([np.cos(angles), np.sin(angles)], axis=1)) @ axes, count)


def _spiral(positions_V3: np.ndarray, eye: np.ndarray, focus: np.ndarray, up: np.ndarray, count: int) -> np.ndarray:
    """Return positions [F, 3]. The radii, in the axes of the camera at `eye`, hold nine in ten cameras, within 2 to
    25 % of the distance to the focus: where cameras lie farther out, they look from other sides."""
    depth = np.linalg.norm(focus - eye)
    axes = _look_at(eye[None], focus, up)[0, :3, :3]
    radii = np.percentile(np.abs((positions_V3 - eye) @ axes.T), 90, axis=0).clip(0.02 * depth, 0.25 * depth)
    angles = np.linspace(0, 2 * np.pi * _TURNS, _SAMPLES)
    waves = np.stack([np.cos(angles), np.sin(angles), np.sin(angles / _TURNS)], axis=1)
    return _even(eye + (radii * waves) @ axes, count)


def _even(closed_S3: np.ndarray, count: int) -> np.ndarray:
    """Return positions [F, 3] at even distances along a closed curve, the last before the first comes again."""
    length = np.concatenate([[0], np.linalg.norm(np.diff(closed_S3, axis=0), axis=1).cumsum()])
    at = np.linspace(0, length[-1], count, endpoint=False)
    return np.stack([np.interp(at, length, values) for values in closed_S3.T], axis=1)


def _motion(shift: np.ndarray, angle: np.ndarray, depth: float) -> np.ndarray:
    """Return the approximate motion of the picture (radians), from rotation and from shift at the scene's distance."""
    return np.hypot(shift / depth, angle)


def _through(positions_V3: np.ndarray, rotations_V33: np.ndarray, depth: float, count: int) -> np.ndarray:
    """Return the path past all cameras, [F, 4, 4]: monotone cubic splines of the positions (no overshoot: Fritsch &
    Butland 1984), slerped rotations, both smoothed by a Gaussian, then frames spaced evenly."""
    shift = np.linalg.norm(positions_V3[:, None] - positions_V3, axis=2)
    flat = rotations_V33.reshape(-1, 9)
    angle = np.arccos(((flat @ flat.T - 1) / 2).clip(-1, 1))
    cost = _motion(shift, angle, depth)
    order = _walk(cost)
    steps = cost[order[:-1], order[1:]]
    moved = np.concatenate([[True], steps > 1e-6])
    way = np.concatenate([[0], steps.cumsum()])[moved]
    order = order[moved]
    if len(order) == 1:
        return np.tile(_matrices(rotations_V33[order], positions_V3[order]), (count, 1, 1))

    at = np.linspace(0, way[-1], _SAMPLES)
    places = PchipInterpolator(way, positions_V3[order])(at)
    quats = Slerp(way, Rotation.from_matrix(rotations_V33[order]))(at).as_quat()
    quats[1:] *= np.where((quats[1:] * quats[:-1]).sum(axis=1) < 0, -1, 1).cumprod()[:, None]
    path_S7 = _smooth(np.concatenate([places, quats], axis=1), min(_SMOOTHING / way[-1], 0.1) * _SAMPLES)

    turns = Rotation.from_quat(path_S7[:, 3:])
    shift = np.linalg.norm(np.diff(path_S7[:, :3], axis=0), axis=1)
    motion = _motion(shift, (turns[1:] * turns[:-1].inv()).magnitude(), depth)
    length = np.concatenate([[0], motion.cumsum()])
    at = np.linspace(0, length[-1], count)
    frames_F7 = np.stack([np.interp(at, length, values) for values in path_S7.T], axis=1)
    return _matrices(Rotation.from_quat(frames_F7[:, 3:]).as_matrix(), frames_F7[:, :3])


def _smooth(values_SN: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth values by a Gaussian, σ in samples, at most a tenth of them; the ends stay where they are."""
    reach = int(4 * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2) if reach else np.ones(1)
    padded = np.pad(values_SN, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    return convolve1d(padded, taps / taps.sum(), axis=0)[reach : reach + len(values_SN)]


def _walk(cost_VV: np.ndarray) -> np.ndarray:
    """Return an order of the cameras, [V], without jumps: as given where that is not much longer than a short walk."""
    count = len(cost_VV)
    # One more stop, at no cost from everywhere, makes an open walk a round trip, which 2-opt needs.
    cost = np.pad(cost_VV, ((0, 1), (0, 1)))
    tour = [count, int(cost_VV.sum(axis=1).argmax())]
    left = np.ones(count, dtype=bool)
    for _ in range(count - 1):
        left[tour[-1]] = False
        tour.append(int(np.where(left, cost_VV[tour[-1]], np.inf).argmin()))
    order = np.array(tour)
    improved = True
    while improved:
        improved = False
        for i in range(count - 1):
            here, after = order[i], order[i + 1]
            there, beyond = order[i + 2 :], np.roll(order, -1)[i + 2 :]
            gain = cost[here, after] + cost[there, beyond] - cost[here, there] - cost[after, beyond]
            best = int(gain.argmax())
            if gain[best] > 1e-9 * cost.max():
                order[i + 1 : i + 3 + best] = order[i + 1 : i + 3 + best][::-1]
                improved = True
    walk, given = order[1:], np.arange(count)
    if _length(cost_VV, given) <= _DETOUR * _length(cost_VV, walk):
        return given
    return walk if walk[0] < walk[-1] else walk[::-1]


def _length(cost_VV: np.ndarray, order: np.ndarray) -> float:
    return float(cost_VV[order[:-1], order[1:]].sum())
