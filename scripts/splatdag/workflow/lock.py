"""Locks that the kernel keeps on files: one process holds a lock at a time; the lock is free when the process ends.

They hold over several machines where the file system has locks. Where it has none, one line says so, and nothing keeps
a second process away.
"""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import BufferedRandom
from pathlib import Path
from typing import IO, Any

from splatdag.workflow.errors import Stopped

FREED_SECONDS = 100.0
"""Time after which a file server has freed the locks of a machine that is gone: 90 s by default for Linux's NFS."""
logger = logging.getLogger(__name__)


def lock(file: IO[Any], wait: bool = False) -> bool:
    """Lock an open file until it is closed, or until the process ends.

    Args:
        file: open for writing.
        wait: until another process frees it.

    Returns:
        False if another process holds it. True where the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        _warn_once()
    return True


@functools.cache
def _warn_once() -> None:
    logger.warning("this file system has no locks: nothing keeps a second process from doing the same")


@contextmanager
def locked(path: Path) -> Iterator[BufferedRandom]:
    """Open a file, made if need be, and hold its lock while the block runs, which may move or remove it; wait for it.

    Args:
        path: the file, in a folder that is there.
    """
    while True:
        with path.open("a+b") as file:
            lock(file, wait=True)
            if is_at(file, path):  # else the process that held it has moved or removed it
                yield file
                return


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder, such as a run's `state/`, while the block runs; it is made, and removed if it is empty then.

    The file `lock` in it names the holder. One on another machine is waited for a while: if that machine is gone, the
    file server frees the lock.

    Raises:
        Stopped: another process holds it.
    """
    made = [path for path in folder.parents if not path.exists()]
    path = folder / "lock"
    try:
        with _held(path) as file:
            try:
                file.write(f"{socket.gethostname()}\n{_this_process()}\n")
                file.flush()
                yield
            finally:
                path.unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # not empty
            for empty in (folder, *made):
                empty.rmdir()


def _held(path: Path) -> IO[str]:
    """Open the file and lock it.

    Raises:
        Stopped: another process holds it.
    """
    end, told = time.monotonic() + FREED_SECONDS, False
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process, which ends, has just removed the folder
            file = path.open("a+", encoding="utf-8")
            if lock(file):
                if is_at(file, path):
                    file.truncate(0)
                    return file
                file.close()
                continue
            file.seek(0)
            host, _, holder = file.read().partition("\n")
            file.close()
            if host in ("", socket.gethostname()) or time.monotonic() > end:
                who = " ".join(holder.split()) or "another process"
                raise Stopped(f"{path.parent} is in use by {who}; when it has ended, run this again")
            if not told:
                logger.info("waiting up to %.0f s for %s", FREED_SECONDS, " ".join(holder.split()))
                told = True
        time.sleep(0.5)


def is_at(file: IO[Any], path: Path) -> bool:
    """Tell whether an open file is still the one at a path, and not removed or replaced."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _this_process() -> str:
    """Name this process, and how to stop it."""
    host, process, job = socket.gethostname(), os.getpid(), os.environ.get("SLURM_JOB_ID")
    who, stop = (f"Slurm job {job}", f"scancel {job}") if job else (f"process {process}", f"kill {process}")
    return f"{who} on {host}, since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} (`{stop}` stops it)"
