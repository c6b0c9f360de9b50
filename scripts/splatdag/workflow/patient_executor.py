"""The Slurm executor, but patient with a controller that does not answer, and soon and completely ended by Ctrl-C."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from splatdag.workflow.errors import UserError
from splatdag.workflow.slurm import cancel_run


def mend_executor() -> None:
    """Mend what version 2.8.0 does with jobs that Slurm is being asked for, and how long it sleeps."""
    from snakemake_executor_plugin_slurm import Executor

    if not getattr(Executor, "_is_mended", False):
        Executor.check_active_jobs = _looks_patiently(Executor.check_active_jobs)
        Executor.cancel = _cancel
        Executor.sleep = _sleep
        Executor._is_mended = True


def _looks_patiently(look: Any) -> Any:
    """Keep jobs while Slurm can't be asked for them.

    The executor drops all running jobs when each query of a round fails, as in an outage of slurmctld, and then waits
    for ever for jobs that it does not look at any more. Here they are asked for again in the next round.
    """

    async def look_patiently(self: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        answers = self._status_query_calls if active_jobs else 0  # the first round begins before the executor is made
        async for job in look(self, active_jobs):
            yield job
        if active_jobs and self._status_query_calls == answers:
            self.logger.warning("Slurm does not say how the jobs are; asking again")
            for job in active_jobs:
                yield job

    return look_patiently


def _cancel(self: Any) -> None:
    """Cancel all jobs of the run, by its name: those that are just being submitted or asked for are in no list."""
    self._job_submission_executor.shutdown(wait=False, cancel_futures=True)
    _cancel_run(self)
    self.shutdown()  # after this, no job of the run is new
    _cancel_run(self)


def _cancel_run(executor: Any) -> None:
    try:
        cancel_run(executor.run_uuid)
    except UserError as error:
        executor.logger.error(f"{error}; see what is left: `python -m splatdag.commands.doctor`")


async def _sleep(self: Any) -> None:
    """Sleep between two rounds, which is up to three minutes, no longer than until the run is to end."""
    until = time.monotonic() + self.next_seconds_between_status_checks
    while self.wait and (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, 0.5))
