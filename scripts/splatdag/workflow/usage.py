"""Usage of every attempt at a stage, noted beside its log while it runs, so that a kill loses little of it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, TypeAdapter, ValidationError

from splatdag.workflow.heartbeat import repeated
from splatdag.workflow.publish import write_json

NOTE_SECONDS = 30.0
"""Time between two notes of a running attempt; what a kill loses at most."""
SUFFIX = ".usage.json"
"""Of the file beside a log, in place of `.log`."""


class Usage(BaseModel):
    """Usage of one attempt so far."""

    part: str = ""
    """Part of a run that it was an attempt at, such as `train` or `001/evaluate`; set in the run's manifest."""
    started: str
    """When its process began, in UTC."""
    seconds: float
    """Wall time of its process."""
    end: str = ""
    """How it ended: `finished`, `failed`, `stopped` or an exit reason; empty while it runs, and where it was killed."""
    device: str
    """GPU, or processor where there is none."""
    threads: int
    """CPUs it was given."""
    gpus: float = 0
    """GPUs it held; half a one where two jobs shared one."""
    gpu_seconds: float = 0
    """Seconds it held them, times their number."""
    gpu_class: str = ""
    """Class of GPU that its rule asks for."""
    host: str
    """Name of the machine."""
    job: str | None = None
    """Slurm job; None where it ran without Slurm."""


_LIST = TypeAdapter(list[Usage])


class Counted:
    """The attempt of this process. Under Slurm it holds its GPUs from its start on, else once it took them."""

    def __init__(
        self,
        log: Path | None,
        device: str,
        threads: int,
        gpus: int,
        gpu_class: str,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        """Count from the start of the process.

        Args:
            log: of the stage, beside which the notes are kept.
            device: that it computes on until it takes a GPU.
            threads: CPUs that it was given.
            gpus: how many it will take.
            gpu_class: of these.
            arguments: of the stage, by name.
        """
        self.arguments = arguments or {}
        job = os.environ.get("SLURM_JOB_ID")
        self._begin = psutil.Process().create_time()
        self._took_gpus = self._begin if gpus and job else None
        self._file = None if log is None else log.with_suffix(SUFFIX)
        self.end = ""
        self._now = Usage(
            started=datetime.fromtimestamp(self._begin, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=0,
            device=device,
            threads=threads,
            gpus=gpus if job else 0,
            gpu_class=gpu_class if gpus else "",
            host=socket.gethostname(),
            job=job,
        )
        earlier = [] if self._file is None else read_usage(self._file)
        self._earlier = [] if earlier and earlier[-1].end == "finished" else earlier

    def take_gpus(self, share: float) -> None:
        """Count so many GPUs from now on."""
        self._took_gpus, self._now.gpus = time.time(), share

    def use(self, device: str) -> None:
        """Say what it computes on."""
        self._now.device = device

    def all(self, end: str = "") -> list[Usage]:
        """All attempts since the stage last finished, with this one, as it is now."""
        instant = time.time()
        held = 0.0 if self._took_gpus is None else instant - self._took_gpus
        spent = {"seconds": round(instant - self._begin, 2), "gpu_seconds": round(held * self._now.gpus, 2)}
        return [*self._earlier, self._now.model_copy(update={**spent, "end": end})]

    def note(self) -> None:
        """Write down what all attempts used."""
        if self._file is not None:
            with suppress(OSError):  # no reason to fail: a full disk stops the stage itself, with a message
                write_json(self._file, _LIST.dump_python(self.all(self.end), mode="json"))


_counted: Counted | None = None


@contextmanager
def counted(
    log: Path | None, device: str, threads: int, gpus: int, gpu_class: str, arguments: dict[str, Any] | None = None
) -> Iterator[Counted]:
    """Count what this process uses while the block runs, which sets `end` to how it ended; arguments as `Counted`."""
    global _counted
    _counted = Counted(log, device, threads, gpus, gpu_class, arguments)
    _counted.note()
    try:
        with repeated(NOTE_SECONDS, _counted.note):
            yield _counted
    finally:
        _counted.note()
        _counted = None


def this_attempt() -> Counted | None:
    """The attempt of this process; None where it is no stage."""
    return _counted


def process_seconds(at: float | None = None) -> float:
    """Measure the wall time of this process until `at` (seconds since 1970), or until now."""
    return (time.time() if at is None else at) - psutil.Process().create_time()


def read_usage(path: Path) -> list[Usage]:
    """The attempts that a file tells of, oldest first; none if it is missing or no such file."""
    try:
        return _LIST.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return []
