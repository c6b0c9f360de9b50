"""PandaSet's folders: which logs, cameras and frames there are, from names alone; nothing is opened."""

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
    """Names of all logs (001, 002, …) in a folder, sorted; none if it is not there."""
    return sorted(name for name in _names(data_root) if (data_root / name / "lidar").is_dir())


def by_frame(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files named after their frame; where one is there packed and unpacked, the first suffix wins."""
    names = _names(folder)
    found: dict[int, Path] = {}
    for suffix in reversed(suffixes):
        for name in names:
            stem = name.removesuffix(suffix)
            if stem != name and stem.isascii() and stem.isdigit():
                found[int(stem)] = folder / name
    return dict(sorted(found.items()))


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
