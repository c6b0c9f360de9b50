"""Sensors of a sample log: places, directions and times, modelled on frame 00 of PandaSet's sequence 001.

The ego frame lies at ground level, x right, y forward, z up. Azimuths are degrees clockwise from forward, as the
Pandar64 turns; times are seconds relative to the end of the frame's sweep, which `lidar/timestamps.json` tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

PERIOD = 0.1
"""Seconds between frames."""
FULL_SIZE = (1920, 1080)
_FRONT_TIME = -0.0498
"""Time at which the beam passes the front, and the front camera is triggered (s)."""

_ELEVATIONS = np.radians(
    [15, 11, 8, 5, 3, 2, *np.linspace(11 / 6, -6, 48), -7, -8, -9, -10, -11, -12, -13, -14, -19, -25]
)
_OFFSETS = np.array([1.042, 3.125, 5.208, -1.042, -3.125, -5.208])
"""Azimuth between a laser and the rotor (degrees); a laser fires this much before or after the rotor points there."""
_PANDAR64_AT = np.array([0.005, 0.429, 1.851])
_PANDARGT_AT = np.array([-0.015, 1.039, 1.558])
RANGES = ((0.5, 200.0), (8.4, 200.0))
"""Metres, nearest and farthest return of the Pandar64 and of the PandarGT."""
GT_FIELD = np.radians(30.0)
"""Half of the PandarGT's field across."""
GT_SHARE = 0.54
"""Firings of the PandarGT per firing of the Pandar64."""


@dataclass(frozen=True)
class CameraModel:
    """One camera of the vehicle."""

    name: str
    K: tuple[float, float, float, float]
    """fx, fy, cx, cy at full size, pixels; the first pixel's centre is at (0.5, 0.5)."""
    to_ego: np.ndarray
    """[4, 4]; camera axes x right, y down, z forward."""
    offset: float
    """Time of its image (s)."""
    number: int
    """Number in the column `camera_used` of cuboids."""

    def intrinsics(self, width: int, height: int) -> dict[str, float]:
        """fx, fy, cx, cy for images of another size."""
        across, down = width / FULL_SIZE[0], height / FULL_SIZE[1]
        return dict(zip(("fx", "fy", "cx", "cy"), np.array(self.K) * (across, down, across, down), strict=True))


def _front_to_ego() -> np.ndarray:
    """Return the front camera's pose in the ego frame, from PandaSet's calibration of the Pandar64 in that camera."""
    lidar_to_ego, lidar_to_camera = np.diag([-1.0, -1.0, 1.0, 1.0]), np.eye(4)
    lidar_to_ego[:3, 3] = _PANDAR64_AT
    quaternion = [0.0162132, 0.0030579, 0.7114722, -0.7025205]
    lidar_to_camera[:3, :3] = Rotation.from_quat(quaternion, scalar_first=True).as_matrix()
    lidar_to_camera[:3, 3] = 0.00026, -0.03908, -0.04401
    return lidar_to_ego @ np.linalg.inv(lidar_to_camera)


def _mounted(azimuth: float, x: float, y: float, z: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth))
    return np.array([[cos, 0, sin, x], [-sin, 0, cos, y], [0, -1, 0, z], [0, 0, 0, 1]])


def _camera(name: str, number: int, K: tuple[float, float, float, float], azimuth: float, *at: float) -> CameraModel:
    to_ego = _mounted(azimuth, *at) if at else _front_to_ego()
    return CameraModel(f"{name}_camera", K, to_ego, _FRONT_TIME + azimuth / 360 * PERIOD, number)


CAMERAS = {
    camera.name: camera
    for camera in (
        _camera("front", 1, (1970.0131, 1970.0091, 970.0002, 483.2988), 0),
        _camera("front_left", 0, (930.0, 930.0, 970.0, 508.0), -45, -0.35, 0.30, 1.75),
        _camera("front_right", 2, (930.0, 930.0, 965.0, 465.0), 45, 0.35, 0.30, 1.75),
        _camera("left", 5, (930.0, 930.0, 990.0, 540.0), -90, -0.42, -0.30, 1.72),
        _camera("right", 3, (922.5, 922.5, 945.0, 517.0), 90, 0.42, -0.30, 1.72),
        _camera("back", 4, (933.4667, 934.6754, 896.4692, 507.3557), -180, 0.037, -1.010, 1.664),
    )
}
"""Cameras by name. Front and back are PandaSet's; the other four are like them, looking where their names say."""


@dataclass(frozen=True)
class Firings:
    """Beams of one sweep in the ego frame of their own times."""

    times: np.ndarray
    """[N] seconds."""
    origin: np.ndarray
    """[3] metres."""
    directions: np.ndarray
    """[N, 3] of length 1."""


def pandar64(count: int, phase: float) -> Firings:
    """Return the beams of one turn, clockwise from the rear; `phase` (0 to 1) shifts them by part of their spacing.

    However few beams there are, they are spread over all lasers and all round.
    """
    number = np.arange(count)
    laser = number * 27 % len(_ELEVATIONS)
    turn = (number + phase) / count
    azimuth, elevation = 360 * turn - 180, _ELEVATIONS[laser]
    times = _FRONT_TIME + (azimuth - _OFFSETS[laser % len(_OFFSETS)]) / 360 * PERIOD
    return Firings(times, _PANDAR64_AT, _directions(np.radians(azimuth), elevation))


def pandargt(count: int, phase: float) -> Firings:
    """Return the beams of one scan of the forward field, in lines from its top at -55 ms to its bottom at +10 ms.

    The first lines fall before the middle of the sweep before this one: as in PandaSet, the frame has those of the
    scan that comes next, 100 ms later.
    """
    done = (np.arange(count) + phase) / count
    lines = np.sqrt(count * 22.1 / 60)
    zigzag = 4 * np.abs((done * lines / 2) % 1 - 0.5) - 1
    times = -0.055 + 0.065 * done
    times = np.where(times < -0.5 * PERIOD, times + PERIOD, times)
    return Firings(times, _PANDARGT_AT, _directions(GT_FIELD * zigzag, np.radians(7.2 - 22.1 * done)))


def azimuth_time(azimuths: np.ndarray) -> np.ndarray:
    """Return the times at which the Pandar64 looks at azimuths (radians clockwise from forward, between -π and π)."""
    return _FRONT_TIME + azimuths / (2 * np.pi) * PERIOD


def elevation_time(elevations: np.ndarray) -> np.ndarray:
    """Return the times at which the PandarGT looks at elevations (radians)."""
    return -0.055 + 0.065 * np.clip((np.radians(7.2) - elevations) / np.radians(22.1), 0.1, 1.0)


def to_world(poses: np.ndarray) -> np.ndarray:
    """[N, 4, 4] ego to world from x, y, yaw [N, 3]."""
    matrices = np.zeros((len(poses), 4, 4))
    cos, sin = np.cos(poses[:, 2]), np.sin(poses[:, 2])
    matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1] = cos, -sin, sin, cos
    matrices[:, 0, 3], matrices[:, 1, 3] = poses[:, 0], poses[:, 1]
    matrices[:, 2, 2] = matrices[:, 3, 3] = 1
    return matrices


def _directions(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    level = np.cos(elevation)
    return np.stack([level * np.sin(azimuth), level * np.cos(azimuth), np.sin(elevation)], axis=1)
