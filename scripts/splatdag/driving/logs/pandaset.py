"""PandaSet logs on disk, real or made by `splatdag.samples`: metadata first, tables and images when asked for.

World coordinates are metres as in the files, z up, with the ego vehicle's first position as origin; all poses are
sensor to world. Axes of cameras: x right, y down, z forward. Times are seconds since 1970, as float64.
Formats and their pitfalls: https://github.com/scaleapi/pandaset-devkit and its issues.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from splatdag.driving.logs.folders import CAMERAS, CUBOIDS, IMAGES, SEMSEG, TABLES, by_frame, log_names
from splatdag.driving.logs.json_files import read_json, read_poses, read_times
from splatdag.driving.logs.pickles import column, read_table
from splatdag.workflow.errors import UserError

PANDAR64, PANDARGT = 0, 1
"""The spinning lidar and the forward-facing one, as in the tables' column `d`."""
_EITHER = -1
"""`cuboids.sensor_id` of a box that both lidars see as one."""


@dataclass(frozen=True)
class Sweep:
    """The points of one frame, of both lidars."""

    points: np.ndarray
    """[N, 3] float64, world, metres; motion of the ego vehicle is already undone."""
    intensities: np.ndarray
    """[N] float32, 0 to 255."""
    times: np.ndarray
    """[N] float64, seconds since 1970."""
    sensors: np.ndarray
    """[N] int8: PANDAR64 or PANDARGT."""

    def of(self, sensor: int) -> Sweep:
        """Select those of one lidar."""
        chosen = self.sensors == sensor
        return Sweep(self.points[chosen], self.intensities[chosen], self.times[chosen], self.sensors[chosen])


@dataclass(frozen=True)
class Boxes:
    """The annotated boxes of one frame."""

    ids: list[str]
    labels: list[str]
    centers: np.ndarray
    """[B, 3] float64, world, metres."""
    sizes: np.ndarray
    """[B, 3] float64, metres: width (local x), length (local y), height (local z)."""
    yaws: np.ndarray
    """[B] float64, radians about world z, counter-clockwise; at 0 the length lies along world y."""
    stationary: np.ndarray
    """[B] bool: whether the object stands still over the whole log."""
    motions: list[str]
    """Motion of each box's object in this frame: Moving, Stopped, Parked, or empty."""
    siblings: list[str]
    """Id of the box of the same object that the other lidar sees, or empty."""
    sensors: np.ndarray
    """[B] int8: PANDAR64 or PANDARGT where an object has a box of each, else -1."""

    def of(self, sensor: int) -> np.ndarray:
        """Mask [B] the boxes that count for the points of a lidar; each object once."""
        return (self.sensors == _EITHER) | (self.sensors == sensor)

    def local(self, points: np.ndarray, box: int) -> np.ndarray:
        """Turn points [N, 3] of the world into the axes of a box, from its centre."""
        cos, sin = math.cos(self.yaws[box]), math.sin(self.yaws[box])
        x, y, z = (points - self.centers[box]).T
        return np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=1)

    def inside(self, points: np.ndarray, box: int) -> np.ndarray:
        """Mask [N] the points [N, 3] of the world that lie in a box."""
        return (np.abs(self.local(points, box)) <= self.sizes[box] / 2).all(axis=1)


@dataclass(frozen=True)
class Camera:
    """One camera of a log."""

    name: str
    K: np.ndarray
    """[3, 3] float64, pixels."""
    camera_to_world: np.ndarray
    """[F, 4, 4] float64."""
    times: np.ndarray
    """[F] float64, seconds since 1970; they lie before those of the lidar's sweeps, each camera's differently."""
    images: dict[int, Path]
    """Image files by frame."""

    @property
    def intrinsics(self) -> dict[str, float]:
        """Write K (pixels) as PandaSet's files have it."""
        (fx, _, cx), (_, fy, cy), _ = self.K.tolist()
        return {"fx": fx, "fy": fy, "cx": cx, "cy": cy}


class Log:
    """Sequence in PandaSet's layout: metadata is read at once, tables when asked for.

    Raises:
        UserError: the folder or its metadata are missing or not as PandaSet's; of a camera or frame that is broken
            only `problems` says so.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "lidar").is_dir():
            raise UserError(f"{folder}: no PandaSet sequence; it has no folder lidar")
        self.folder = folder
        self.name = folder.name
        self.problems: list[str] = []
        """Missing or unusable parts of the log, a line each."""
        self.ego_to_world = read_poses(folder / "lidar" / "poses.json")
        """[F, 4, 4] float64: the ego vehicle at ground level, x right, y forward, z up; not the pose of a lidar."""
        self.lidar_times = read_times(folder / "lidar" / "timestamps.json")
        """[F] float64: the end of each sweep of the Pandar64."""
        self.tables = by_frame(folder / "lidar", TABLES)
        self.box_tables = by_frame(folder / CUBOIDS, TABLES)
        self.cameras = {name: camera for name in CAMERAS if (camera := self._camera(name)) is not None}

    @cached_property
    def frames(self) -> int:
        """Count the frames that have a pose and a time of the lidar."""
        return min(len(self.ego_to_world), len(self.lidar_times))

    @cached_property
    def has_semseg(self) -> bool:
        """Tell whether points have classes; those of 27 of the 103 sequences have not."""
        return (self.folder / SEMSEG).is_dir()

    def _camera(self, name: str) -> Camera | None:
        folder = self.folder / "camera" / name
        if not folder.is_dir():
            self.problems.append(f"{name} is missing")
            return None
        try:
            pinhole = read_json(folder / "intrinsics.json")
            fx, fy, cx, cy = (pinhole[name] for name in ("fx", "fy", "cx", "cy"))
            K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)
            if not np.isfinite(K).all():
                raise ValueError("NaN or infinity")
            poses, times = read_poses(folder / "poses.json"), read_times(folder / "timestamps.json")
        except (KeyError, TypeError, ValueError, OverflowError):
            self.problems.append(f"{name}: intrinsics.json has not fx, fy, cx, cy")
            return None
        except UserError as error:
            self.problems.append(str(error))
            return None
        return Camera(name, K, poses, times, by_frame(folder, IMAGES))

    def reason_against(self, frame: int, cameras: tuple[str, ...] = CAMERAS) -> str | None:
        """Explain why a frame can't be used with these cameras; None if it can."""
        if frame not in self.tables:
            return f"no lidar/{frame:02d}.pkl.gz"
        if frame >= len(self.lidar_times) or frame >= len(self.ego_to_world):
            return "lidar/timestamps.json or poses.json is too short"
        if not np.isfinite(self.ego_to_world[frame]).all() or not np.isfinite(self.lidar_times[frame]):
            return "lidar/poses.json or timestamps.json has a value that is no number"
        for name in cameras:
            camera = self.cameras.get(name)
            if camera is None:
                return f"no camera {name}"
            if frame not in camera.images:
                return f"no image of {name}"
            if frame >= len(camera.times) or frame >= len(camera.camera_to_world):
                return f"{name}: timestamps.json or poses.json is too short"
            if not np.isfinite(camera.camera_to_world[frame]).all() or not np.isfinite(camera.times[frame]):
                return f"{name}: poses.json or timestamps.json has a value that is no number"
        return None

    def sweep(self, frame: int) -> Sweep:
        """Read the points of a frame.

        Raises:
            UserError: there is no such table, it is damaged, has no points, or values that are no numbers.
        """
        path = self._table(self.tables, frame, "lidar")
        table = read_table(path)
        columns = [column(table, name, path) for name in ("x", "y", "z", "i", "t", "d")]
        try:
            values = np.stack([series.to_numpy(np.float64) for series in columns], axis=1)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{path}: a column is not of numbers ({error})") from None
        if not len(values):
            raise UserError(f"{path}: no points")
        if not np.isfinite(values).all():
            raise UserError(
                f"{path}: {int((~np.isfinite(values)).any(axis=1).sum())} points have values that are no number"
            )
        return Sweep(
            np.ascontiguousarray(values[:, :3]),
            values[:, 3].astype(np.float32),
            np.ascontiguousarray(values[:, 4]),
            values[:, 5].astype(np.int8),
        )

    def boxes(self, frame: int) -> Boxes:
        """Read the annotated boxes of a frame.

        Raises:
            UserError: there is no such table, it is damaged, or has values that are no numbers.
        """
        path = self._table(self.box_tables, frame, CUBOIDS)
        table = read_table(path)

        def numbers(*names: str) -> np.ndarray:
            try:
                values = np.stack([column(table, name, path).to_numpy(np.float64) for name in names], axis=1)
            except (TypeError, ValueError, OverflowError) as error:
                raise UserError(f"{path}: {names[0]} is not of numbers ({error})") from None
            if not np.isfinite(values).all():
                wrong = int((~np.isfinite(values)).any(axis=1).sum())
                raise UserError(f"{path}: {wrong} boxes have values that are no number in {', '.join(names)}")
            return values

        def words(name: str) -> list[str]:
            """Read a column of text; empty where it is missing, or its value is NaN, None or a dash."""
            if name not in table.columns:
                return [""] * len(table)
            return [value if isinstance(value, str) and value != "-" else "" for value in table[name]]

        sensors = (
            numbers("cuboids.sensor_id")[:, 0] if "cuboids.sensor_id" in table.columns else np.full(len(table), -1)
        )
        return Boxes(
            words("uuid"),
            words("label"),
            numbers("position.x", "position.y", "position.z"),
            numbers("dimensions.x", "dimensions.y", "dimensions.z"),
            numbers("yaw")[:, 0],
            column(table, "stationary", path).to_numpy(bool),
            words("attributes.object_motion"),
            words("cuboids.sibling_id"),
            sensors.astype(np.int8),
        )

    def classes(self, frame: int) -> np.ndarray:
        """Read the semantic class [N] int16 of each point of `sweep(frame)`; 0 is undefined.

        Raises:
            UserError: there is no such table, or it is damaged.
        """
        path = self._table(by_frame(self.folder / SEMSEG, TABLES), frame, SEMSEG)
        try:
            return column(read_table(path), "class", path).to_numpy().astype(np.int16)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{path}: class is not of numbers ({error})") from None

    def _table(self, tables: dict[int, Path], frame: int, folder: str) -> Path:
        if frame not in tables:
            raise UserError(f"{self.folder / folder}: no table {frame:02d}{TABLES[0]} or {frame:02d}{TABLES[1]}")
        return tables[frame]


def sequences(data_root: Path) -> list[Path]:
    """List the folders of all sequences, by name.

    Raises:
        UserError: there is none.
    """
    folders = [data_root / name for name in log_names(data_root)]
    if not folders:
        raise UserError(
            f"data_root: {data_root} has no PandaSet sequences (folders such as 001 with lidar/ and camera/)"
        )
    return folders
