"""Digests of files by name and content, remembered by size, times and inode, so that an unchanged file is read once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from splatdag.workflow.errors import UserError
from splatdag.workflow.small_file import check_regular

_STATE = 4
"""Numbers that tell whether a file may have changed: size, two times and inode."""
_READERS = 4
"""Files that are read at a time."""


def contents_digest(files: Iterable[tuple[str, str | os.PathLike[str]]], cache: Path, key: Iterable[str]) -> str:
    """Return the digest of names and contents of files.

    A file is read again only when its size, times or inode changed since the digest in `cache` was made. Size and
    modification time alone would not show one that was copied over another with its time (`cp -p`, `rsync -a`).

    Args:
        files: name, which goes into the digest, and path of each file.
        cache: folder for the remembered digests.
        key: words that identify this set of files in the cache.

    Raises:
        UserError: a file can't be read, or `cache` not be written.
    """
    try:
        return _contents_digest(files, cache / f"{_hash(key)}.json")
    except OSError as error:
        raise UserError(f"{error.filename}: can't be read: {error.strerror}") from None


def _contents_digest(files: Iterable[tuple[str, str | os.PathLike[str]]], known: Path) -> str:
    found = {name: (os.stat(file), os.fspath(file)) for name, file in files}  # noqa: PTH116 - of many files
    old = _remembered(known)
    new = {name: _seen(stat, old.get(name)) for name, (stat, _) in sorted(found.items())}
    unread = [name for name, entry in new.items() if len(entry) == _STATE]
    if len(unread) > 1:
        with ThreadPoolExecutor(_READERS) as pool:
            digests = list(pool.map(file_digest, [Path(found[name][1]) for name in unread]))
    else:
        digests = [file_digest(Path(found[name][1])) for name in unread]
    for name, digest in zip(unread, digests, strict=True):
        new[name] = [*new[name], digest]
    if new != old:
        try:
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps(new))  # damaged by a kill, it is made again
        except OSError as error:
            raise UserError(f"{known.parent}: can't be written: {error.strerror}") from None
    return _hash(f"{name} {content}" for name, (*_, content) in new.items())


def _remembered(cache: Path) -> dict[str, list]:
    try:
        found = json.loads(cache.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    whole = isinstance(found, dict) and all(
        isinstance(entry, list) and len(entry) == _STATE + 1 for entry in found.values()
    )
    return found if whole else {}


def _seen(stat: os.stat_result, old: list | None) -> list:
    """Return size, times and inode of a file, and its digest if that is remembered for the same values."""
    seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    return old if old is not None and old[:-1] == seen else seen


def digest_of_folder(folder: Path) -> str:
    """Return the digest of names and contents of the files that lie directly in a folder."""
    return _hash(f"{path.name} {file_digest(path)}" for path in sorted(folder.iterdir()) if path.is_file())


def digest_of_files(paths: Iterable[Path]) -> str:
    """Return one digest of the paths and contents of small files."""
    files = {str(path): file_digest(path) for path in paths}
    return hashlib.blake2b(json.dumps(files, sort_keys=True).encode(), digest_size=8).hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of a file's content.

    Raises:
        OSError: it can't be read, or is no regular file.
    """
    check_regular(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _hash(lines: Iterable[str]) -> str:
    data = "\n".join(lines).encode(errors="surrogateescape")  # folders above may have names that are not UTF-8
    return hashlib.blake2b(data, digest_size=8).hexdigest()
