"""The record of the attempts at a stage: machine and process, start, resources used, end.

It lies beside the stage's log as `<stage>.attempts.json`, is written when an attempt begins and ends and every few
seconds in between, and holds all attempts since the stage last finished. `status`, costs and manifests come from it; a
log is only a log.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, TypeAdapter, ValidationError

from splatdag.workflow.publish import write_json
from splatdag.workflow.small_file import read_small

BEAT_SECONDS = 10.0
"""Interval at which a running attempt updates its record (seconds): the most that a kill loses."""
_SILENT_SECONDS = 60.0
"""Age of its record (seconds) from which an attempt on another machine counts as dead."""
_SAME_START = 2.0
"""Allowed difference of two readings of a process's start (seconds): the kernel's clock may be set meanwhile."""
SUFFIX = ".attempts.json"
"""Suffix of the record beside a log, in place of `.log`."""
FINISHED, FAILED, STOPPED = "finished", "failed", "stopped"
"""Ends of an attempt, as its record names them."""


class Attempt(BaseModel):
    """Attempt at a stage: a process."""

    stage: str = ""
    """Module that ran, such as `scene.train`."""
    run: str = ""
    """Run that it worked for, as AREA/SCENE/VARIANT; empty where it belongs to no run."""
    started: str
    """Time at which its process began, in UTC."""
    seconds: float
    """Wall time of its process."""
    end: str = ""
    """End: `finished`, `failed`, `stopped` or an exit reason; empty while it runs, and where it was killed."""
    reason: str = ""
    """Reason why it failed or stopped, one line."""
    host: str
    """Name of the machine."""
    machine: str = ""
    """Digest of machine and container, since machines may share a name, and containers the numbers of processes."""
    process: int = 0
    job: str | None = None
    """Slurm job; None where it ran without Slurm."""
    device: str
    """GPU, or processor where there is none."""
    threads: int
    """CPUs it was given."""
    gpus: float = 0
    """GPUs it held; 0.5 where two jobs shared one."""
    gpu_seconds: float = 0
    """Time for which it held GPUs, times their number (GPU-seconds)."""
    gpu_class: str = ""
    """Class of GPU that its rule asks for."""


_LIST = TypeAdapter(list[Attempt])


class ThisAttempt:
    """The attempt of this process. Under Slurm it holds its GPUs from its start on, otherwise from `take_gpus` on."""

    def __init__(
        self, stage: str, log: Path | None, device: str, threads: int, gpus: int, gpu_class: str, run: str
    ) -> None:
        """Count time from the start of the process; the arguments are those of `recorded`."""
        self.arguments: dict[str, Any] = {}
        job = os.environ.get("SLURM_JOB_ID")
        self._begin = psutil.Process().create_time()
        self._took_gpus = self._begin if gpus and job else None
        self._file = None if log is None else log.with_suffix(SUFFIX)
        self.end = self.reason = ""
        self._now = Attempt(
            stage=stage,
            run=run,
            started=_as_text(self._begin),
            seconds=0,
            host=socket.gethostname(),
            machine=machine(),
            process=os.getpid(),
            job=job,
            device=device,
            threads=threads,
            gpus=gpus if job else 0,
            gpu_class=gpu_class if gpus else "",
        )
        earlier = [] if self._file is None else read_attempts(self._file)
        self._earlier = [] if earlier and earlier[-1].end == FINISHED else earlier

    def take_gpus(self, share: float) -> None:
        """Count this number of GPUs, which may be a fraction, as held from now on."""
        self._took_gpus, self._now.gpus = time.time(), share

    def use(self, device: str) -> None:
        """Set the device that it computes on."""
        self._now.device = device

    def all(self, end: str = "") -> list[Attempt]:
        """Return all attempts since the stage last finished, with this one as it is now."""
        instant = time.time()
        held = 0.0 if self._took_gpus is None else instant - self._took_gpus
        spent = {"seconds": round(instant - self._begin, 2), "gpu_seconds": round(held * self._now.gpus, 2)}
        return [*self._earlier, self._now.model_copy(update={**spent, "end": end, "reason": self.reason})]

    def note(self) -> None:
        """Write the record."""
        if self._file is not None:
            with suppress(OSError):  # no reason to fail: a full disk stops the stage itself, with a message
                write_json(self._file, _LIST.dump_python(self.all(self.end), mode="json"))


_this: ThisAttempt | None = None


@contextmanager
def recorded(
    stage: str, log: Path | None, device: str, threads: int, gpus: int = 0, gpu_class: str = "", run: str = ""
) -> Iterator[ThisAttempt]:
    """Record this process as an attempt at a stage while the block runs, which sets `end` and `reason`.

    Args:
        stage: module that runs.
        log: of the stage, beside which the record is kept; None keeps none.
        device: that it computes on until it takes a GPU.
        threads: CPUs that it was given.
        gpus: how many it will take.
        gpu_class: of these.
        run: AREA/SCENE/VARIANT.
    """
    global _this
    _this = ThisAttempt(stage, log, device, threads, gpus, gpu_class, run)
    _this.note()
    try:
        with _repeated(BEAT_SECONDS, _this.note):
            yield _this
    finally:
        _this.note()
        _this = None


@contextmanager
def _repeated(seconds: float, action: Any) -> Iterator[None]:
    """Call `action` every so many seconds, from a thread, while the block runs; a kill of the process ends it too."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(seconds):
            action()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def this_attempt() -> ThisAttempt | None:
    """Return the attempt of this process; None where the process runs no stage."""
    return _this


def process_seconds(at: float | None = None) -> float:
    """Measure the wall time of this process until `at` (seconds since 1970), or until now."""
    return (time.time() if at is None else at) - psutil.Process().create_time()


@cache
def machine() -> str:
    """Return a digest of this machine since its last boot and of this container: process numbers are unique in it."""
    names = Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256("".join(names).encode()).hexdigest()[:8]


def read_attempts(record: Path) -> list[Attempt]:
    """Read the attempts in a record, oldest first; return none if the file is missing or is no record."""
    try:
        return _LIST.validate_json(read_small(record))
    except (OSError, ValidationError):
        return []


class State(StrEnum):
    """State of a stage."""

    WAITING = "waiting"
    """Stage that has not been started."""
    RUNNING = "running"
    """Stage whose process lives or, on another machine, has lately updated its record."""
    DONE = "done"
    FAILED = FAILED
    STOPPED = STOPPED
    """Stage that was told to stop and saved its state: running it again continues."""
    KILLED = "killed"
    """Stage whose process is gone without having written why."""


@dataclass(frozen=True)
class Status:
    """State of a stage after its last attempt, with the reason."""

    state: State
    reason: str = ""
    """Reason why it failed or stopped, one line."""


def stage_status(log: Path) -> Status:
    """Return the status of the stage with this log after its last attempt; without a record it is `waiting`."""
    record = log.with_suffix(SUFFIX)
    attempts = read_attempts(record)
    if not attempts:
        return Status(State.WAITING)
    last = attempts[-1]
    if last.end == FINISHED:
        return Status(State.DONE)
    if last.end:
        return Status(State.STOPPED if last.end == STOPPED else State.FAILED, last.reason)
    if _lives(last, record):
        return Status(State.RUNNING)
    return Status(State.KILLED, f"ended without a word: killed, out of memory or a crash; see {log}")


def statuses(logs: Path) -> Iterator[tuple[Path, Status]]:
    """Yield the log and the status of each stage that has a record in a folder of logs, in the order of their paths."""
    for record in sorted(logs.rglob(f"*{SUFFIX}")):
        log = record.with_name(f"{record.name.removesuffix(SUFFIX)}.log")
        yield log, stage_status(log)


def _lives(attempt: Attempt, record: Path) -> bool:
    if attempt.machine != machine():
        return abs(time.time() - record.stat().st_mtime) < _SILENT_SECONDS
    try:
        process = psutil.Process(attempt.process)
        begun = datetime.strptime(attempt.started, _TIME).replace(tzinfo=UTC).timestamp()
        return abs(process.create_time() - begun) < _SAME_START and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):
        return False


_TIME = "%Y-%m-%dT%H:%M:%SZ"


def _as_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME)
