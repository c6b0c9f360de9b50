"""Files that users name and that are read whole: without waiting for data, and up to a limit of size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_PART = 1 << 20
LARGEST = 256 << 20
"""Largest size of a text that a user or another program wrote (bytes): config, sheet, list, index, metrics."""


def read_small(path: Path, limit: int = LARGEST) -> bytes:
    """Read a whole file, up to a limit.

    The bytes read are limited, not the size that the file system reports, which is 0 for a device.

    Args:
        path: a regular file, or a link to one.
        limit: bytes that it may have.

    Raises:
        OSError: it is missing, no regular file, too large, or can't be read; `strerror` says which.
    """
    check_regular(path)
    parts, left = [], limit
    with path.open("rb") as file:
        while part := file.read(min(_PART, left + 1)):  # at once it would take memory of the limit
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise OSError(errno.EFBIG, f"more than {limit >> 20} MB", str(path))
    return b"".join(parts)


def check_regular(path: Path) -> None:
    """Raise OSError unless a path is a regular file: a pipe or device may block when opened, or have no end or no data.

    Raises:
        OSError: it is no regular file, or there is nothing of that name.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:  # with a NUL, or letters that file names can't have
        raise OSError(errno.EINVAL, "no file can have such a name", str(path)) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
