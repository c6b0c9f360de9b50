"""Lifted frames on disk: `<folder>/<log>/<key>/<frame>.npz`, made when they are missing or no longer fit.

The key stands for cameras, lidars and the code; each file says which table, images and poses it was made from. Any
number of processes may read and write the same folder: a file is complete or absent, and all would write the same.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from splatdag.driving.clips.lift import Lifted, lift
from splatdag.driving.logs.pandaset import PANDAR64, Log
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.publish import complete

_KINDS = {
    "origin": np.float64, "points": np.float32, "colors": np.uint8, "seen": np.bool_, "times": np.float32,
    "spacings": np.float32, "sensors": np.int8,
}  # fmt: skip
_SOURCE = "source"


def lifted(
    log: Log,
    frame: int,
    cameras: tuple[str, ...],
    sensors: tuple[int, ...] = (PANDAR64,),
    *,
    folder: Path,
    workers: int = 1,
) -> Lifted:
    """The points of one frame, from the cache if they are there and fit, else lifted and kept.

    Args:
        log: the sequence.
        frame: of it.
        cameras: that colour the points, the first that sees a point does.
        sensors: lidars whose points are taken.
        folder: of the cache.
        workers: threads that lift.

    Raises:
        UserError: as `lift`.
    """
    path = cached_at(folder, log, frame, cameras, sensors)
    source = _source(log, frame, cameras)
    found = _read(path, source)
    if found is None:
        found = lift(log, frame, cameras, sensors, workers)
        _write(path, found, source)
    return found


def cached_at(folder: Path, log: Log, frame: int, cameras: tuple[str, ...], sensors: tuple[int, ...]) -> Path:
    """Return the path of a frame's file in the cache."""
    key = _digest(code_digest("driving.clips.lift"), ",".join(cameras), ",".join(map(str, sorted(sensors))))
    return folder / log.name / key / f"{frame:02d}.npz"


def _source(log: Log, frame: int, cameras: tuple[str, ...]) -> str:
    """Return the digest of a lifted frame's sources: files by name, size and time, and numbers that `log` has read."""
    files = [log.tables[frame], *(log.cameras[name].images[frame] for name in cameras)]
    stats = [path.stat() for path in files]
    numbers = [log.ego_to_world[frame], log.lidar_times[frame]]
    numbers += [part for name in cameras for part in (log.cameras[name].K, log.cameras[name].camera_to_world[frame])]
    words = [f"{path.name} {stat.st_size} {stat.st_mtime_ns}" for path, stat in zip(files, stats, strict=True)]
    return _digest(*words, *(np.asarray(part).tobytes().hex() for part in numbers))


def _digest(*words: str) -> str:
    return hashlib.blake2b("\n".join(words).encode(), digest_size=8).hexdigest()


def _read(path: Path, source: str) -> Lifted | None:
    """Read a lifted frame from a file; None if it is not there, damaged, or made from other sources."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file[_SOURCE]) != source:
                return None
            arrays = {name: file[name] for name in _KINDS}
    except (OSError, ValueError, OverflowError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile):
        return None
    count = arrays["times"].size
    shapes = {"origin": (3,), "points": (count, 3), "colors": (count, 3)}
    fits = all(
        arrays[name].dtype == kind and arrays[name].shape == shapes.get(name, (count,)) for name, kind in _KINDS.items()
    )
    return Lifted(**arrays) if fits else None


def _write(path: Path, found: Lifted, source: str) -> None:
    arrays = {field.name: getattr(found, field.name) for field in fields(found)}
    with complete(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays, **{_SOURCE: np.array(source)})
