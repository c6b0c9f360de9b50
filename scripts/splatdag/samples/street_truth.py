"""Ground truth of a sample log: the thing that each lidar point lies on, and its motion."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path as File
from typing import Any

import numpy as np

from splatdag.samples.street_paths import Path, in_frame
from splatdag.samples.street_scene import World
from splatdag.workflow.publish import write_json

STATIC = -1
"""Index for no thing: the background, which stands still, or the recording vehicle."""


@dataclass(frozen=True)
class TrueThing:
    """One thing with a box; times of its path are seconds since the log's `start`."""

    uuid: str
    sibling: str
    """Id of its second box, in frames where it has two."""
    label: str
    size: tuple[float, float, float]
    """Width, length, height, metres."""
    height: float
    """Height of its middle above the ground, metres."""
    path: Path


@dataclass(frozen=True)
class Truth:
    """Ground truth of a log. Arrays of things hold indices into `things`, or STATIC."""

    folder: File
    start: float
    """Seconds since 1970 at which times of paths are 0."""
    things: list[TrueThing]

    @classmethod
    def read(cls, root: File, name: str) -> Truth:
        """Read the ground truth of log `name` below the folder that the generator wrote."""
        found = json.loads((root / "truth" / name / "things.json").read_text())
        things = [
            TrueThing(**given | {"size": tuple(given["size"]), "path": _path(given["path"])})
            for given in found["things"]
        ]
        return cls(root / "truth" / name, found["start"], things)

    def of_points(self, frame: int) -> np.ndarray:
        """[N] int16: the thing that each lidar point of a frame lies on, in the order of the table."""
        return np.load(self.folder / f"{frame:02d}.npy")

    def within(self, points: np.ndarray, times: np.ndarray) -> np.ndarray:
        """[N] int16: the thing in whose box points [N, 3] lie at their times [N] (s since 1970)."""
        found = np.full(len(points), STATIC, np.int16)
        for index, thing in enumerate(self.things):
            local = in_frame(points, self.poses(index, times))
            half = np.array(thing.size) / 2
            inside = (np.abs(local - (0, 0, thing.height)) <= half).all(axis=1)
            found[inside] = index
        return found

    def velocities(self, points: np.ndarray, times: np.ndarray, things: np.ndarray) -> np.ndarray:
        """[N, 3] m/s of points [N, 3] (world, metres) that lie on `things` [N] at times [N] (s since 1970)."""
        found = np.zeros((len(points), 3))
        for index in np.unique(things[things != STATIC]):
            on = things == index
            x, y, _ = self.poses(index, times[on]).T
            u, v, turning = self.things[index].path.velocities(times[on] - self.start).T
            found[on, 0] = u - turning * (points[on, 1] - y)
            found[on, 1] = v + turning * (points[on, 0] - x)
        return found

    def moved(self, points: np.ndarray, times: np.ndarray, things: np.ndarray, later: np.ndarray) -> np.ndarray:
        """[N, 3]: where points that lie on `things` at `times` are at `later` [N]; the way there is their flow."""
        found = points.copy()
        for index in np.unique(things[things != STATIC]):
            on = things == index
            local = in_frame(points[on], self.poses(index, times[on]))
            x, y, yaw = self.poses(index, later[on]).T
            found[on, 0] = x + np.cos(yaw) * local[:, 0] - np.sin(yaw) * local[:, 1]
            found[on, 1] = y + np.sin(yaw) * local[:, 0] + np.cos(yaw) * local[:, 1]
        return found

    def poses(self, thing: int, times: np.ndarray) -> np.ndarray:
        """[N, 3] x, y, yaw of a thing at times [N] (s since 1970)."""
        return self.things[thing].path.poses(times - self.start)


def write_truth(folder: File, world: World, ids: list[tuple[str, str]], start: float) -> None:
    """Write `things.json`; the points of each frame lie beside it as `NN.npy`."""
    things = []
    for (own, sibling), thing in zip(ids, world.things, strict=True):
        lowest, highest = thing.extent
        size, height = tuple((highest - lowest).tolist()), float(lowest[2] + highest[2]) / 2
        things.append(asdict(TrueThing(own, sibling, thing.label, size, height, thing.path)))
    units = "metres, seconds since start, radians; bends are lengths (m) and curvatures (1/m)"
    write_json(folder / "things.json", {"start": start, "units": units, "things": things})


def _path(given: dict[str, Any]) -> Path:
    return Path(**given | {"bends": tuple((length, curvature) for length, curvature in given["bends"])})
