"""The Slurm executor, but patient with a controller that does not answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any


def wait_for_the_controller() -> None:
    """Let Snakemake's Slurm executor keep its jobs while Slurm can't be asked for them.

    Version 2.8.0 drops all running jobs when each query of a round fails, as in an outage of slurmctld, and then
    waits for ever for jobs that it does not look at any more. Here they are asked for again in the next round.
    """
    from snakemake_executor_plugin_slurm import Executor

    if getattr(Executor, "_keeps_jobs", False):
        return
    look = Executor.check_active_jobs

    async def look_patiently(self: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        answers = self._status_query_calls if active_jobs else 0  # the first round begins before the executor is made
        async for job in look(self, active_jobs):
            yield job
        if active_jobs and self._status_query_calls == answers:
            self.logger.warning("Slurm does not say how the jobs are; asking again")
            for job in active_jobs:
                yield job

    Executor.check_active_jobs = look_patiently
    Executor._keeps_jobs = True
