"""Files that users name and that are read whole: never waited for, and never more of them than is sensible."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_PART = 1 << 20
LARGEST = 256 << 20
"""Bytes that a text may have which a user or another program wrote: config, sheet, list, index, metrics."""


def read_small(path: Path, limit: int = LARGEST) -> bytes:
    """What is in a file.

    The size that a file claims says little, that of a device is 0; so what is read is limited, not what is claimed.

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
    """Stop at what is no regular file: a pipe or a device, which opening may wait for, has no end or no data.

    Raises:
        OSError: it is something else, or there is nothing of that name.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:  # with a NUL, or letters that file names can't have
        raise OSError(errno.EINVAL, "no file can have such a name", str(path)) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
