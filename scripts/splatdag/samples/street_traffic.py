"""Traffic of a sample log, in metres and seconds; the main road along +y, a cross road along x."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from splatdag.samples.street_paths import Path
from splatdag.samples.street_things import Garage, Thing

LANES = (1.6, 4.8)
"""Middle of the lanes, from the middle of a road; one drives on the right."""
HALF_ROAD = 8.8
PAVEMENT = (HALF_ROAD, 12.6)
KERB_HEIGHT = 0.12
_PARKED_AT = 7.65
_CLEARANCE = 0.15


def ego_path(rng: Generator, duration: float, turns: bool) -> tuple[Path, float]:
    """Draw the path of the recording vehicle; returns it, and how far ahead the middle of the crossing lies (m)."""
    if not turns:
        speed = rng.uniform(9.0, 12.0)
        return Path(LANES[0], 0.0, 0.0, speed, rng.uniform(-0.2, 0.3)), rng.uniform(30, 55)
    speed, left = 8.0, rng.random() < 0.5
    radius = 18.0 if left else 14.0
    before = speed * min(1.2, 0.2 * duration)
    bends = ((before, 0.0), (radius * np.pi / 2, (1 if left else -1) / radius))
    crossing = before + radius + (-LANES[0] if left else LANES[0])
    return Path(LANES[0], 0.0, 0.0, speed, 0.0, bends), crossing


def traffic(rng: Generator, garage: Garage, ego: Path, crossing: float, duration: float) -> list[Thing]:
    """Make everything with a box: what moves without ever touching anything, and what is parked."""
    driven = ego.speed * duration
    things = [garage.ego(ego), *_parked(rng, garage, crossing, driven)]
    for candidate in _candidates(rng, garage, ego, crossing, duration):
        if not any(_touch(candidate, other, duration) for other in things):
            things.append(candidate)
    return things[1:]


def _candidates(rng: Generator, garage: Garage, ego: Path, crossing: float, duration: float) -> Iterator[Thing]:
    inner, outer = LANES
    driven = ego.speed * duration
    v = ego.speed
    yield garage.car(rng, Path(inner, rng.uniform(13, 18), 0, v + rng.uniform(0, 1.5), rng.uniform(-0.3, 0.6)))
    yield garage.car(rng, Path(outer, rng.uniform(5, 10), 0, v + rng.uniform(0.5, 2.5)))
    yield garage.car(rng, Path(-inner, rng.uniform(22, 32), np.pi, rng.uniform(8, 12)))
    # one from ahead that turns left across the road, one from the cross road that turns right into it
    before = rng.uniform(2, 8)
    start = crossing + 16 - inner + before
    left = ((before, 0.0), (8 * np.pi, 1 / 16))
    yield garage.car(rng, Path(-inner, start, np.pi, rng.uniform(5, 7), rng.uniform(0, 0.6), left))
    before = rng.uniform(1, 6)
    right = ((before, 0.0), (5 * np.pi, -1 / 10))
    start = outer + 10 + before
    yield garage.car(rng, Path(start, crossing + outer, np.pi / 2, rng.uniform(4, 6), rng.uniform(0, 0.6), right))
    yield garage.car(rng, Path(-rng.uniform(14, 30), crossing - inner, -np.pi / 2, 3.0, rng.uniform(0.8, 1.6)))
    yield garage.car(rng, Path(rng.uniform(12, 40), crossing + inner, np.pi / 2, rng.uniform(7, 10)))
    yield garage.bus(rng, Path(-outer, rng.uniform(40, 60 + driven), np.pi, rng.uniform(7, 9)))
    for _ in range(2 + round(duration)):
        yield garage.car(
            rng, Path(-LANES[int(rng.integers(2))], rng.uniform(20, 60 + 2 * driven), np.pi, rng.uniform(8, 13))
        )
        yield garage.car(rng, Path(outer, rng.uniform(-30, 40 + driven), 0, rng.uniform(7, 12), rng.uniform(-0.3, 0.5)))
    side = 1 if rng.random() < 0.5 else -1
    yield garage.pedestrian(rng, Path(side * 6.5, crossing + 10.2, side * np.pi / 2, rng.uniform(1.3, 1.5)), 0.0)
    yield garage.pedestrian(rng, Path(-11.0, crossing - 6.0, 0, rng.uniform(1.3, 1.5)), 0.0)
    yield garage.pedestrian(rng, Path(rng.uniform(9.6, 10.2), rng.uniform(9, 13), np.pi, 1.4), KERB_HEIGHT)
    for _ in range(6 + round(duration)):
        x, y = rng.uniform(9.5, 12.0) * rng.choice((-1, 1)), rng.uniform(8, 45 + driven)
        yaw, speed = np.pi * rng.integers(2), rng.uniform(1.1, 1.6) * (rng.random() < 0.85)
        if abs(y - crossing) > HALF_ROAD + 2 + speed * duration:
            yield garage.pedestrian(rng, Path(x, y, yaw, speed), KERB_HEIGHT)


def _parked(rng: Generator, garage: Garage, crossing: float, driven: float) -> Iterator[Thing]:
    for side in (-1, 1):
        y = -60.0 + rng.uniform(0, 8)
        while y < crossing + driven + 90:
            if abs(y - crossing) > 22 and rng.random() < 0.7:
                yaw = (0.0 if side > 0 else np.pi) + rng.normal(0, 0.015)
                yield garage.car(rng, Path(side * (_PARKED_AT + rng.normal(0, 0.06)), y, yaw))
            y += rng.uniform(5.6, 7.5)
        for x in np.arange(30, 90, 7.0):
            if rng.random() < 0.5:
                yield garage.car(rng, Path(side * x, crossing - side * _PARKED_AT, -side * np.pi / 2))
    at = crossing + 24 + rng.uniform(0, 10)
    for number in range(5):
        yield garage.traffic_cone(Path(HALF_ROAD - 2.4 - 0.1 * number, at + 2.2 * number, rng.uniform(0, 1)))


def _touch(one: Thing, other: Thing, duration: float) -> bool:
    """Tell whether two things come closer than a hand's breadth at any time of the log."""
    times = np.arange(-0.2, duration + 0.2, 0.1)
    (first, one_radius), (second, other_radius) = _discs(one, times), _discs(other, times)
    gaps = np.linalg.norm(first[:, :, None] - second[:, None, :], axis=-1)
    return bool(gaps.min() < one_radius + other_radius + _CLEARANCE)


def _discs(thing: Thing, times: np.ndarray) -> tuple[np.ndarray, float]:
    """Centres [T, D, 2] of discs that cover a thing from above, and their radius."""
    _, (width, length, _) = thing.extent
    along = np.linspace(-1, 1, max(round(length / width), 1)) * max(length - width, 0)
    x, y, yaw = thing.path.poses(times).T[..., None]
    return np.stack([x - along * np.sin(yaw), y + along * np.cos(yaw)], axis=-1), float(np.hypot(width, 0.5 * width))
