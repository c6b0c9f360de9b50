"""Lift: lidar points of one frame with colours from the images of the same frame, as Gaussians begin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from splatdag.driving.logs.pandaset import PANDAR64, PANDARGT, Camera, Log
from splatdag.formats.images import read_pixels
from splatdag.workflow.errors import UserError

NEAR = 0.1
"""Depth (m) below which a point is behind a camera or in it."""
EGO_RADIUS = 2.5
"""Returns closer than this to the ego vehicle (m, horizontally) are of itself."""
NEIGHBOURS = 3


@dataclass(frozen=True)
class Lifted:
    """The points of one frame."""

    origin: np.ndarray
    """[3] float64: what has been subtracted from world coordinates, the ego vehicle's position."""
    points: np.ndarray
    """[N, 3] float32, world axes, metres from the origin."""
    colors: np.ndarray
    """[N, 3] uint8, of the first camera that sees the point; grey where none does."""
    seen: np.ndarray
    """[N] bool: a camera sees it."""
    times: np.ndarray
    """[N] float32, seconds after the end of the sweep, mostly negative."""
    spacings: np.ndarray
    """[N] float32, metres: mean distance to the three nearest points."""
    sensors: np.ndarray
    """[N] int8."""


def lift(
    log: Log, frame: int, cameras: tuple[str, ...], sensors: tuple[int, ...] = (PANDAR64,), workers: int = 1
) -> Lifted:
    """Lift one frame.

    Args:
        log: the sequence.
        frame: of it.
        cameras: that colour the points, the first that sees a point does.
        sensors: lidars whose points are taken.
        workers: threads.

    Raises:
        UserError: a table or image can't be used, or no point is left.
    """
    sweep = log.sweep(frame)
    position = log.ego_to_world[frame, :3, 3]
    far = np.hypot(*(sweep.points - position)[:, :2].T) >= EGO_RADIUS
    chosen = far & np.isin(sweep.sensors, sensors)
    if chosen.sum() <= NEIGHBOURS:
        raise UserError(f"{log.folder}: frame {frame} has {int(chosen.sum())} points of the lidars {sensors}")
    points = sweep.points[chosen]
    colors, seen = np.full((len(points), 3), 128, np.uint8), np.zeros(len(points), bool)
    for name in cameras:
        camera = log.cameras[name]
        image = read_pixels(camera.images[frame]).rgb
        pixels, _, inside = pixels_of(camera, frame, points, image.shape[1], image.shape[0])
        new = inside & ~seen
        column, row = pixels[new].astype(np.int64).T
        colors[new] = image[row, column]
        seen |= inside
    return Lifted(
        position,
        (points - position).astype(np.float32),
        colors,
        seen,
        (sweep.times[chosen] - log.lidar_times[frame]).astype(np.float32),
        neighbour_distances(points - position, workers),
        sweep.sensors[chosen],
    )


def sensors_of(lidar_sensor_id: int) -> tuple[int, ...]:
    """The lidars that an option names; -1 is both."""
    return (PANDAR64, PANDARGT) if lidar_sensor_id == -1 else (lidar_sensor_id,)


def pixels_of(
    camera: Camera, frame: int, points: np.ndarray, width: int, height: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project points [N, 3] of the world into an image.

    Returns:
        pixels [N, 2] (x, y), which mean nothing behind the camera; depths [N] (m); and which [N] are inside the image.
    """
    world_to_camera = np.linalg.inv(camera.camera_to_world[frame])
    x, y, z = world_to_camera[:3, :3] @ points.T + world_to_camera[:3, 3:]
    ahead = z > NEAR
    safe, K = np.where(ahead, z, NEAR), camera.K
    x, y = K[0, 0] * x / safe + K[0, 2], K[1, 1] * y / safe + K[1, 2]
    return np.stack([x, y], axis=1), z, ahead & (x >= 0) & (x < width) & (y >= 0) & (y < height)


def neighbour_distances(points: np.ndarray, workers: int = 1) -> np.ndarray:
    """[N] float32: mean distance of each point [N, 3] to its three nearest."""
    found, _ = cKDTree(points).query(points, NEIGHBOURS + 1, workers=workers)
    return found[:, 1:].mean(axis=1).astype(np.float32)


def thinned(points: np.ndarray, voxel_size: float) -> np.ndarray:
    """Rows of the first point in each voxel (m) of points [N, 3], in order."""
    _, first = np.unique(np.floor(points / voxel_size).astype(np.int64), axis=0, return_index=True)
    return np.sort(first)
