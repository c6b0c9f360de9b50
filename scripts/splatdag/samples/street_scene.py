"""Streets of the sample logs and the things along them, put together for the ray tracer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from splatdag.samples import street_textures as textures
from splatdag.samples.scene import Solid, pack
from splatdag.samples.solids import BOX, FRUSTUM, SPHERE
from splatdag.samples.street_paths import Path, turned
from splatdag.samples.street_render import Street, tree
from splatdag.samples.street_things import Garage, Thing, bounds, moved
from splatdag.samples.street_traffic import HALF_ROAD, KERB_HEIGHT, LANES, PAVEMENT, ego_path, traffic

CLASSES = (
    "Smoke", "Exhaust", "Spray or rain", "Reflection", "Vegetation", "Ground", "Road", "Lane Line Marking",
    "Stop Line Marking", "Other Road Marking", "Sidewalk", "Driveway", "Car", "Pickup Truck", "Medium-sized Truck",
    "Semi-truck", "Towed Object", "Motorcycle", "Other Vehicle - Construction Vehicle", "Other Vehicle - Uncommon",
    "Other Vehicle - Pedicab", "Emergency Vehicle", "Bus", "Personal Mobility Device", "Motorized Scooter", "Bicycle",
    "Train", "Trolley", "Tram / Subway", "Pedestrian", "Pedestrian with Object", "Animals - Bird", "Animals - Other",
    "Pylons", "Road Barriers", "Signs", "Cones", "Construction Signs", "Temporary Construction Barriers",
    "Rolling Containers", "Building", "Other Static Object",
)  # fmt: skip
"""PandaSet's classes, from 1; solids are named after them. 0 is undefined, as the recording vehicle is."""
_STOREY = 3.3
_ROAD_PIECE = 30.0
_FAR = 900.0


@dataclass(frozen=True)
class World:
    """Everything a log is recorded from."""

    street: Street
    bodies: list[Thing]
    """Things that move, in the order of `Street.bodies`; the recording vehicle first."""
    things: list[Thing]
    """Things with a box."""
    owners: np.ndarray
    """[P] int16: index in `things` of what a solid belongs to, -1 for none."""
    classes: np.ndarray
    """[P] int64: semantic class of a solid, from 1; 0 for none."""

    @property
    def ego(self) -> Path:
        """Path of the recording vehicle."""
        return self.bodies[0].path

    def poses(self, times: np.ndarray) -> np.ndarray:
        """[N, A, 4] x, y, cosine and sine of the yaw of all bodies at times [N] (s)."""
        x, y, yaw = np.stack([body.path.poses(times) for body in self.bodies], axis=1).transpose(2, 0, 1)
        return np.stack([x, y, np.cos(yaw), np.sin(yaw)], axis=-1)


class Materials:
    """Textures that the streets of all logs share."""

    def __init__(self, rng: Generator) -> None:
        self.road = textures.road(rng, (0.5 * sum(LANES), 6.45), HALF_ROAD, _ROAD_PIECE)
        self.crossing = textures.crossing(rng, HALF_ROAD)
        self.slabs = textures.slabs(rng, PAVEMENT[1] - PAVEMENT[0], 12.0)
        self.lawn = textures.lawn(rng)
        self.facades = [(n, textures.facade(rng, 14.0, n, _STOREY)) for n in (2, 2, 3, 3, 3, 4, 4, 5, 6)]
        self.roof = textures.slabs(rng, 6.0, 6.0)
        self.trim = textures.plaster(rng, (40, 200), (0.74, 0.71, 0.66), 0.10)
        self.awnings = [textures.cloth(rng, ink) for ink in textures.INKS[:6]]
        self.sky = textures.sky(rng)
        self.leaves = [textures.foliage(rng) for _ in range(3)]
        self.bark = textures.bark(rng)
        self.metals = [textures.metal(rng) for _ in range(3)]
        self.signs = [textures.sign(rng) for _ in range(5)]
        self.garage = Garage(rng)


def build(rng: Generator, materials: Materials, duration: float, turns: bool) -> World:
    """A street with its traffic, from 0 to `duration` seconds; at time 0 the recording vehicle stands at the origin."""
    ego, crossing = ego_path(rng, duration, turns)
    heading = rng.uniform(-np.pi, np.pi)
    things = [
        replace(thing, path=thing.path.moved((ego.x, ego.y), heading))
        for thing in traffic(rng, materials.garage, ego, crossing, duration)
    ]
    shift = turned((-ego.x, -ego.y), heading)
    still = [moved(solid, shift, heading) for solid in _surroundings(rng, materials, crossing, ego.speed * duration)]
    owners = [-1] * len(still)
    for index, thing in enumerate(things):
        if thing.parked:
            still += thing.placed()
            owners += [index] * len(thing.parts)
    corners = np.array([bounds(solid) for solid in still])
    order, boxes, nodes = tree(corners[:, 0], corners[:, 1])
    solids, owners = [still[i] for i in order], [owners[i] for i in order]

    moving = {index: thing for index, thing in enumerate(things) if not thing.parked}
    bodies = {-1: materials.garage.ego(ego.moved((ego.x, ego.y), heading)), **moving}
    spans, spheres = [], []
    for index, body in bodies.items():
        lowest, highest = body.extent
        spans.append((len(solids), len(solids) + len(body.parts)))
        spheres.append((0.5 * (lowest[2] + highest[2]), 0.5 * np.linalg.norm(highest - lowest)))
        solids += body.parts
        owners += [index] * len(body.parts)
    solids.append(Solid("", SPHERE, (0, 0, 0), (1, 1, 1), (materials.sky,)))

    street = Street(pack(solids), boxes, nodes, np.array(spans), np.array(spheres), _sun(rng))
    numbers = {"": 0} | {name: number for number, name in enumerate(CLASSES, start=1)}
    classes = np.array([numbers[solid.name] for solid in solids])
    return World(street, list(bodies.values()), things, np.array([*owners, -1], np.int16), classes)


def _sun(rng: Generator) -> np.ndarray:
    height, azimuth = np.radians(rng.uniform(38, 60)), rng.uniform(-np.pi, np.pi)
    return np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])


def _surroundings(rng: Generator, materials: Materials, crossing: float, driven: float) -> Iterator[Solid]:
    """The ground, a crossing with four arms of road and what stands along them, and a skyline."""
    yield Solid("Ground", BOX, (0, 0, -0.53), (_FAR, _FAR, 0.5), (materials.lawn,), tile=(40.0, 40.0))
    at = (0.0, crossing)
    yield Solid("Road", BOX, (0, crossing, -0.25), (HALF_ROAD, HALF_ROAD, 0.25), (materials.crossing,))
    for turn, length in ((0, 150 + driven), (1, 130), (2, crossing + 110), (3, 130)):
        for solid in _arm(rng, materials, length):
            yield moved(solid, at, turn * np.pi / 2)
    for angle in np.arange(0, 2 * np.pi, 0.13):
        far, (_, front) = rng.uniform(230, 420) + driven, materials.facades[int(rng.integers(len(materials.facades)))]
        x, y = far * np.cos(angle), crossing + far * np.sin(angle)
        half = (rng.uniform(12, 30), rng.uniform(12, 30), rng.uniform(6, 26))
        yield Solid("Building", BOX, (x, y, half[2]), half, (front,), angle, tile=(14.0, 12.0))


def _arm(rng: Generator, materials: Materials, length: float) -> Iterator[Solid]:
    """A road along +y from the crossing, with pavements, houses, trees, lamps and signs on both sides."""
    middle, half = HALF_ROAD + length / 2, length / 2
    piece = (2 * HALF_ROAD, _ROAD_PIECE)
    yield Solid("Road", BOX, (0, middle, -0.25), (HALF_ROAD, half, 0.25), (materials.road,), tile=piece)
    across = (PAVEMENT[1] - PAVEMENT[0]) / 2
    for side in (-1, 1):
        x = side * (PAVEMENT[0] + across)
        size = (across, half, 0.2 + KERB_HEIGHT / 2)
        centre = (x, middle, KERB_HEIGHT / 2 - 0.2)
        yield Solid("Sidewalk", BOX, centre, size, (materials.slabs,), tile=(2 * across, 12.0))
        yield from _houses(rng, materials, side, length)
        yield from _furniture(rng, materials, side, length)


def _houses(rng: Generator, materials: Materials, side: int, length: float) -> Iterator[Solid]:
    y = PAVEMENT[1] + 0.6
    while y < HALF_ROAD + length:
        storeys, front = materials.facades[int(rng.integers(len(materials.facades)))]
        wide, deep, height = rng.choice((10.0, 14.0, 14.0, 18.0)), rng.uniform(9, 14), storeys * _STOREY
        x = side * (PAVEMENT[1] + 0.3 + rng.uniform(0, 1.5) + deep / 2)
        skins = (*4 * (front,), materials.roof, materials.roof)
        size = (deep / 2, wide / 2, height / 2)
        yield Solid("Building", BOX, (x, y + wide / 2, height / 2), size, skins, tile=(14.0, max(height, 1.0)))
        ledge = (deep / 2 + 0.25, wide / 2 + 0.1, 0.22)
        yield Solid("Building", BOX, (x, y + wide / 2, height + 0.1), ledge, (materials.trim,), tile=(5.0, 1.0))
        if rng.random() < 0.5:
            awning = (materials.awnings[int(rng.integers(len(materials.awnings)))],)
            at = (x - side * (deep / 2 + 0.5), y + rng.uniform(0.3, 0.7) * wide, 2.75)
            yield Solid("Building", BOX, at, (0.55, rng.uniform(1.2, 2.4), 0.12), awning)
        y += wide + (rng.uniform(0.1, 0.4) if rng.random() < 0.7 else rng.uniform(3, 9))


def _furniture(rng: Generator, materials: Materials, side: int, length: float) -> Iterator[Solid]:
    """Trees and lamps in turn along the kerb, and between them signs, bins and hydrants."""
    x, y, number = side * 9.35, PAVEMENT[1] + 3.0, int(rng.integers(4))
    while y < HALF_ROAD + length - 3:
        metal = (materials.metals[int(rng.integers(len(materials.metals)))],)
        if number % 4 == 3:
            yield Solid("Other Static Object", FRUSTUM, (x, y, 3.6), (0.10, 0.06, 3.6), metal)
            yield Solid("Other Static Object", BOX, (x - side * 1.1, y, 7.2), (1.2, 0.06, 0.05), metal)
            yield Solid("Other Static Object", BOX, (x - side * 2.2, y, 7.15), (0.35, 0.14, 0.07), metal)
        else:
            yield from _tree(rng, materials, x, y)
        match int(rng.integers(5)):
            case 0:
                yield Solid("Signs", FRUSTUM, (x, y + 3, 1.3), (0.04, 0.04, 1.3), metal)
                board = (materials.signs[int(rng.integers(len(materials.signs)))],)
                yield Solid("Signs", BOX, (x, y + 3, 2.45), (0.36, 0.02, 0.36), board)
            case 1:
                yield Solid("Other Static Object", FRUSTUM, (x, y + 2.5, 0.6), (0.26, 0.31, 0.5), metal)
            case 2:
                red = (materials.awnings[0],)
                yield Solid("Other Static Object", FRUSTUM, (x, y + 3.4, 0.45), (0.16, 0.13, 0.34), red)
                yield Solid("Other Static Object", SPHERE, (x, y + 3.4, 0.82), (0.14,) * 3, red)
            case 3:
                box = (materials.signs[int(rng.integers(len(materials.signs)))],)
                at = (side * 12.0, y + 2.2, 0.75)
                yield Solid("Other Static Object", BOX, at, (0.3, 0.45, 0.65), box, turn=rng.normal(0, 0.1))
        y, number = y + rng.uniform(6.5, 9.5), number + 1


def _tree(rng: Generator, materials: Materials, x: float, y: float) -> Iterator[Solid]:
    trunk, wide = rng.uniform(2.2, 3.4), rng.uniform(1.1, 1.8)
    leaves = (materials.leaves[int(rng.integers(len(materials.leaves)))],)
    yield Solid("Vegetation", FRUSTUM, (x, y, trunk / 2), (0.17, 0.11, trunk / 2), (materials.bark,))
    for _ in range(4):
        dx, dy, dz = rng.normal(0, 0.45 * wide, 3)
        size = wide * rng.uniform(0.55, 0.9)
        at = (x + dx, y + dy, trunk + 0.7 * wide + abs(dz))
        yield Solid("Vegetation", SPHERE, at, (size,) * 3, leaves, turn=rng.uniform(0, 6))
