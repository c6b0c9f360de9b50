"""Paths along a street: arcs driven at a constant acceleration, with exact positions and velocities."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

STRAIGHT = 1e-9
"""Curvatures below this are none (1/m)."""


@dataclass(frozen=True)
class Path:
    """Path of a thing over time. Yaw 0 faces +y and grows counter-clockwise, as PandaSet's boxes have it."""

    x: float
    """Position at time 0, metres."""
    y: float
    yaw: float
    """Heading at time 0, radians."""
    speed: float = 0.0
    """Speed at time 0, m/s; it must be positive at all times that are asked for, or 0."""
    acceleration: float = 0.0
    """Acceleration along the path, m/s²."""
    bends: tuple[tuple[float, float], ...] = ()
    """Length (m) and curvature (1/m, positive to the left) of arcs driven from time 0; straight before and after."""

    def poses(self, times: np.ndarray) -> np.ndarray:
        """[N, 3] x, y, yaw at times [N] (s)."""
        travelled = self.speed * times + 0.5 * self.acceleration * times**2
        x, y, yaw = (np.full(len(times), value) for value in (self.x, self.y, self.yaw))
        before, rest = np.minimum(travelled, 0), np.maximum(travelled, 0)
        x, y = x - before * np.sin(yaw), y + before * np.cos(yaw)
        for length, curvature in (*self.bends, (np.inf, 0.0)):
            here = np.minimum(rest, length)
            turned = yaw + curvature * here
            if abs(curvature) < STRAIGHT:
                x, y = x - here * np.sin(yaw), y + here * np.cos(yaw)
            else:
                x = x + (np.cos(turned) - np.cos(yaw)) / curvature
                y = y + (np.sin(turned) - np.sin(yaw)) / curvature
            yaw, rest = turned, rest - here
        return np.stack([x, y, yaw], axis=1)

    def velocities(self, times: np.ndarray) -> np.ndarray:
        """[N, 3] of x and y (m/s) and of yaw (rad/s) at times [N] (s)."""
        travelled = self.speed * times + 0.5 * self.acceleration * times**2
        speed = self.speed + self.acceleration * times
        yaw, curvatures, begin = self.poses(times)[:, 2], np.zeros(len(times)), 0.0
        for length, curvature in self.bends:
            curvatures[(travelled >= begin) & (travelled < begin + length)] = curvature
            begin += length
        return np.stack([-speed * np.sin(yaw), speed * np.cos(yaw), curvatures * speed], axis=1)

    def moved(self, origin: tuple[float, float], turn: float) -> Path:
        """Return the same path, shifted so that `origin` becomes the origin, then turned about it (radians)."""
        x, y = turned((self.x - origin[0], self.y - origin[1]), turn)
        return replace(self, x=x, y=y, yaw=self.yaw + turn)


def turned(point: tuple[float, float], angle: float) -> tuple[float, float]:
    """A point of the plane, turned about the origin, counter-clockwise."""
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return cos * point[0] - sin * point[1], sin * point[0] + cos * point[1]


def in_frame(points: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Points [N, 3] in the frames of x, y, yaw [N, 3]."""
    cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    x, y = points[:, 0] - poses[:, 0], points[:, 1] - poses[:, 1]
    return np.stack([cos * x + sin * y, cos * y - sin * x, points[:, 2]], axis=1)
