"""The annotated boxes of a sample log."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from splatdag.samples import street_sensors as sensors
from splatdag.samples.street_paths import in_frame
from splatdag.samples.street_scene import World
from splatdag.samples.street_things import Thing

ANNOTATED = 120.0
"""Metres from the vehicle within which things have boxes."""
_VEHICLES = ("Car", "Pickup Truck", "Bus")
_NUMBERS = ("yaw", "position.x", "position.y", "position.z", "dimensions.x", "dimensions.y", "dimensions.z")
_COLUMNS = (
    "uuid", "label", "yaw", "stationary", "camera_used", *_NUMBERS[1:], "attributes.object_motion",
    "cuboids.sibling_id", "cuboids.sensor_id", "attributes.pedestrian_behavior", "attributes.pedestrian_age",
    "attributes.rider_status",
)  # fmt: skip
_NONE = float("nan")


def identities(rng: Generator, count: int) -> list[tuple[str, str]]:
    """Draw two ids for each thing: of its box, and of the PandarGT's box where it has one of each lidar."""
    ids = [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(2 * count)]
    return list(zip(ids[::2], ids[1::2], strict=True))


def cuboids(world: World, ids: Sequence[tuple[str, str]], time: float) -> dict[str, Any]:
    """The columns of the table of boxes of the frame whose sweep ends at `time` (s).

    A box lies where its thing is when a lidar looks at its middle. What moves in the field of both lidars has two
    boxes, each the other's sibling; they come last.
    """
    alone, spinning, forward = [], [], []
    for (own, second), thing in zip(ids, world.things, strict=True):
        x, y, _ = _in_ego(world, thing, np.array([time]))[0]
        if np.hypot(x, y) > ANNOTATED:
            continue
        looked = _when(world, thing, time, lambda x, y, z: sensors.azimuth_time(np.arctan2(x, y)))
        if thing.parked or y < sensors.RANGES[1][0] or abs(np.arctan2(x, y)) > sensors.GT_FIELD:
            alone.append(_row(world, thing, time, looked, own, "-", -1))
        else:
            spinning.append(_row(world, thing, time, looked, own, second, 0))
            looked = _when(world, thing, time, lambda x, y, z: sensors.elevation_time(np.arctan2(z - 1.5, y)))
            forward.append(_row(world, thing, time, looked, second, own, 1))
    rows = [*alone, *spinning, *forward]
    table: dict[str, Any] = {name: [row[name] for row in rows] for name in _COLUMNS}
    table |= {name: np.array(table[name], dtype=np.float64) for name in _NUMBERS}
    table |= {name: np.array(table[name], dtype=np.int64) for name in ("camera_used", "cuboids.sensor_id")}
    return table | {"stationary": np.array(table["stationary"], dtype=bool)}


def _when(world: World, thing: Thing, time: float, looks: Callable[[float, float, float], Any]) -> float:
    """Return the time at which a lidar sees the middle of a thing, which depends on where it is then."""
    seen = time
    for _ in range(0 if thing.parked else 3):
        seen = time + float(looks(*_in_ego(world, thing, np.array([seen]))[0]))
    return seen


def _in_ego(world: World, thing: Thing, times: np.ndarray) -> np.ndarray:
    """The middle of a thing [N, 3] in the ego frame of the same times [N] (s)."""
    lowest, highest = thing.extent
    middles = thing.path.poses(times)
    middles[:, 2] = 0.5 * (lowest[2] + highest[2])
    return in_frame(middles, world.ego.poses(times))


def _row(world: World, thing: Thing, time: float, looked: float, own: str, sibling: str, sensor: int) -> dict[str, Any]:
    x, y, yaw = thing.path.poses(np.array([looked]))[0]
    lowest, highest = thing.extent
    person = thing.label == "Pedestrian"
    motion = ("Parked" if thing.parked else "Moving") if thing.label in _VEHICLES else _NONE
    values = (
        own, thing.label, round((yaw + np.pi) % (2 * np.pi) - np.pi, 6), thing.parked, _camera(world, thing, time),
        *np.round([x, y, 0.5 * (lowest[2] + highest[2]), *(highest - lowest)], 3).tolist(), motion,
        sibling, sensor, ("Standing" if thing.parked else "Walking") if person else _NONE,
        "Adult" if person else _NONE, _NONE,
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))


def _camera(world: World, thing: Thing, time: float) -> int:
    """Number of a camera that has the middle of the thing in its image, or -1."""
    cameras = list(sensors.CAMERAS.values())
    middles = _in_ego(world, thing, np.array([time + camera.offset for camera in cameras]))
    for camera, middle in zip(cameras, middles, strict=True):
        x, y, z = (middle - camera.to_ego[:3, 3]) @ camera.to_ego[:3, :3]
        fx, fy, cx, cy = camera.K
        if z > 0.1 and 0 <= fx * x / z + cx < sensors.FULL_SIZE[0] and 0 <= fy * y / z + cy < sensors.FULL_SIZE[1]:
            return camera.number
    return -1
