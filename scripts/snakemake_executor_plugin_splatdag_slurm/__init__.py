"""Snakemake's executor `splatdag-slurm`: the Slurm plugin's, with its flags `--slurm-…`, and two changes.

It keeps jobs while Slurm does not answer, and Ctrl-C cancels all jobs of the run without a long wait. Snakemake finds
this package by its name.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_executor_plugin_slurm import common_settings as common_settings
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from splatdag.workflow.errors import UserError
from splatdag.workflow.profiles import snakemake_options
from splatdag.workflow.slurm import cancel_run


class Executor(SlurmExecutor):
    """Slurm executor that keeps its jobs while the controller does not answer, and cancels all of them at Ctrl-C."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        """Take the settings of the Slurm plugin, since this one has no flags of its own."""
        workflow.executor_settings = slurm_settings(sys.argv[1:])
        self.cancelled = False
        self.ended: set[str] = set()
        super().__init__(workflow, logger)

    def run_job(self, job: Any) -> None:
        """Submit a job, unless the run is being cancelled."""
        if not self.cancelled:
            super().run_job(job)

    def run_array_jobs(self, jobs: Any) -> None:
        """Submit jobs as an array, unless the run is being cancelled."""
        if not self.cancelled:
            super().run_array_jobs(jobs)

    def report_job_success(self, job_info: Any) -> None:
        """Tell Snakemake that a job ended well."""
        self.ended.add(job_info.external_jobid)
        super().report_job_success(job_info)

    def report_job_error(self, job_info: Any, msg: str | None = None, **more: Any) -> None:
        """Tell Snakemake that a job failed."""
        self.ended.add(job_info.external_jobid)
        super().report_job_error(job_info, msg, **more)

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncIterator[Any]:
        """Yield the jobs that have not ended, also those that Slurm says nothing about.

        Version 2.8.0 drops all running jobs when each query of a round fails, as in an outage of slurmctld, and then
        waits for ever for jobs that it does not look at any more.
        """
        active = set()
        async for job in super().check_active_jobs(active_jobs):
            active.add(job.external_jobid)
            yield job
        untold = [job for job in active_jobs if job.external_jobid not in active | self.ended]
        if untold:
            self.logger.warning("Slurm does not say how the jobs are; asking again")
        for job in untold:
            yield job

    def cancel(self) -> None:
        """Cancel all jobs of the run, by its name, since jobs just being submitted or queried are in no list."""
        self.cancelled = True
        self.cancel_run()
        self.shutdown()  # after this, no job of the run is new
        self.cancel_run()

    def cancel_run(self) -> None:
        """Cancel the run's jobs that are in Slurm now; if Slurm does not answer, log the command to type."""
        try:
            cancel_run(self.run_uuid)
        except UserError as error:
            self.logger.error(f"{error}; see what is left: `python -m splatdag.commands.doctor`")

    async def sleep(self) -> None:
        """Sleep between two rounds of queries, which takes up to three minutes, but not after the run is to end."""
        until = time.monotonic() + self.next_seconds_between_status_checks
        while self.wait and not self.cancelled and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.5))


def slurm_settings(arguments: Sequence[str]) -> Any:
    """Read the settings of the Slurm plugin from Snakemake's command line and profile."""
    return ExecutorPluginRegistry().get_plugin("slurm").get_settings(snakemake_options(arguments))
