"""The Slurm executor keeps its jobs when Slurm does not answer, and drops those that have ended when it does."""

import asyncio
import logging
from types import SimpleNamespace

import pytest

slurm = pytest.importorskip("snakemake_executor_plugin_slurm")

from splatdag.workflow.patient_executor import wait_for_the_controller  # noqa: E402


@pytest.fixture
def looked_at(monkeypatch):
    """What is still active after a round in which Slurm gives these answers; none is an outage."""

    def look(jobs, answers):
        async def check_active_jobs(self, active_jobs):
            self._status_query_calls += len(answers)
            for job in active_jobs if answers else []:
                if answers[0][job] == "RUNNING":
                    yield job

        monkeypatch.setattr(slurm.Executor, "check_active_jobs", check_active_jobs)
        monkeypatch.setattr(slurm.Executor, "_keeps_jobs", False, raising=False)
        wait_for_the_controller()
        wait_for_the_controller()
        executor = SimpleNamespace(_status_query_calls=5, logger=logging.getLogger())

        async def still_active():
            return [job async for job in slurm.Executor.check_active_jobs(executor, jobs)]

        return asyncio.run(still_active())

    return look


@pytest.mark.parametrize(
    ("answers", "active"),
    [([], ["a", "b"]), ([{"a": "RUNNING", "b": "FAILED"}], ["a"]), ([dict.fromkeys("ab", "")], [])],
)
def test_jobs_are_dropped_only_by_an_answer(looked_at, answers, active):
    assert looked_at(["a", "b"], answers) == active


def test_the_thread_that_looks_may_begin_before_the_executor_is_complete(monkeypatch):
    """An error in its first round would end the thread, and nobody would look at a job again."""
    monkeypatch.setattr(slurm.Executor, "check_active_jobs", slurm.Executor.check_active_jobs)
    monkeypatch.setattr(slurm.Executor, "_keeps_jobs", False, raising=False)
    wait_for_the_controller()
    settings = SimpleNamespace(init_seconds_before_status_checks=5)
    beginning = SimpleNamespace(workflow=SimpleNamespace(executor_settings=settings), logger=logging.getLogger())

    async def first_round():
        return [job async for job in slurm.Executor.check_active_jobs(beginning, [])]

    assert asyncio.run(first_round()) == []


def test_the_executor_still_counts_answers_as_the_patience_needs():
    """Names of the pinned version that a newer one may change."""
    assert "_status_query_calls" in slurm.Executor.check_active_jobs.__code__.co_names
