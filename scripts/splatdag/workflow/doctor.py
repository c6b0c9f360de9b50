"""Remains of a killed Snakemake in a folder: a lock, stages that still run, jobs in Slurm, stages that were killed."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from splatdag.workflow.attempts import State, statuses
from splatdag.workflow.slurm import LiveJob

_NAMED = 10
"""Largest number of jobs, and of stages, that are listed."""
_THEMSELVES = ("splatdag.commands.doctor", "splatdag.commands.status")
"""Modules whose processes do not count as stages that are left over."""


def advice(folder: Path, jobs: list[LiveJob], cancelled: bool = False) -> list[str]:
    """Return lines for the terminal: the problems of a folder, and the commands that solve them.

    Args:
        folder: folder in which Snakemake is run.
        jobs: live Slurm jobs of the folder.
        cancelled: whether these have just been cancelled.
    """
    running = list(_controllers(folder))
    stages = [] if running else list(_orphans(folder))
    cut_off = [] if running or stages or jobs else killed(folder / "logs")
    age = lock_age(folder)
    lines: list[str] = []
    if running:
        ids = ", ".join(map(str, running))
        lines += [
            f"Snakemake is running here (process {ids}): the lock and the jobs are its own; wait for it, or stop it"
        ]
        lines += (
            [f"    kill -INT {running[0]}    # as Ctrl-C: cancels its jobs"]
            if jobs
            else [
                f"    kill -TERM {running[0]}    # its jobs end first, and what they made is kept",
                f"    kill -TERM -- -{os.getpgid(running[0])}    # its jobs stop, too; trainings save their state",
            ]
        )
    if jobs:
        lines += [*described(jobs), "    cancelled" if cancelled else "    python -m splatdag.commands.doctor --cancel"]
    if age is not None and not running:
        lines += [
            f"a lock from {age} ago, and no Snakemake in this folder on this machine: it was killed, or runs elsewhere",
            "    snakemake --unlock    # if it does not run on another machine either",
        ]
    for process, module in stages:
        lines += [
            f"{module} runs here (process {process}) without a Snakemake, which was killed if you did not start it"
            " yourself: wait until it has finished, or stop it; a training saves its state",
            f"    kill {process}",
        ]
    if cut_off:
        count = f"{len(cut_off)} {'stage was' if len(cut_off) == 1 else 'stages were'}"
        lines += [
            f"{count} killed; the next run makes what is missing (trainings go on):",
            *(f"    {log}" for log in cut_off[:_NAMED]),
            *([f"    and {len(cut_off) - _NAMED} more"] if len(cut_off) > _NAMED else []),
            "    snakemake --rerun-incomplete    # as you ran it before; the profiles here have the flag already",
        ]
    return lines or ["nothing in the way: no lock, no jobs of this folder"]


def described(jobs: list[LiveJob]) -> list[str]:
    """Return lines on live jobs: their number by state, the number of their runs, and the first of them."""
    runs, states = len({job.run for job in jobs}), Counter(job.state.lower() for job in jobs)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    lines = [f"jobs of this folder in Slurm, of {runs} run{'s' if runs > 1 else ''}: {counts}"]
    lines += [f"    {job.job_id}  {job.state.lower()}  {job.what}" for job in jobs[:_NAMED]]
    return lines + ([f"    and {len(jobs) - _NAMED} more"] if len(jobs) > _NAMED else [])


def lock_age(folder: Path) -> str | None:
    """Return the age of Snakemake's lock on a folder as text; None if it is not locked."""
    times = [lock.stat().st_mtime for lock in (folder / ".snakemake" / "locks").glob("*.lock")]
    if not times:
        return None
    minutes = int(max(0, time.time() - min(times)) // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def killed(logs: Path) -> list[Path]:
    """Return the logs of the stages whose last attempt was killed."""
    return [log for log, status in statuses(logs) if status.state is State.KILLED]


def _controllers(folder: Path) -> Iterator[int]:
    """Yield the ids of Snakemake's processes in this folder, on this machine, that are not jobs of another."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words, place = process.info["cmdline"] or [], process.info["cwd"]
        own = _is_snakemake(words) and "--mode" not in words and "--unlock" not in words
        if own and place and Path(place) == folder.resolve():
            yield process.pid


def _orphans(folder: Path) -> Iterator[tuple[int, str]]:
    """Yield id and module of each stage's process in this folder, on this machine, that no Snakemake waits for."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words, place = process.info["cmdline"] or [], process.info["cwd"]
        module = words[2] if words[1:2] == ["-m"] and len(words) > 2 else ""
        if not place or Path(place) != folder.resolve() or not module.startswith("splatdag."):
            continue
        with suppress(psutil.Error):
            parents = [parent.cmdline() for parent in process.parents()]
            if module not in _THEMSELVES and not any(map(_is_snakemake, parents)):
                yield process.pid, module


def _is_snakemake(words: list[str]) -> bool:
    return any(Path(word).name == "snakemake" for word in words[:3])
