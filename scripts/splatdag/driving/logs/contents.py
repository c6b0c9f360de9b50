"""Digests of the logs' contents, from the files that a job reads; no table or image is decoded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from splatdag.driving.logs.folders import CAMERAS, CUBOIDS, IMAGES, SEMSEG, TABLES, by_frame
from splatdag.workflow.digests import contents_digest
from splatdag.workflow.errors import UserError

_LISTS = ("poses.json", "timestamps.json")
_CAMERA_LISTS = (*_LISTS, "intrinsics.json")


def logs_digest(
    root: Path,
    names: Iterable[str],
    cache: Path,
    cameras: tuple[str, ...] = CAMERAS,
    *,
    opened: bool,
    annotated: bool = False,
) -> str:
    """Digest of what some logs hold: lists of poses and times by content, and names of tables and images.

    Args:
        root: folder of the logs.
        names: of the logs.
        cache: folder for remembered digests; a file is read again only when its size, times or inode changed.
        cameras: that count.
        opened: whether tables and images are opened, too: then their contents count.
        annotated: whether boxes, classes and GPS count.

    Raises:
        UserError: a file can't be looked at.
    """
    lines = [line for name in names for line in _lines(root / name, cache, cameras, opened, annotated)]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def learnt_digests(root: Path, names: Iterable[str], cameras: Iterable[str], cache: Path) -> dict[str, str]:
    """Digests of what a training reads of some logs, by kind: `poses` (with times and intrinsics), `lidar`, `images`.

    Args:
        root: folder of the logs.
        names: of the logs.
        cameras: whose images are read.
        cache: folder for remembered digests, as of `logs_digest`.

    Raises:
        UserError: a file can't be looked at.
    """
    kinds: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {"lidar": ("lidar", TABLES, _LISTS)}
    kinds |= {f"camera/{camera}": ("images", IMAGES, _CAMERA_LISTS) for camera in cameras}
    lines: dict[str, list[str]] = {"poses": [], "lidar": [], "images": []}
    for name in names:
        for place, (kind, suffixes, listed) in kinds.items():
            folder = root / name / place
            frames, lists = _files(folder, suffixes, listed)
            lines["poses"].append(f"{name} {place} {_digest(folder, lists, 'lists', cache)}")
            lines[kind].append(f"{name} {place} {_digest(folder, frames, 'frames', cache)}")
    return {kind: hashlib.blake2b("\n".join(rows).encode(), digest_size=8).hexdigest() for kind, rows in lines.items()}


def _lines(log: Path, cache: Path, cameras: tuple[str, ...], opened: bool, annotated: bool) -> Iterator[str]:
    folders: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {"lidar": (TABLES, _LISTS)}
    folders |= {f"camera/{camera}": (IMAGES, _CAMERA_LISTS) for camera in cameras}
    if annotated:
        folders |= {"meta": ((), ("gps.json",)), CUBOIDS: (TABLES, ()), SEMSEG: (TABLES, ())}
    for name, (suffixes, listed) in folders.items():
        frames, lists = _files(log / name, suffixes, listed)
        yield f"{log.name} {name} {_digest(log / name, lists, 'lists', cache)}"
        yield _digest(log / name, frames, "frames", cache) if opened else " ".join(path.name for path in frames)


def _files(folder: Path, suffixes: tuple[str, ...], listed: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """Files of frames, and lists that are there."""
    try:
        frames = list(by_frame(folder, suffixes).values()) if suffixes else []
        return frames, [path for path in (folder / name for name in listed) if path.is_file()]
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None


def _digest(folder: Path, files: list[Path], what: str, cache: Path) -> str:
    return contents_digest([(path.name, path) for path in files], cache, [str(folder.absolute()), what])
