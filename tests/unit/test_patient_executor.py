"""The Slurm executor keeps its jobs when Slurm does not answer, and drops those that have ended when it does."""

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

slurm = pytest.importorskip("snakemake_executor_plugin_slurm")

from splatdag.workflow.errors import UserError  # noqa: E402
from splatdag.workflow.patient_executor import mend_executor  # noqa: E402


@pytest.fixture(autouse=True)
def unmended(monkeypatch):
    """What is mended is as it was after each test."""
    for name in ("check_active_jobs", "cancel", "sleep"):
        monkeypatch.setattr(slurm.Executor, name, getattr(slurm.Executor, name))
    monkeypatch.setattr(slurm.Executor, "_is_mended", False, raising=False)


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
        mend_executor()
        mend_executor()
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


def test_the_thread_that_looks_may_begin_before_the_executor_is_complete():
    """An error in its first round would end the thread, and nobody would look at a job again."""
    mend_executor()
    settings = SimpleNamespace(init_seconds_before_status_checks=5)
    beginning = SimpleNamespace(workflow=SimpleNamespace(executor_settings=settings), logger=logging.getLogger())

    async def first_round():
        return [job async for job in slurm.Executor.check_active_jobs(beginning, [])]

    assert asyncio.run(first_round()) == []


class Interrupted(slurm.Executor):
    """An executor with one job, and a long sleep after each round."""

    def __init__(self, asking):
        settings = SimpleNamespace(common_settings=SimpleNamespace(init_seconds_before_status_checks=0))
        self.workflow = SimpleNamespace(
            executor_plugin=settings,
            remote_execution_settings=SimpleNamespace(immediate_submit=True),
            scheduler=None,
        )
        self._job_submission_executor = ThreadPoolExecutor(1)
        self.run_uuid, self.logger = "run", logging.getLogger()
        self.lock, self.wait, self.active_jobs = threading.Lock(), True, ["job"]
        self.next_seconds_between_status_checks = 180
        self.asked, self.asking = threading.Event(), asking
        self.wait_thread = threading.Thread(target=self._wait_thread, daemon=True)
        self.wait_thread.start()

    async def check_active_jobs(self, active_jobs):
        self.asked.set()
        await asyncio.sleep(self.asking)
        for job in active_jobs:
            yield job

    def shutdown(self):
        self._job_submission_executor.shutdown(wait=True)
        super(slurm.Executor, self).shutdown()


Interrupted.__abstractmethods__ = frozenset()


@pytest.mark.parametrize("asking", [0, 1])
def test_an_interrupted_run_cancels_its_jobs_and_ends_soon(asking, monkeypatch):
    """While the executor sleeps, and while it asks; one job is being submitted, another waits for that."""
    live, cancelled = {"running"}, []
    submitting, cancelling = threading.Event(), threading.Event()

    def cancel_run(run):
        cancelled.append((run, sorted(live)))
        live.clear()
        cancelling.set()

    def submit(job):
        submitting.set()
        assert cancelling.wait(10)
        live.add(job)

    monkeypatch.setattr("splatdag.workflow.patient_executor.cancel_run", cancel_run)
    mend_executor()
    executor = Interrupted(asking)
    assert executor.asked.wait(10)
    executor._job_submission_executor.submit(submit, "being submitted")
    executor._job_submission_executor.submit(submit, "not yet submitted")
    assert submitting.wait(10)
    begun = time.monotonic()
    executor.cancel()
    assert cancelled == [("run", ["running"]), ("run", ["being submitted"])]
    assert not live
    assert time.monotonic() - begun < 20


def test_where_slurm_does_not_answer_it_is_said_what_to_type(monkeypatch, caplog):
    def cancel_run(run):
        raise UserError("scancel: no answer")

    monkeypatch.setattr("splatdag.workflow.patient_executor.cancel_run", cancel_run)
    mend_executor()
    Interrupted(0).cancel()
    assert "scancel: no answer; see what is left: `python -m splatdag.commands.doctor`" in caplog.text


def test_the_executor_still_counts_answers_as_the_patience_needs():
    """Names of the pinned version that a newer one may change."""
    assert "_status_query_calls" in slurm.Executor.check_active_jobs.__code__.co_names
