"""A file without a name that stands in for memory, and is gone when the process is."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from splatdag.workflow.errors import UserError
from splatdag.workflow.host_memory import size_text

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM)


def scratch_folder() -> Path:
    """Where scratch files go: TMPDIR, or the system's own folder for them."""
    return Path(tempfile.gettempdir())


class ScratchFile:
    """Bytes in a memory-mapped file. Parts of it that are looked at count as memory of the process until released."""

    def __init__(self, size: int) -> None:
        """Make a file in `scratch_folder` with all its blocks, so that the disk cannot fill up later.

        Raises:
            UserError: there is no room for so many bytes.
        """
        try:
            # The file never has a name, or loses it at once: nothing is left behind however the process ends.
            self._file = tempfile.TemporaryFile(dir=scratch_folder())  # noqa: SIM115 - as long as the object
            os.posix_fallocate(self._file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise UserError(
                f"{scratch_folder()}: no room for a file of {size_text(size)} with the photos ({error.strerror});"
                " set TMPDIR to a larger disk, ask for more memory, raise data_factor or lower max_image_size"
            ) from None
        self._map = mmap.mmap(self._file.fileno(), size)

    def tensor(self) -> Tensor:
        """All of it, uint8."""
        return torch.from_numpy(np.frombuffer(self._map, np.uint8))

    def expect(self, part: Tensor) -> None:
        """Let the system read a part of `tensor()` before it is looked at."""
        os.posix_fadvise(self._file.fileno(), int(part.storage_offset()), part.numel(), os.POSIX_FADV_WILLNEED)

    def release(self, part: Tensor) -> None:
        """A part of `tensor()`, in pages of its own, counts as memory no more; its content stays."""
        self._map.madvise(mmap.MADV_DONTNEED, int(part.storage_offset()), part.numel())


def is_in_memory(folder: Path) -> bool:
    """Whether a folder is on a file system that takes memory, not disk."""
    real = folder.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    nearest = next((place for place in (real, *real.parents) if place in mounts), None)
    return nearest is not None and mounts[nearest] in ("tmpfs", "ramfs")
