"""Every output is complete or absent: write beside it, flush, rename; a full disk is an error that names the file.

What is read back is JSON or one line.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from splatdag.workflow.errors import UserError

_MAX_DIGITS = 300


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it replaces `path`, else it is removed.

    The temporary name keeps the suffix, is hidden, and carries the thread's id. File and folder are flushed to
    disk, so that a published file survives a power cut whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{threading.get_native_id()}.partial{path.suffix}")
    try:
        with _disk_named(path):
            yield temporary
            _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Give a hidden folder beside `path`, which replaces it when the block ends well and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with _disk_named(path):
            yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def filled_folder(path: Path) -> Iterator[Path]:
    """As `complete_folder`, but what lies in `path` already stays: then files are written beside it, one by one."""
    if path.is_dir() and any(path.iterdir()):
        yield path
    else:
        with complete_folder(path) as folder:
            yield folder


@contextmanager
def _disk_named(path: Path) -> Iterator[None]:
    """Let what writes `path` fail where the disk is full, also if a library has not noticed or says something else."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno is None:
            check_room(path)
        elif error.filename is None:
            error.filename = str(path)
        raise
    except Exception:
        check_room(path)
        raise
    check_room(path)


def check_room(path: Path) -> None:
    """Raise the error of a full disk if nothing more can be written beside `path`."""
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
    """What a JSON text holds; its numbers fit into floats.

    Raises:
        ValueError: why it can't be read.
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
    """Names and values of a JSON file.

    Raises:
        UserError: the file can't be read, or holds something else.
    """
    try:
        given = parsed_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(given, dict):
        raise UserError(f"{path}: not an object of names and values")
    return given
