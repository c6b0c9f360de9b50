"""Recording of the vehicle's sensors in one frame of a sample log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from splatdag.samples import street_sensors as sensors
from splatdag.samples.photography import developed, jpeg
from splatdag.samples.street_render import measure, photograph
from splatdag.samples.street_scene import CLASSES, World
from splatdag.samples.street_sensors import CameraModel, Firings

EXPOSURE = 0.62
SENSOR_NOISE = 0.8 / 255
RANGE_NOISE = 0.01
"""Metres, standard deviation of a measured distance."""
_FAINTEST = 2e-7
"""Brightness times squareness per square metre of distance below which nothing comes back."""
_PAINT = 0.30
"""Brightness from which the road counts as marking."""
_ROAD, _MARKING = CLASSES.index("Road") + 1, CLASSES.index("Lane Line Marking") + 1


@dataclass(frozen=True)
class Points:
    """The lidar points of a frame: first the Pandar64's, then the PandarGT's."""

    xyz: np.ndarray
    """[N, 3] world, metres."""
    intensities: np.ndarray
    """[N] 0 to 255."""
    times: np.ndarray
    """[N] seconds since the start of the log."""
    sensors: np.ndarray
    """[N] int64, 0 or 1."""
    things: np.ndarray
    """[N] int16: index of the thing that was hit, -1 for none."""
    classes: np.ndarray
    """[N] int64: semantic class."""


def sweep(world: World, time: float, firings: int, rng: Generator) -> Points:
    """The points of both lidars in the frame that ends at `time` (s), from so many firings of the Pandar64."""
    forward = round(sensors.GT_SHARE * firings)
    found = [
        _returns(world, number, beams, time, rng)
        for number, beams in enumerate(
            (sensors.pandar64(firings, rng.random()), sensors.pandargt(forward, rng.random()))
        )
    ]
    return Points(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _returns(world: World, sensor: int, beams: Firings, time: float, rng: Generator) -> tuple[np.ndarray, ...]:
    times = time + beams.times
    pose = sensors.to_world(world.ego.poses(times))
    origins = pose[:, :3, :3] @ beams.origin + pose[:, :3, 3]
    directions = np.einsum("nij,nj->ni", pose[:, :3, :3], beams.directions)
    ranges, hits = np.empty(len(times)), np.empty((len(times), 2), np.int64)
    returned = np.empty((len(times), 2))
    measure(world.street, world.poses(times), origins, directions, ranges, hits, returned)

    nearest, farthest = sensors.RANGES[sensor]
    strength = returned[:, 0] * returned[:, 1] / np.minimum(ranges, 1e6) ** 2
    back = (hits[:, 0] >= 0) & (ranges > nearest) & (ranges < farthest) & (strength > _FAINTEST)
    ranges = ranges + RANGE_NOISE * rng.standard_normal(len(ranges))
    points = origins + np.where(back, ranges, 0.0)[:, None] * directions
    classes = world.classes[hits[:, 0]]
    classes = np.where((classes == _ROAD) & (returned[:, 0] > _PAINT), _MARKING, classes)
    intensities = np.rint(255 * np.clip(1.2 * returned[:, 0] * np.sqrt(returned[:, 1]), 0, 1))
    things = world.owners[hits[:, 0]]
    columns = (points, intensities, times, np.full(len(times), sensor), things, classes)
    return tuple(column[back] for column in columns)


def image(world: World, camera: CameraModel, time: float, size: tuple[int, int], rng: Generator) -> bytes:
    """The JPEG that a camera takes in the frame that ends at `time` (s), width and height in pixels."""
    at = np.array([time + camera.offset])
    linear = np.empty((size[1], size[0], 3), np.float32)
    K = np.array(list(camera.intrinsics(*size).values()))
    photograph(world.street, world.poses(at)[0], camera_pose(world, camera, at)[0], K, linear)
    return jpeg(developed(linear, EXPOSURE, SENSOR_NOISE, rng))


def camera_pose(world: World, camera: CameraModel, times: np.ndarray) -> np.ndarray:
    """[F, 4, 4] camera to world at times [F] (s)."""
    return sensors.to_world(world.ego.poses(times)) @ camera.to_ego
