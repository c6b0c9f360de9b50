"""Outputs that are complete or absent: write beside it, flush, rename; a full disk is an error that names the file.

JSON files are read here, too. A kill -9 leaves a hidden `.<name>.partial` file or folder, which the next attempt
overwrites.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from splatdag.workflow.errors import UserError
from splatdag.workflow.lock import locked
from splatdag.workflow.small_file import read_small

_MAX_DIGITS = 300
_PAGE_BYTES = 4096
_UNTOUCHED = 0
"""Modification time of a partial file to which nothing has been written (seconds since 1970)."""


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it replaces `path`, else it is removed.

    The temporary name keeps the suffix and is hidden; another process that writes the same is waited for. File and
    folder are flushed to disk, so that a published file survives a power cut whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _partial(path)
    if temporary.is_symlink():  # left by a kill
        temporary.unlink(missing_ok=True)
    with locked(temporary) as file:
        file.truncate(0)
        os.utime(file.fileno(), (_UNTOUCHED, _UNTOUCHED))
        try:
            with _disk_named(path, temporary):
                yield temporary
                if temporary.stat().st_mtime == _UNTOUCHED:
                    raise FileNotFoundError(errno.ENOENT, "nothing was written", str(path))
                _flush(temporary)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(path)
        _flush(path.parent)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Give a hidden folder beside `path`, which replaces it when the block ends well and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    try:
        with _disk_named(path, partial):
            yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def filled_folder(path: Path) -> Iterator[Path]:
    """Give `path` itself if it has files, which stay, so that others are added one by one; else a `complete_folder`."""
    if path.is_dir() and any(path.iterdir()):
        yield path
    else:
        with complete_folder(path) as folder:
            yield folder


def _partial(path: Path) -> Path:
    """Return the temporary path of a file or folder that is to become `path`."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


@contextmanager
def _disk_named(path: Path, partial: Path) -> Iterator[None]:
    """Raise OSError naming `path` if the disk is full, also if a library has not noticed or says something else."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno is None:
            check_room(partial, path)
        elif error.filename is None:
            error.filename = str(path)
        raise
    except Exception:
        check_room(partial, path)
        raise
    _check_disk(path)


def check_room(partial: Path, path: Path, size: int = _PAGE_BYTES) -> None:
    """Raise OSError if a file or folder can't grow: a full disk, a quota that is used up, a limit of file sizes.

    The check writes to it, so call this only after a failure.

    Args:
        partial: file or folder that was being written, and is to be thrown away.
        path: path that it was to get, for the message.
        size: bytes that are written.
    """
    if partial.is_symlink() or (partial.is_file() and partial.stat().st_nlink > 1):
        return  # a link, which takes no room, to what must stay as it is
    place = partial / ".room" if partial.is_dir() else partial
    try:
        with place.open("ab") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = str(path)
        raise


def _check_disk(path: Path) -> None:
    disk = os.statvfs(path.parent)
    free = disk.f_bavail if os.geteuid() else disk.f_bfree
    if disk.f_blocks and not free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a small text file, complete or not at all."""
    with complete(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, complete or not at all."""
    with complete(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, complete or not at all; NaN and infinity are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def parsed_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; its numbers fit into floats.

    Raises:
        ValueError: it can't be read; the message says why.
    """
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def read_json(path: Path) -> dict[str, Any]:
    """Read the names and values of a JSON file.

    Args:
        path: the file.

    Raises:
        UserError: the file can't be read, or holds something else.
    """
    try:
        given = parsed_json(read_small(path).decode("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(given, dict):
        raise UserError(f"{path}: not an object of names and values")
    return given
