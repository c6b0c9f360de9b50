"""The loop of every training: it goes on from the saved state, steps, notes figures, saves, and stops when told to."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from splatdag.training.checkpoint import StateFile
from splatdag.training.devices import out_of_memory_explained
from splatdag.training.ranks import Ranks
from splatdag.training.spawn import spawn
from splatdag.training.stop_request import StopRequest
from splatdag.workflow.errors import Stopped

logger = logging.getLogger(__name__)
_REPORT_SECONDS = 5.0
"""Seconds between two lines of progress."""


class Figures(NamedTuple):
    """Loss and PSNR of a step, for the curves."""

    loss: float
    """Loss over all ranks."""
    psnr: float
    """PSNR (dB) of what was trained on; NaN where no pixel counted, which leaves the step out of the curves."""


class Training(Protocol):
    """A training, as an area defines it. Every rank has one; all take the same steps and hold the same tensors."""

    step: int
    """Steps done; those of a checkpoint that it began with count."""
    steps: int
    """Steps after which it ends; it may lower them to end early."""
    checkpoint_every: int
    """Steps between two saves of the state."""

    @property
    def gaussians(self) -> int | None:
        """Count the Gaussians that are trained, if any are."""

    def tensors(self) -> Sequence[Tensor]:
        """Return the float32 tensors that must be equal on all ranks."""

    def begin(self, progress: Progress, resumed: bool) -> None:
        """Get ready for the next step, after `load` where an earlier attempt is `resumed`; every rank calls it.

        A training that begins with a checkpoint sets `progress.begun_at`.
        """

    def advance(self) -> Figures | None:
        """Take one step; returns figures where the curves get a point, which must be on all ranks at once."""

    def due(self, last: bool) -> list[Callable[[], None]]:
        """List what rank 0 measures and writes after this step, before the state is saved."""

    def state(self) -> dict[str, Any]:
        """Return everything that a step changes; every rank calls it and rank 0 saves it."""

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another process."""

    def finish(self) -> None:
        """Measure and write what was learnt: rank 0, when the last state is saved; again if a kill comes between."""

    def close(self) -> None:
        """Free what the steps needed; also after an error."""


T = TypeVar("T", bound=Training)
Make = Callable[[torch.device, Ranks], T]
"""Function that makes the training of a rank."""


@dataclass
class Progress:
    """Progress of a training over all attempts; part of its saved state."""

    begun_at: int = 0
    """Steps that were not its own: of the checkpoint that it began with."""
    curve: list[list[float]] = field(default_factory=list)
    """Rows of step, loss and PSNR (dB)."""
    seconds: float = 0.0
    """Wall time of the steps; what is measured and written in between is left out."""
    ended: bool = False
    """Whether no step is left."""


@dataclass
class Result(Generic[T]):
    """A training that has ended."""

    training: T
    progress: Progress
    began: float
    """Time at which this attempt began (seconds since 1970)."""
    rank_seconds: float
    """Wall time until the other ranks were there."""
    rank_memory_mb: float
    """Largest allocation on any rank's GPU, in MB; 0 where there is one rank."""


def run_training(
    make: Make[T],
    state_file: StateFile,
    device: torch.device,
    ranks: int = 1,
    *,
    advice: str,
    make_worker: Make[Any] | None = None,
    prepare: Callable[[], object] = lambda: None,
) -> Result[T]:
    """Train; continues from the saved state if there is one.

    Args:
        make: makes the training of rank 0.
        state_file: where the state is saved: every `checkpoint_every` steps, after the last, and on SIGTERM.
        device: where to train.
        ranks: GPUs that share each step; the first is `device`. (On the CPU, for tests, processes.)
        advice: options to change where the GPU is too small.
        make_worker: makes the training of the other ranks, in their processes; something that can be pickled.
        prepare: makes a CUDA device of another rank ready; a function of a module.

    Raises:
        Stopped: SIGTERM arrived; the state is saved.
        OutOfDeviceMemory: the GPU is too small.
        UserError: the training can't go on, or the saved state does not fit.
        RankFailed: the process of another GPU failed.
    """
    training: T | None = None

    def where() -> tuple[int, int | None]:
        return (0, None) if training is None else (training.step, training.gaussians)

    began, begin = time.time(), time.perf_counter()
    with out_of_memory_explained(device, advice, where):
        with spawn(ranks, _work, (make_worker, state_file.path), device, prepare) as team:
            rank_seconds = time.perf_counter() - begin
            saved = state_file.load(device)
            team.any(saved is not None, device)  # where it is, the others read it now
            training = make(device, team)
            try:
                resumed = saved is not None
                with state_file.fitting():
                    progress = _loaded(training, saved)
                saved = None  # what the training did not take is memory of the device
                if resumed:
                    logger.info("continuing after step %d", training.step)
                training.begin(progress, resumed)
                _take_steps(training, progress, team, device, partial(_save, state_file, training, progress))
                memory_mb = team.leave(device)
            finally:
                training.close()
        training.finish()
    return Result(training, progress, began, rank_seconds, memory_mb)


def _work(given: tuple[Make[Any], Path], device: torch.device, ranks: Ranks) -> None:
    """Take every step with rank 0, in a process of its own."""
    make, state = given
    resumed = ranks.any(False, device)
    saved = torch.load(state, map_location=device, weights_only=True)["state"] if resumed else None
    training = make(device, ranks)
    progress = _loaded(training, saved)
    saved = None
    training.begin(progress, resumed)
    with suppress(Stopped):
        _take_steps(training, progress, ranks, device, lambda state: None)
        ranks.leave(device)


def _loaded(training: Training, saved: dict[str, Any] | None) -> Progress:
    if saved is None:
        return Progress()
    training.load(saved["training"])
    return Progress(**{name: saved[name] for name in Progress.__dataclass_fields__})


def _save(state_file: StateFile, training: Training, progress: Progress, state: dict[str, Any]) -> None:
    state_file.save({"step": training.step, **vars(progress), "training": state})


def _take_steps(
    training: Training,
    progress: Progress,
    ranks: Ranks,
    device: torch.device,
    save_state: Callable[[dict[str, Any]], None],
) -> None:
    stop = StopRequest()
    clock, reported = time.perf_counter(), 0.0
    while not progress.ended:
        figures = training.advance()
        last = training.step >= training.steps
        if figures is not None:
            if not math.isnan(figures.psnr):
                progress.curve.append([float(training.step), *figures])
            stop.agree(ranks, device)
        if ranks.first and (last or time.perf_counter() - reported > _REPORT_SECONDS):
            reported = time.perf_counter()
            _report(training, progress, progress.seconds + reported - clock)
        due = training.due(last)
        saves = last or stop.seen(ranks) or training.step % training.checkpoint_every == 0
        if not due and not saves:
            continue
        _synchronise(device)
        ranks.check_replicas(training.tensors(), training.step)
        progress.seconds += time.perf_counter() - clock
        if due:
            if ranks.first:
                for action in due:
                    action()
            ranks.barrier()
        if saves:
            progress.ended = last
            state = training.state()
            if ranks.first:
                save_state(state)
            if stop.seen(ranks) and not last:
                ranks.leave(device)
                raise Stopped(f"state saved after step {training.step}; run the same command again to continue")
            ranks.barrier()
        clock = time.perf_counter()


def _report(training: Training, progress: Progress, seconds: float) -> None:
    loss, psnr = progress.curve[-1][1:] if progress.curve else (math.nan, math.nan)
    count = "" if training.gaussians is None else f" {training.gaussians} Gaussians,"
    each = seconds / max(training.step - progress.begun_at, 1)
    logger.info(
        "step %d of %d, loss %.4f, %.1f dB,%s %.0f ms a step, %.0f s left",
        training.step, training.steps, loss, psnr, count, 1e3 * each, each * (training.steps - training.step),
    )  # fmt: skip


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
