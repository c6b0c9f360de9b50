"""The file `transforms.json` of nerfstudio and instant-ngp: which photos and masks it names, and where they are."""

from __future__ import annotations

import itertools
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import read_json

NAME = "transforms.json"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".JPEG", ".tif", ".tiff", ".bmp")
"""Suffixes that are tried in this order where `file_path` has none (Blender's way)."""


@dataclass(frozen=True)
class Frame:
    """One posed photo of a transforms.json."""

    name: str
    """Path of the photo, relative to the data folder, with its suffix."""
    mask: str | None
    """Its mask, relative to the data folder."""
    depth: str | None
    """Its depth map, relative to the data folder, if that is there; nothing is learnt from it."""
    values: dict[str, Any]
    """The frame as written: its pose, and intrinsics where it has its own."""


@dataclass(frozen=True)
class Transforms:
    """A transforms.json with the frames whose photos are there."""

    path: Path
    frames: list[Frame]
    """Frames whose photos are there, in name order."""
    missing: list[str]
    """Photos that the file names and that are not there, as in data sets whose bad photos were deleted."""
    values: dict[str, Any]
    """The whole file as written."""
    points: Path | None
    """The PLY file with points of the scene."""


def read_transforms(data_dir: Path) -> Transforms:
    """Read the transforms.json of a data folder and find its photos.

    Raises:
        UserError: the file is no transforms.json, or names a photo or mask that is not there.
    """
    path = data_dir / NAME
    values = read_json(path)
    written = values.get("frames")
    if not isinstance(written, list) or not written:
        raise UserError(f'{path}: no frames; expected {{"frames": [{{"file_path": …, "transform_matrix": …}}]}}')
    read = [_frame(data_dir, path, i, frame) for i, frame in enumerate(written)]
    frames = sorted((frame for frame in read if isinstance(frame, Frame)), key=lambda frame: frame.name)
    missing = [frame for frame in read if isinstance(frame, str)]
    if not frames:
        raise UserError(f"{path}: none of its {len(missing)} photos is there; the first is {data_dir / missing[0]}")
    for one, next_one in itertools.pairwise(frames):
        if one.name == next_one.name:
            raise UserError(f"{path}: {one.name} is in two frames; keep one")
    points = values.get("ply_file_path")
    if points is not None:
        points = data_dir / str(points)
        if not _is_file(points):
            raise UserError(f"{path}: ply_file_path: no such file: {points}")
    return Transforms(path, frames, missing, values, points)


def _frame(data_dir: Path, path: Path, index: int, values: Any) -> Frame | str:
    """Read one frame; returns the name of its photo where that is not there."""
    where = f"{path}: frames[{index}]"
    given = values.get("file_path") if isinstance(values, dict) else None
    if not isinstance(given, str) or not given:
        raise UserError(f"{where}: no file_path")
    name = _inside(given, where, "file_path")
    if not _is_file(data_dir / name):
        name = next((name + suffix for suffix in _SUFFIXES if _is_file(data_dir / (name + suffix))), "")
        if not name:
            return given
    mask = values.get("mask_path")
    if mask is not None:
        mask = _inside(str(mask), where, "mask_path")
        if not _is_file(data_dir / mask):
            raise UserError(f"{where}: no such mask: {data_dir / mask}")
    depth = values.get("depth_file_path")
    depth = posixpath.normpath(depth) if isinstance(depth, str) and _is_file(data_dir / depth) else None
    return Frame(name, mask, depth, values)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _inside(given: str, where: str, key: str) -> str:
    name = posixpath.normpath(given.replace("\\", "/"))
    if name.startswith(("../", "/")) or name == "..":
        raise UserError(f"{where}: {key} {given} lies outside the folder of {NAME}; move it there")
    return name
