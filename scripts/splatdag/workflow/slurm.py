"""Slurm's own commands, to list live jobs of a folder, partitions and accounts, and to cancel jobs."""

from __future__ import annotations

import getpass
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splatdag.workflow.errors import UserError

_RUN_NAME = re.compile(r"(?:[\w-]+_)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""Job name that Snakemake's Slurm executor gives to all jobs of a run."""
_SECONDS = 60


@dataclass(frozen=True)
class LiveJob:
    """A job that is waiting or running."""

    job_id: str
    state: str
    """State of the job in Slurm's words: PENDING, RUNNING, …"""
    run: str
    """The run of Snakemake that it belongs to."""
    what: str
    """Rule and wildcards."""


def live_jobs(folder: Path) -> list[LiveJob]:
    """List this user's jobs that runs of Snakemake in this folder submitted and that have not ended.

    Raises:
        UserError: squeue is not there or does not answer.
    """
    listed = _answer("squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i|%T|%j|%Z|%k")
    rows = [line.split("|", maxsplit=4) for line in listed.splitlines() if line.count("|") >= 4]
    return [
        LiveJob(job_id, state, run, what.removeprefix("rule_").replace("_wildcards_", " "))
        for job_id, state, run, place, what in rows
        if what.startswith(("rule_", "group_"))
        and _RUN_NAME.fullmatch(run)
        and Path(place).resolve() == folder.resolve()
    ]


def cancel(jobs: Sequence[LiveJob]) -> None:
    """Cancel these jobs and no others; trainings save their state.

    Raises:
        UserError: scancel is not there or fails.
    """
    _answer("scancel", *(job.job_id for job in jobs))


def cancel_run(run: str) -> None:
    """Cancel all jobs of a run of Snakemake, by the name that they share; trainings save their state.

    Raises:
        UserError: scancel is not there or fails.
    """
    _answer("scancel", f"--name={run}", f"--user={getpass.getuser()}")


def partitions() -> list[str]:
    """List the names of the cluster's partitions.

    Raises:
        UserError: sinfo is not there or does not answer.
    """
    return _answer("sinfo", "--noheader", "--format", "%R").split()


def accounts() -> list[str]:
    """List the accounts that this user may charge jobs to; none where the cluster keeps none or does not tell."""
    try:
        return _answer("sacctmgr", "-nP", "show", "assoc", f"user={getpass.getuser()}", "format=account").split()
    except UserError:
        return []


def _answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        raise UserError(f"{command[0]}: not found; run this where jobs are submitted, such as a login node") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: no answer in {_SECONDS} s; is Slurm's controller up? `scontrol ping`") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["failed"]
        raise UserError(f"{command[0]}: {said[-1].removeprefix(f'{command[0]}: ')}")
    return done.stdout
