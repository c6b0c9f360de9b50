"""Folders of PandaSet: logs, cameras and frames, from names alone; nothing is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

CameraName = Literal[
    "front_camera", "front_left_camera", "front_right_camera", "left_camera", "right_camera", "back_camera"
]
CAMERAS: tuple[str, ...] = get_args(CameraName)
TABLES = (".pkl.gz", ".pkl")
"""Suffixes of tables: the archive's form, and that of copies which were unpacked."""
IMAGES = (".jpg", ".png")
CUBOIDS, SEMSEG = "annotations/cuboids", "annotations/semseg"


def log_names(data_root: Path) -> list[str]:
    """List the names of all logs (001, 002, …) in a folder, sorted; none if it is not there."""
    return sorted(name for name in _names(data_root) if (data_root / name / "lidar").is_dir())


def by_frame(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Map frames to the files named after them; of a packed and an unpacked one, the first suffix wins."""
    names = _names(folder)
    files: dict[int, Path] = {}
    for suffix in reversed(suffixes):
        for name in names:
            stem = name.removesuffix(suffix)
            if stem != name and stem.isascii() and stem.isdigit():
                files[int(stem)] = folder / name
    return dict(sorted(files.items()))


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
