"""Things with a box in a sample log: vehicles, people and cones, each a few solids in a frame of its own.

The frame has x right, y forward, z up from the ground, as PandaSet's boxes have width, length and height.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.random import Generator

from splatdag.samples import street_textures as textures
from splatdag.samples.scene import Solid
from splatdag.samples.solids import BOX, FRUSTUM, SPHERE
from splatdag.samples.street_paths import Path, turned
from splatdag.samples.textures import Colour

PAINTS: tuple[Colour, ...] = (
    (0.72, 0.72, 0.71), (0.16, 0.17, 0.19), (0.55, 0.10, 0.11), (0.15, 0.24, 0.44), (0.86, 0.85, 0.82),
    (0.40, 0.43, 0.45), (0.24, 0.36, 0.28), (0.80, 0.62, 0.20),
)  # fmt: skip
_MARGIN = 0.03
"""Metres that a box is larger than its thing on all sides."""


@dataclass(frozen=True)
class Thing:
    """One object with its place over time. An empty label is the ego vehicle, which has no box."""

    label: str
    parts: tuple[Solid, ...]
    path: Path

    @property
    def parked(self) -> bool:
        """Tell whether it never moves."""
        return self.path.speed == 0

    @cached_property
    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner [3] of its box, in its own frame; x and y are symmetric."""
        corners = np.array([bounds(part) for part in self.parts])
        lowest, highest = corners[:, 0].min(axis=0) - _MARGIN, corners[:, 1].max(axis=0) + _MARGIN
        half = np.maximum(-lowest, highest)[:2]
        return np.array([*-half, lowest[2]]), np.array([*half, highest[2]])

    def placed(self) -> list[Solid]:
        """Return its solids in the world, where it is at time 0."""
        return [moved(part, (self.path.x, self.path.y), self.path.yaw) for part in self.parts]


def moved(solid: Solid, to: tuple[float, float], turn: float) -> Solid:
    """A solid turned about the origin, then shifted."""
    x, y = turned(solid.centre[:2], turn)
    return replace(solid, centre=(x + to[0], y + to[1], solid.centre[2]), turn=solid.turn + turn)


def bounds(solid: Solid) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner [3] around a solid."""
    a, b, c = solid.size
    if solid.kind == BOX:
        cos, sin = abs(np.cos(solid.turn)), abs(np.sin(solid.turn))
        half = np.array([cos * a + sin * b, sin * a + cos * b, c])
    else:
        half = np.array([a, a, a]) if solid.kind == SPHERE else np.array([max(a, b), max(a, b), c])
    return np.array(solid.centre) - half, np.array(solid.centre) + half


class Garage:
    """Makes vehicles and people; a few sets of skins serve them all."""

    def __init__(self, rng: Generator) -> None:
        self.cars = [self._skins(rng, paint, 4.6, 0.68, 0.52) for paint in PAINTS]
        self.buses = [self._skins(rng, paint, 11.0, 1.5, 1.1) for paint in PAINTS[2:5]]
        self.rubber = textures.plaster(rng, (30, 60), (0.10, 0.10, 0.11), 0.2)
        self.clothes = [textures.cloth(rng, textures.pick(rng, textures.CLOTH)) for _ in range(8)]
        tones: tuple[Colour, ...] = ((0.80, 0.62, 0.50), (0.52, 0.36, 0.27), (0.90, 0.74, 0.62))
        self.faces = [textures.plaster(rng, (30, 60), tone, 0.10) for tone in tones]
        self.cone = textures.plaster(rng, (40, 80), (0.86, 0.34, 0.12), 0.08)
        self.cone[12:22] = (0.9, 0.9, 0.88)

    def _skins(self, rng: Generator, paint: Colour, length: float, body: float, cabin: float) -> dict[str, np.ndarray]:
        panes = 3 if length < 6 else 8
        return {
            **textures.vehicle(rng, length, body, paint),
            "windows": textures.windows(rng, 0.5 * length, cabin, paint, panes),
            "screen": textures.windows(rng, 1.5, cabin, paint, 1),
            "roof": textures.plaster(rng, (100, 80), paint, 0.06),
        }

    def car(self, rng: Generator, path: Path) -> Thing:
        """A car or a pickup truck."""
        width, length = rng.uniform(1.76, 1.96), rng.uniform(4.2, 4.9)
        skins, pickup = self.cars[int(rng.integers(len(self.cars)))], rng.random() < 0.2
        base, belt, roof = 0.24, rng.uniform(0.88, 0.98), rng.uniform(1.42, 1.62) + 0.22 * pickup
        centre, half = (0.55, 0.95) if pickup else (-0.25, 1.18)
        label = "Pickup Truck" if pickup else "Car"
        parts = (
            *self._body(label, skins, width, length, base, belt),
            *self._cabin(label, skins, 0.43 * width, centre, half, belt, roof),
        )
        return Thing(label, parts, path)

    def bus(self, rng: Generator, path: Path) -> Thing:
        skins = self.buses[int(rng.integers(len(self.buses)))]
        parts = (
            *self._body("Bus", skins, 2.55, 11.0, 0.30, 1.55),
            *self._cabin("Bus", skins, 1.25, 0.0, 5.45, 1.55, 3.05),
        )
        return Thing("Bus", parts, path)

    def _body(
        self, label: str, skins: dict[str, np.ndarray], width: float, length: float, base: float, belt: float
    ) -> Iterable[Solid]:
        middle, half = (base + belt) / 2, (belt - base) / 2
        faces = (*2 * (skins["side"],), skins["back"], skins["front"], *2 * (skins["top"],))
        yield Solid(label, BOX, (0, 0, middle), (width / 2, length / 2, half), faces)
        for x in (-1, 1):
            for y in (-0.31, 0.31):
                at = (x * (width / 2 - 0.28), y * length, 0.33)
                yield Solid(label, SPHERE, at, (0.33,) * 3, (self.rubber,))

    @staticmethod
    def _cabin(
        label: str, skins: dict[str, np.ndarray], half_width: float, y: float, half: float, belt: float, roof: float
    ) -> Iterable[Solid]:
        """Two boxes, the lower one longer, for windscreens that slope."""
        step = belt + 0.5 * (roof - belt)
        sides, screens = 2 * (skins["windows"],), 2 * (skins["screen"],)
        faces = (*sides, *screens, *2 * (skins["roof"],))
        for low, high, longer in ((belt, step, 0.32 * (half < 3)), (step, roof, 0.0)):
            size = (half_width - 0.02 * (longer == 0), half + longer, (high - low) / 2)
            yield Solid(label, BOX, (0, y + 0.2 * longer, (low + high) / 2), size, faces)

    def pedestrian(self, rng: Generator, path: Path, ground: float) -> Thing:
        """Somebody in mid-stride who stands or walks `ground` metres above the road."""
        tall = rng.uniform(1.60, 1.90)
        coat, trousers = (self.clothes[int(i)] for i in rng.choice(len(self.clothes), 2, replace=False))
        face = (self.faces[int(rng.integers(len(self.faces)))],)
        hip, neck = 0.50 * tall, 0.84 * tall
        stride = 0.0 if path.speed == 0 else 0.17
        parts = []
        for x in (-1, 1):
            leg = (0.10 * x, stride * x, ground + hip / 2)
            parts.append(Solid("Pedestrian", FRUSTUM, leg, (0.065, 0.095, hip / 2), (trousers,)))
            arm = (0.25 * x, -0.8 * stride * x, ground + 0.63 * tall)
            parts.append(Solid("Pedestrian", FRUSTUM, arm, (0.045, 0.06, 0.17 * tall), (coat,)))
        chest = (0, 0, ground + (hip + neck) / 2)
        parts.append(Solid("Pedestrian", FRUSTUM, chest, (0.17, 0.21, (neck - hip) / 2), (coat,)))
        parts.append(Solid("Pedestrian", SPHERE, (0, 0.02, ground + 0.93 * tall), (0.115,) * 3, face))
        return Thing("Pedestrian", tuple(parts), path)

    def traffic_cone(self, path: Path) -> Thing:
        parts = (
            Solid("Cones", BOX, (0, 0, 0.02), (0.19, 0.19, 0.02), (self.rubber,)),
            Solid("Cones", FRUSTUM, (0, 0, 0.38), (0.15, 0.03, 0.34), (self.cone,)),
        )
        return Thing("Cones", parts, path)

    def ego(self, path: Path) -> Thing:
        """The recording vehicle: its rear end is what the back camera and the lowest lasers see of it."""
        skins = self.cars[0]
        faces = (*2 * (skins["side"],), skins["back"], skins["front"], *2 * (skins["top"],))
        glass = (*2 * (skins["windows"],), *2 * (skins["screen"],), *2 * (skins["roof"],))
        parts = (
            Solid("", BOX, (0, 0.3, 0.62), (0.96, 2.5, 0.34), faces),
            Solid("", BOX, (0, -0.25, 1.22), (0.80, 1.20, 0.26), glass),
        )
        return Thing("", parts, path)
