"""A file without a name that stands in for memory, and is gone when the last process that has it is."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import torch
from torch import Tensor

from splatdag.workflow.errors import UserError
from splatdag.workflow.host_memory import size_text

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM)


def scratch_folder() -> Path:
    """Return the folder of scratch files: TMPDIR, or the system's own."""
    return Path(tempfile.gettempdir())


class ScratchFile:
    """Bytes in a memory-mapped file. Parts of it that are looked at count as memory of the process until released.

    Pickled, it is a reference: another process of the same user maps the same file, while this one has it open.
    """

    def __init__(self, size: int, in_memory: bool = False) -> None:
        """Make a file with all its blocks, so that the disk cannot fill up later.

        Args:
            size: in bytes.
            in_memory: make it of shared memory in place of a file in `scratch_folder`.

        Raises:
            UserError: there is no room for so many bytes.
        """
        try:
            file = _shared_memory(size) if in_memory else _unnamed_file(size)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            raise UserError(
                f"{scratch_folder()}: no room for a file of {size_text(size)} with the photos ({error.strerror});"
                " set TMPDIR to a larger disk, ask for more memory, raise data_factor or lower max_image_size"
            ) from None
        self._open(file, size, in_memory)

    def _open(self, file: IO[bytes], size: int, in_memory: bool) -> None:
        self._file, self._size, self._in_memory = file, size, in_memory
        self._map = mmap.mmap(file.fileno(), size)
        self._bytes = torch.from_numpy(np.frombuffer(self._map, np.uint8))

    def __getstate__(self) -> tuple[str, int, bool]:
        return f"/proc/{os.getpid()}/fd/{self._file.fileno()}", self._size, self._in_memory

    def __setstate__(self, state: tuple[str, int, bool]) -> None:
        path, size, in_memory = state
        self._open(open(path, "r+b", buffering=0), size, in_memory)  # noqa: SIM115 - as long as the object

    def tensor(self) -> Tensor:
        """Return all bytes, uint8."""
        return self._bytes

    def place(self, part: Tensor) -> tuple[int, torch.Size, torch.dtype]:
        """Return offset, shape and type of a part of `tensor()`, by which `part` finds it again."""
        return int(part.storage_offset()), part.shape, part.dtype

    def part(self, place: tuple[int, torch.Size, torch.dtype]) -> Tensor:
        """Return the part of `tensor()` at a place: bytes, or booleans."""
        start, shape, dtype = place
        return self._bytes[start : start + shape.numel()].view(dtype).view(shape)

    def expect(self, part: Tensor) -> None:
        """Let the system read a part of `tensor()` before it is looked at."""
        if not self._in_memory:
            os.posix_fadvise(self._file.fileno(), int(part.storage_offset()), part.numel(), os.POSIX_FADV_WILLNEED)

    def release(self, part: Tensor) -> None:
        """Release memory of a part of `tensor()` in pages of its own, where a disk holds it; its content stays."""
        if not self._in_memory:
            self._map.madvise(mmap.MADV_DONTNEED, int(part.storage_offset()), part.numel())


def _shared_memory(size: int) -> IO[bytes]:
    file = os.fdopen(os.memfd_create("photos"), "r+b")
    os.truncate(file.fileno(), size)
    return file


def _unnamed_file(size: int) -> IO[bytes]:
    """Make a file that never has a name, or loses it at once: nothing is left behind however the process ends."""
    file = tempfile.TemporaryFile(dir=scratch_folder())  # noqa: SIM115 - as long as the object
    os.posix_fallocate(file.fileno(), 0, size)
    return file


def is_in_memory(folder: Path) -> bool:
    """Tell whether a folder is on a file system that takes memory, not disk."""
    real = folder.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    nearest = next((place for place in (real, *real.parents) if place in mounts), None)
    return nearest is not None and mounts[nearest] in ("tmpfs", "ramfs")
