"""Why a folder can't be run in: a lock that a killed Snakemake left, jobs of it that are still in Slurm."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from splatdag.workflow.slurm import LiveJob

_NAMED = 10
"""Jobs that are listed at most."""


def advice(folder: Path, jobs: list[LiveJob], cancelled: bool = False) -> list[str]:
    """What is wrong with a folder and the commands that mend it, as lines for the terminal.

    Args:
        folder: where Snakemake is run.
        jobs: live Slurm jobs of the folder.
        cancelled: whether these have just been cancelled.
    """
    running = list(_controllers(folder))
    age = lock_age(folder)
    lines: list[str] = []
    if running:
        ids = ", ".join(map(str, running))
        lines += [
            f"Snakemake is running here (process {ids}): the lock and the jobs are its own; wait for it, or stop it"
        ]
        lines += [f"    kill -INT {running[0]}    # as Ctrl-C: cancels its jobs"]
    if jobs:
        lines += [*described(jobs), "    cancelled" if cancelled else "    python -m splatdag.doctor --cancel"]
    if age is not None and not running:
        lines += [
            f"a lock from {age} ago, and no Snakemake in this folder on this machine: it was killed, or runs elsewhere",
            "    snakemake --unlock    # if it does not run on another machine either",
        ]
    return lines or ["nothing in the way: no lock, no jobs of this folder"]


def described(jobs: list[LiveJob]) -> list[str]:
    """How many jobs of which runs, and the first of them."""
    runs, states = len({job.run for job in jobs}), Counter(job.state.lower() for job in jobs)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    lines = [f"jobs of this folder in Slurm, of {runs} run{'s' if runs > 1 else ''}: {counts}"]
    lines += [f"    {job.job_id}  {job.state.lower()}  {job.what}" for job in jobs[:_NAMED]]
    return lines + ([f"    and {len(jobs) - _NAMED} more"] if len(jobs) > _NAMED else [])


def lock_age(folder: Path) -> str | None:
    """How long ago Snakemake locked a folder, for reading; None if it is not locked."""
    times = [lock.stat().st_mtime for lock in (folder / ".snakemake" / "locks").glob("*.lock")]
    if not times:
        return None
    minutes = int(max(0, time.time() - min(times)) // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _controllers(folder: Path) -> Iterator[int]:
    """Processes of Snakemake in this folder, on this machine, that are not jobs of another."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words, place = process.info["cmdline"] or [], process.info["cwd"]
        called = any(Path(word).name == "snakemake" or word == "snakemake" for word in words[:3])
        if called and place and Path(place) == folder.resolve() and "--mode" not in words and "--unlock" not in words:
            yield process.pid
