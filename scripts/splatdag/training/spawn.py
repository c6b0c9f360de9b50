"""The other ranks of a training as processes ("workers"): started, watched and ended by rank 0, the stage itself."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numba
import torch
import torch.distributed as dist

from splatdag.training import worker
from splatdag.training.ranks import ALONE, RankFailed, Ranks
from splatdag.workflow.attempts import FAILED
from splatdag.workflow.errors import UserError

logger = logging.getLogger(__name__)
TIMEOUT = timedelta(minutes=10)
"""Time limit of a collective, against waiting for ever. No rank waits in one while rank 0 evaluates."""
_PATIENCE = 30.0
"""Seconds that the first rank has to notice that another failed, before its process is ended."""


@dataclass
class Task:
    """A worker's part in a training."""

    main: Callable[[Any, torch.device, Ranks], None]
    """Function of a module: takes part in the training, with `work`, its own device and its place among the ranks."""
    work: Any
    """Argument of `main`: its data and options."""
    prepare: Callable[[], object]
    """Function of a module: makes a CUDA device ready before the ranks meet."""
    device: str
    """Kind of device: `cuda`, each rank its own; or `cpu`, for tests."""
    rendezvous: Path
    """File by which the ranks find each other."""
    count: int
    """Number of all ranks."""
    threads: int
    """CPU threads of each rank."""


@contextmanager
def spawn(
    count: int,
    main: Callable[[Any, torch.device, Ranks], None],
    work: Any,
    device: torch.device,
    prepare: Callable[[], object],
) -> Iterator[Ranks]:
    """Make this process rank 0 of `count` ranks, whose others run `main` until the block ends.

    They get their data through memory that has no name and is freed with the last process, and end with this one,
    however it ends. A failure of one of them ends the block with its error.

    Args:
        count: of all ranks; with 1 there are no others.
        main: of the others, a function of a module.
        work: what it gets.
        device: of this rank; the others have devices of the same kind.
        prepare: called by each of the others that has a CUDA device, before the ranks meet; a function of a module.

    Raises:
        RankFailed: a rank ended before its time.
    """
    if count == 1:
        yield ALONE
        return
    with tempfile.TemporaryDirectory(prefix="splatdag-ranks-") as folder:
        task = Task(main, work, prepare, device.type, Path(folder) / "rendezvous", count, numba.get_num_threads())
        workers = _Workers(task)
        try:
            workers.wait_until_ready()
            init_process_group(task, 0)
            yield Ranks(0, count, workers.check, workers.release)
        except Exception as error:
            # Where a rank is lost, the collectives of the others fail too, and that is often the first to be seen.
            if not isinstance(error, UserError | RankFailed | torch.OutOfMemoryError):
                workers.check(patience=3)
            raise
        finally:
            workers.end()
            _destroy_process_group()


def init_process_group(task: Task, rank: int) -> None:
    """Meet the other ranks."""
    # By default NCCL's watchdog would end this process, without a word in its log, where another rank is lost.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "nccl" if task.device == "cuda" else "gloo",
        init_method=f"file://{task.rendezvous}",
        rank=rank,
        world_size=task.count,
        timeout=TIMEOUT,
        device_id=torch.device("cuda", rank) if task.device == "cuda" else None,
    )


def _destroy_process_group() -> None:
    """Leave the process group, whether the other ranks are there still or not."""
    if not dist.is_initialized():
        return
    if dist.get_backend() == "nccl":
        with suppress(RuntimeError):  # aborted already
            dist.distributed_c10d._abort_process_group()
    else:
        dist.destroy_process_group()


class _Workers:
    """The processes of all ranks but the first."""

    def __init__(self, task: Task) -> None:
        self.failure: Exception | None = None
        self._noticed = threading.Event()
        self._ending = False
        self._processes = _start(task)
        self._ready = [threading.Event() for _ in self._processes]
        self._watchers = [
            threading.Thread(target=self._watch, args=(index, process), daemon=True)
            for index, process in enumerate(self._processes)
        ]
        for watcher in self._watchers:
            watcher.start()

    def wait_until_ready(self) -> None:
        """Wait until every process has its data and is about to join."""
        for ready in self._ready:
            ready.wait()
            self.check()

    def check(self, patience: float = 0.0) -> None:
        """Raise the error of a rank that failed, or fails within so many seconds."""
        end = time.monotonic() + patience
        while self.failure is None and time.monotonic() < end:
            time.sleep(0.05)
        if self.failure is not None:
            self._noticed.set()
            raise self.failure

    def release(self) -> None:
        """Let the workers go on, which wait in `barrier`."""
        self.check()
        for process in self._processes:
            assert process.stdin is not None
            try:
                process.stdin.write(b".")
                process.stdin.flush()
            except BrokenPipeError:
                self.check(patience=3)
                raise

    def end(self) -> None:
        """End what still runs; a rank that is done is gone by now, or about to go."""
        self._ending = True
        self._noticed.set()
        for process in self._processes:
            assert process.stdin is not None
            if process.poll() is None:
                process.kill()
            process.stdin.close()
        for watcher in self._watchers:
            watcher.join()

    def _watch(self, index: int, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        said: dict[str, str] = {}
        for line in process.stdout:
            said = json.loads(line)
            if "ready" in said:
                self._ready[index].set()
        code = process.wait()
        if (code or not self._ready[index].is_set()) and not self._ending and self.failure is None:
            self.failure = _failure(f"GPU {index + 2} of {len(self._processes) + 1}", said, code)
            self._ready[index].set()
            self._interrupt()

    def _interrupt(self) -> None:
        """Get the main thread out of a collective or of waiting for its result, which the lost rank will never join."""
        group = dist.group.WORLD
        if group is not None and dist.get_backend() == "nccl":
            group.abort()
        if not self._noticed.wait(_PATIENCE) and not self._ending:
            logger.error("%s: %s", FAILED, self.failure)
            os._exit(1)


def _failure(name: str, said: dict[str, str], code: int) -> Exception:
    """The error to raise here for a rank that ended with `code`."""
    if "kind" not in said:
        reason = f"was ended by signal {-code}; was there enough memory?" if code < 0 else f"ended with code {code}"
        return RankFailed(f"{name} {reason}")
    if said["kind"] == UserError.__name__:
        return UserError(said["message"])
    if said["kind"] == torch.OutOfMemoryError.__name__:
        return torch.OutOfMemoryError(f"{name}: {said['message']}")
    failure = RankFailed(f"{name}: {said['kind']}: {said['message']}")
    failure.add_note(said["traceback"])
    return failure


def _start(task: Task) -> list[subprocess.Popen[bytes]]:
    memory = os.memfd_create("splatdag-task")
    # Slurm sends SIGTERM to all processes of a job, a terminal SIGINT and SIGHUP; only the first rank may heed them.
    # A blocked signal stays blocked in a child from its first moment on, and one that arrives now reaches this process
    # after.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    try:
        with os.fdopen(os.dup(memory), "wb") as file:
            torch.save(task, file)
        command = [sys.executable, "-m", worker.__name__, str(memory), str(os.getpid())]
        return [
            subprocess.Popen([*command, str(rank)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(memory,))
            for rank in range(1, task.count)
        ]
    finally:
        os.close(memory)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
