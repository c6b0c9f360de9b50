"""The lease of a `state/` folder: one process works in it at a time, also where several machines share the disk.

It is a file that names its holder; its time of change is the holder's last sign of life. On one machine the kernel
tells whether the holder lives; of one elsewhere the signs of life are watched, so that no lock of a file system is
needed and clocks may differ.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from splatdag.workflow.errors import RESUMABLE, Stopped
from splatdag.workflow.heartbeat import repeated
from splatdag.workflow.manifest import now
from splatdag.workflow.publish import machine
from splatdag.workflow.stage import STOPPED

BEAT_SECONDS = 10.0
"""Time between two signs of life."""
SILENT_SECONDS = 60.0
"""A holder on another machine that is silent so long is dead."""
_OLD_SECONDS = 600.0
"""After a last sign of life older than this no other is waited for; the clocks of a cluster differ by less."""
_SAME_START = 2.0
"""Difference of two readings of a process's start (seconds): the kernel's clock may be set meanwhile."""
logger = logging.getLogger(__name__)


class Holder(BaseModel):
    """The process that holds a lease."""

    host: str
    """Name of the machine, for people."""
    machine: str
    """Where the process number counts: machines may have the same name, and containers the same numbers."""
    process: int
    started: float
    """When the process began (seconds since 1970), since numbers are used again."""
    job: str | None
    """Slurm job."""
    since: str
    """When it took the lease, in UTC."""

    def __str__(self) -> str:
        """Name the process, and how to stop it."""
        job, process = f"Slurm job {self.job} on {self.host}", f"process {self.process} on {self.host}"
        stop = f"scancel {self.job}" if self.job else f"kill {self.process}"
        return f"{job if self.job else process}, since {self.since} (`{stop}` stops it)"


@contextmanager
def lease(folder: Path) -> Iterator[None]:
    """Hold the lease of a folder while the block runs; it is made if it is not there, and removed again if empty.

    A holder that was killed is no hindrance: at once if it was on this machine, since that was started, or is long
    dead, else after `SILENT_SECONDS`. A process that finds its lease taken over, since it was itself suspended for so
    long, ends.

    Raises:
        Stopped: another process holds it and lives.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path, mine = folder / "lease.json", _this_process()
    try:
        while not _written(path, mine):
            _remove_if_dead(path)
        with repeated(BEAT_SECONDS, partial(_show_life, path, mine)):
            yield
    finally:
        if _holder(path) == mine:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            for empty in made:
                empty.rmdir()


def _this_process() -> Holder:
    return Holder(
        host=socket.gethostname(),
        machine=machine(),
        process=os.getpid(),
        started=psutil.Process().create_time(),
        job=os.environ.get("SLURM_JOB_ID"),
        since=now(),
    )


def _written(path: Path, mine: Holder) -> bool:
    """Write the lease, whole or not at all, unless there is one."""
    while True:
        with suppress(FileNotFoundError):  # another process, which ends, removed the folder meanwhile
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = path.open("x", encoding="utf-8")
            except FileExistsError:
                return False
            try:
                with file:
                    file.write(mine.model_dump_json())
            except BaseException as error:
                path.unlink(missing_ok=True)
                if isinstance(error, OSError):
                    error.filename = str(path)
                raise
            return True


def _holder(path: Path) -> Holder | None:
    """Read who holds the lease; None if nobody does, or if it can't be read: a process was killed while it wrote it."""
    try:
        return Holder.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _remove_if_dead(path: Path) -> None:
    """Remove the lease of a process that is dead.

    Raises:
        Stopped: it lives.
    """
    holder, here = _holder(path), _this_process()
    if holder is not None and (holder.host, holder.machine) == (here.host, here.machine):
        alive = _runs(holder)
    else:
        alive = _gives_signs_of_life(path, holder)
    if alive:
        raise Stopped(f"{path.parent} is in use by {holder or 'another process'}; when it has ended, run this again")
    if _holder(path) == holder:  # else another process was faster
        logger.info("taking over from %s, which is dead", holder or "a process that left no name")
        path.unlink(missing_ok=True)


def _runs(holder: Holder) -> bool:
    try:
        process = psutil.Process(holder.process)
        return abs(process.create_time() - holder.started) < _SAME_START and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _gives_signs_of_life(path: Path, holder: Holder | None) -> bool:
    """Watch for signs of life of a holder on another machine."""
    last = _last_sign(path)
    if last is None or abs(time.time() - last) > _OLD_SECONDS:
        return False
    logger.info("waiting up to %.0f s for a sign of life of %s", SILENT_SECONDS, holder or "another process")
    end = time.monotonic() + SILENT_SECONDS
    while time.monotonic() < end:
        time.sleep(0.5)
        sign = _last_sign(path)
        if sign != last:
            return sign is not None
    return False


def _last_sign(path: Path) -> float | None:
    try:
        with path.open() as file:  # a network file system asks its server when a file is opened
            return os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None


def _show_life(path: Path, mine: Holder) -> None:
    with suppress(OSError):  # the file system may be away for a moment
        holder = _holder(path)
        if holder == mine:
            os.utime(path, (time.time(), time.time()))
        elif holder is not None:
            logger.error("%s: %s was taken over by %s while this process was suspended", STOPPED, path.parent, holder)
            os._exit(RESUMABLE)  # at once: what it would save belongs to the other
