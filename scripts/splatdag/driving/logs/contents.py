"""What logs hold, as digests of the contents of the files that a job reads; no table or image is decoded."""

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


def _lines(log: Path, cache: Path, cameras: tuple[str, ...], opened: bool, annotated: bool) -> Iterator[str]:
    folders: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {"lidar": (TABLES, _LISTS)}
    folders |= {f"camera/{camera}": (IMAGES, _CAMERA_LISTS) for camera in cameras}
    if annotated:
        folders |= {"meta": ((), ("gps.json",)), CUBOIDS: (TABLES, ()), SEMSEG: (TABLES, ())}
    for name, (suffixes, lists) in folders.items():
        folder = log / name
        try:
            frames = list(by_frame(folder, suffixes).values()) if suffixes else []
            files = [(path.name, path) for path in (folder / listed for listed in lists) if path.is_file()]
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None
        key = [str(folder.absolute())]
        yield f"{log.name} {name} {contents_digest(files, cache, [*key, 'lists'])}"
        if opened:
            yield contents_digest([(path.name, path) for path in frames], cache, [*key, "frames"])
        else:
            yield " ".join(path.name for path in frames)
