"""What photos a folder holds, by content: touching one or dropping a stray file beside them changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from splatdag.workflow.errors import UserError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
_MODEL_PARTS = ("cameras", "images", "points3D")
_MODEL_NAMES = tuple(f"{part}{suffix}" for part in _MODEL_PARTS for suffix in (".bin", ".txt"))


def photos_folder(data_dir: Path) -> Path:
    """Where the photos are: `images/` of a COLMAP dataset, else the folder itself."""
    return data_dir / "images" if (data_dir / "images").is_dir() else data_dir


def colmap_model(data_dir: Path) -> Path | None:
    """The COLMAP model of a dataset (`sparse/0` or `sparse`, binary or text), or None for plain photos.

    Raises:
        UserError: there is a folder `sparse` without a whole model in it.
    """
    sparse = data_dir / "sparse"
    if not sparse.is_dir():
        return None
    for folder in (sparse / "0", sparse):
        for suffix in (".bin", ".txt"):
            if all((folder / f"{part}{suffix}").is_file() for part in _MODEL_PARTS):
                return folder
    parts = ", ".join(_MODEL_PARTS)
    raise UserError(f"{sparse}: no COLMAP model in it or in its folder 0 ({parts}, all .bin or all .txt)")


def photo_names(folder: Path) -> list[str]:
    """Names of all photos in a folder and its sub-folders, relative to it, sorted; hidden files don't count."""
    return sorted(name for name, _ in _photos(str(folder)))


def _photos(folder: str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.splitext(entry.name)[1].lower() in PHOTO_SUFFIXES:  # noqa: PTH122 - a hot loop
                if entry.is_file():
                    yield prefix + entry.name, entry
            elif entry.is_dir(follow_symlinks=False):
                yield from _photos(entry.path, f"{prefix}{entry.name}/")


def check_photos(data_dir: Path, where: str) -> None:
    """Stop early when a capture has no photos, or half a COLMAP model.

    Raises:
        UserError: what is missing and where.
    """
    if not data_dir.is_dir():
        raise UserError(f"{where}: no such folder: {data_dir}")
    folder = photos_folder(data_dir)
    try:
        found = next(_photos(str(folder)), None)
        colmap_model(data_dir)
    except OSError as error:
        raise UserError(f"{where}: can't read {error.filename}: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if found is None:
        suffixes = " ".join(sorted(PHOTO_SUFFIXES))
        raise UserError(f"{where}: no photos ({suffixes}; convert others, such as HEIC) in {folder}")


def data_digest(data_dir: Path, cache: Path) -> str:
    """Digest of names and contents of a capture's photos and of its COLMAP model, if it has one.

    A file is read again only when its size or modification time changed since the digest in `cache` was made.

    Args:
        data_dir: folder of photos, or of a COLMAP dataset.
        cache: folder for the remembered digests.

    Raises:
        UserError: a file can't be read.
    """
    try:
        return _data_digest(data_dir, cache)
    except OSError as error:
        raise UserError(f"{error.filename}: can't be read: {error.strerror}") from None


def _data_digest(data_dir: Path, cache: Path) -> str:
    files = {name: (entry.stat(), entry.path) for name, entry in _photos(str(photos_folder(data_dir)))}
    model = colmap_model(data_dir)
    if model is not None:
        present = [model / name for name in _MODEL_NAMES if (model / name).is_file()]
        files |= {f"model/{path.name}": (path.stat(), str(path)) for path in present}
    known = cache / f"{_hash([str(data_dir.absolute())])}.json"
    old = _remembered(known)
    new = {name: _entry(stat, path, old.get(name)) for name, (stat, path) in sorted(files.items())}
    if new != old:
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text(json.dumps(new))  # damaged by a kill, it is made again
    return _hash(f"{name} {content}" for name, (_, _, content) in new.items())


def _remembered(cache: Path) -> dict[str, list]:
    try:
        return json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}


def _entry(stat: os.stat_result, path: str, old: list | None) -> list:
    if old is not None and old[:2] == [stat.st_size, stat.st_mtime_ns]:
        return old
    return [stat.st_size, stat.st_mtime_ns, file_digest(Path(path))]


def digest_of_folder(folder: Path) -> str:
    """Digest of names and contents of the files that lie directly in a folder."""
    return _hash(f"{path.name} {file_digest(path)}" for path in sorted(folder.iterdir()) if path.is_file())


def file_digest(path: Path) -> str:
    """Digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _hash(lines: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()
