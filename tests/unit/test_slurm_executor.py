"""The executor keeps its jobs while Slurm does not answer, and cancels them all, soon, when it is told to.

It is the real one, between stand-ins for Snakemake's workflow and for Slurm's commands.
"""

import asyncio
import logging
import sys
import threading
import time
from types import SimpleNamespace

import pytest

slurm = pytest.importorskip("snakemake_executor_plugin_slurm")

from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry  # noqa: E402
from snakemake_interface_executor_plugins.settings import SharedFSUsage  # noqa: E402

from snakemake_executor_plugin_splatdag_slurm import Executor, slurm_settings  # noqa: E402

COMMANDS = {
    "squeue": 'cat "$FOLDER/answer"',
    "scancel": 'cd "$FOLDER"; cat live >> cancelled; echo "$@" >> asked; : > live; exit "$FAILS"',
    "scontrol": 'echo "MinJobAge = 300 sec"',
}
FLAGS = ("--executor", "splatdag-slurm", "--jobs", "9", "--workflow-profile", "none")


class Scheduler:
    """Snakemake's, which is told how jobs end."""

    def __init__(self):
        self.done, self.failed = [], []
        self.finish_callback, self.error_callback = self.done.append, self.failed.append


@pytest.fixture
def make_executor(tmp_path, monkeypatch):
    """Make an executor whose Slurm has one job, `1`; it is asked for the jobs every three minutes, or by hand."""
    (tmp_path / "bin").mkdir()
    for name, body in COMMANDS.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / "live").write_text("1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("FAILS", "0")
    made = []

    def make(*flags, first_round=180):
        monkeypatch.setattr(sys, "argv", ["snakemake", *FLAGS, "--slurm-status-attempts", "1", *flags])
        workflow = SimpleNamespace(
            dag=None,
            main_snakefile="Snakefile",
            workdir_init=str(tmp_path),
            scheduler=Scheduler(),
            executor_plugin=SimpleNamespace(
                common_settings=SimpleNamespace(init_seconds_before_status_checks=first_round)
            ),
            remote_execution_settings=SimpleNamespace(
                max_status_checks_per_second=100,
                seconds_between_status_checks=180,
                jobname="{jobid}",
                jobscript=None,
                immediate_submit=False,
            ),
            storage_settings=SimpleNamespace(shared_fs_usage=SharedFSUsage.all()),
        )
        made.append(Executor(workflow, logging.getLogger()))
        return made[-1]

    yield make
    for executor in made:
        executor.wait = False


def submitted(*numbers):
    jobs = [SimpleNamespace(log_error=lambda msg, **more: None) for _ in numbers]
    return [SimpleNamespace(job=job, external_jobid=number, aux={}) for job, number in zip(jobs, numbers, strict=True)]


def test_snakemake_finds_it_and_the_flags_of_the_slurm_plugin_are_its_own():
    registry = ExecutorPluginRegistry()
    assert registry.get_plugin("splatdag-slurm").executor is Executor
    assert not registry.get_plugin("splatdag-slurm").has_settings_cls()
    settings = slurm_settings([*FLAGS, "--slurm-status-attempts", "7", "--slurm-logdir=here"])
    assert isinstance(settings, slurm.ExecutorSettings)
    assert (settings.status_attempts, str(settings.logdir)) == (7, "here")


@pytest.mark.parametrize(
    ("answer", "active", "failed"),
    [(None, ["1", "2"], 0), ("1|RUNNING\n2|FAILED\n", ["1"], 1), ("1|FAILED\n2|FAILED\n", [], 2), ("", ["1", "2"], 0)],
)
def test_jobs_are_dropped_only_by_an_answer(make_executor, tmp_path, answer, active, failed):
    """None is an outage; a job that is not listed yet may be new."""
    executor = make_executor("--slurm-status-command", "squeue")
    if answer is not None:
        (tmp_path / "answer").write_text(answer)

    async def round_of(jobs):
        return [job.external_jobid async for job in executor.check_active_jobs(jobs)]

    assert asyncio.run(round_of(submitted("1", "2"))) == active
    assert len(executor.workflow.scheduler.failed) == failed


def test_the_thread_that_looks_may_begin_before_the_executor_is_complete(make_executor, monkeypatch):
    """An error in its first round would end the thread, and nobody would look at a job again."""
    looked = threading.Event()
    first = slurm.Executor.__post_init__

    def late(self):
        assert looked.wait(10)
        first(self)

    async def sleep(self):
        looked.set()
        await asyncio.sleep(0.1)

    monkeypatch.setattr(slurm.Executor, "__post_init__", late)
    monkeypatch.setattr(Executor, "sleep", sleep)
    executor = make_executor(first_round=0)
    assert executor.wait_thread.is_alive()


def test_an_interrupted_run_cancels_its_jobs_and_ends_soon(make_executor, tmp_path, monkeypatch):
    """While it sleeps for three minutes; one job is being submitted, others wait for that."""
    submitting, cancelling = threading.Semaphore(0), threading.Event()

    def submit(self, job):
        submitting.release()
        assert cancelling.wait(10)
        with (tmp_path / "live").open("a") as live:
            live.write(f"{job.name}\n")

    cancel_run = Executor.cancel_run

    def cancel(self):
        cancel_run(self)
        cancelling.set()

    monkeypatch.setattr(slurm.Executor, "run_job", submit)
    monkeypatch.setattr(Executor, "cancel_run", cancel)
    executor = make_executor(first_round=0)
    jobs = [
        SimpleNamespace(name=name, is_group=lambda: True, log_info=lambda: None)
        for name in ("being-submitted", "being-submitted", "not-yet", "not-yet")
    ]
    executor.run_jobs(jobs)
    for _ in range(2):  # as many threads submit
        assert submitting.acquire(timeout=10)
    begun = time.monotonic()
    executor.cancel()
    assert time.monotonic() - begun < 60
    assert not executor.wait_thread.is_alive()
    assert (tmp_path / "cancelled").read_text().split() == ["1", "being-submitted", "being-submitted"]
    assert not (tmp_path / "live").read_text()
    assert (tmp_path / "asked").read_text().count(f"--name={executor.run_uuid}") == 2


def test_where_slurm_does_not_answer_it_is_said_what_to_type(make_executor, monkeypatch, caplog):
    executor = make_executor(first_round=0)
    monkeypatch.setenv("FAILS", "1")
    executor.cancel()
    assert "scancel: failed; see what is left: `python -m splatdag.commands.doctor`" in caplog.text
