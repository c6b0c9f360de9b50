"""Snakemake itself killed, told to stop, or started twice: nothing is lost, and the doctor says how to go on."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from areas import AREAS, TRAININGS
from jobs import HANGS, Count, Job, jobs_of
from rounds import sampled
from test_kills import check_finished, check_outputs

from splatdag.workflow.attempts import SUFFIX, read_attempts

pytestmark = pytest.mark.faults
TRAINED = [name for name, area in AREAS.items() if area.trainings]


@dataclass
class Runs:
    """Runs of Snakemake for one job of a project of which everything else is done."""

    folder: Path
    job: Job
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "snakemake", "--cores", "2", self.job.outputs[-1]]
        process = subprocess.Popen(
            command, cwd=self.folder, start_new_session=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.started.append(process)
        return process

    def stage(self, process: subprocess.Popen[str]) -> psutil.Process:
        """The process of the job, as soon as it works: a training when it has saved its state."""
        record = (self.folder / self.job.log).with_suffix(SUFFIX)
        record.unlink(missing_ok=True)
        (self.folder / self.job.log).unlink(missing_ok=True)
        _wait(process, record.exists)
        if self.job.rule in TRAININGS:
            _wait(process, (self.folder / TRAININGS[self.job.rule].run / "state" / "checkpoint.pt").exists)
        return psutil.Process(read_attempts(record)[-1].process)

    def orphan(self) -> psutil.Process:
        """A stage whose Snakemake was killed (-9); it is suspended."""
        first = self.start()
        stage = self.stage(first)
        stage.suspend()
        first.kill()
        first.wait()  # the stage holds what its output would be read from
        return stage

    def end(self, process: subprocess.Popen[str]) -> str:
        """What a run said that ended well."""
        said, _ = process.communicate(timeout=HANGS)
        assert process.returncode == 0, said
        return said

    def doctor(self) -> str:
        command = [sys.executable, "-m", "splatdag.commands.doctor"]
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=HANGS, check=True
        ).stdout

    def mend(self, said: str) -> None:
        """Type the commands that the doctor told."""
        for line in said.splitlines():
            if line.startswith("    snakemake --unlock"):
                command = [sys.executable, "-m", *shlex.split(line, comments=True)]
                subprocess.run(command, cwd=self.folder, check=True, capture_output=True, timeout=HANGS)


def _wait(process: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANGS
    while not until():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def interrupted(finished: Path, area: str) -> Job:
    """The job of an area in whose work Snakemake is interrupted."""
    rule, folder = AREAS[area].interrupted, f"{AREAS[area].folder}/"
    jobs = jobs_of((finished / "dry_run.txt").read_text())
    [job] = [job for job in jobs if job.rule == rule and job.outputs[-1].startswith(folder)]
    return job


@pytest.fixture
def runs(finished: Path, copy: Path, area: str) -> Iterator[Runs]:
    job = interrupted(finished, area)
    job.remove_outputs(copy)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts with `&`, children too
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and this by what `nohup` starts
    runs = Runs(copy, job)
    yield runs
    for process in runs.started:
        process.kill()
        process.wait()
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] == str(copy):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def ran(said: str) -> list[str]:
    return re.findall(r"^(?:local)?rule (\w+):", said, re.MULTILINE)


@pytest.mark.parametrize("area", sampled(AREAS, 2, "kill of everything"))
def test_after_a_kill_of_everything_the_doctor_s_commands_and_the_same_command_finish(
    runs: Runs, finished: Path, count: Count, area: str
) -> None:
    first = runs.start()
    runs.stage(first)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    count("kill -9 of Snakemake and its jobs")
    check_outputs(runs.job, runs.folder, finished)
    said = runs.doctor()
    assert re.search(r"a lock from \d+ min ago", said)
    assert "1 stage was killed" in said
    assert f"    {runs.job.log}\n" in said
    blocked, _ = runs.start().communicate(timeout=HANGS)
    assert "--unlock" in blocked
    runs.mend(said)
    assert "--unlock" not in runs.doctor()
    assert ran(runs.end(runs.start())) == [runs.job.rule], "what was done is not done again"
    if area in TRAINED:
        assert "continuing after step" in (runs.folder / runs.job.log).read_text()
    assert "nothing in the way" in runs.doctor()
    check_finished(runs.job, runs.folder, finished)


@pytest.mark.parametrize("area", sampled(TRAINED, 1, "kill of Snakemake"))
def test_after_a_kill_of_snakemake_alone_its_job_is_named_and_not_run_twice(
    runs: Runs, finished: Path, count: Count, area: str
) -> None:
    stage = runs.orphan()
    count("kill -9 of Snakemake")
    said = runs.doctor()
    assert re.search(rf"runs here \(process {stage.pid}\) without a Snakemake", said)
    assert f"    kill {stage.pid}\n" in said
    assert "snakemake --unlock" in said
    runs.mend(said)
    second = runs.start()
    said, _ = second.communicate(timeout=HANGS)
    assert second.returncode == 1
    assert re.search("another process is running this stage|is in use by process", said)
    stage.terminate()
    stage.resume()
    stage.wait(HANGS)
    runs.mend(runs.doctor())
    runs.end(runs.start())
    assert "continuing after step" in (runs.folder / runs.job.log).read_text()
    check_finished(runs.job, runs.folder, finished)


@pytest.mark.parametrize("area", sampled(TRAINED, 1, "end without Snakemake"))
def test_a_training_that_ends_without_its_snakemake_is_not_learnt_again(
    runs: Runs, finished: Path, count: Count, area: str
) -> None:
    stage = runs.orphan()
    count("kill -9 of Snakemake")
    stage.resume()
    stage.wait(HANGS)
    log = runs.folder / runs.job.log
    assert " finished in " in log.read_text().splitlines()[-1]
    runs.mend(runs.doctor())
    said = runs.end(runs.start())
    assert ran(said) == [runs.job.rule], "Snakemake has not seen its end"
    assert "continuing after step" in said
    assert not re.search(r"step \d+ of", said), "nothing is left to learn"
    assert not (runs.folder / TRAININGS[runs.job.rule].run / "state").exists()
    check_finished(runs.job, runs.folder, finished)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("area", sampled(TRAINED, 1, "signals"))
def test_a_run_that_is_told_to_stop_leaves_no_lock_and_goes_on(
    runs: Runs, finished: Path, count: Count, area: str, number: int
) -> None:
    """All its processes are told, as by a terminal, also one that is closed, or by a system that shuts down."""
    first = runs.start()
    runs.stage(first)
    os.killpg(first.pid, number)
    said, _ = first.communicate(timeout=HANGS)
    count("SIGTERM, Ctrl-C or SIGHUP of Snakemake and its jobs")
    assert first.returncode != 0, said
    assert "--unlock" not in runs.doctor()
    end = "failed: interrupted" if number == signal.SIGINT else "stopped: state saved after step"
    assert end in (runs.folder / runs.job.log).read_text()
    check_outputs(runs.job, runs.folder, finished)
    assert "continuing after step" in runs.end(runs.start())
    check_finished(runs.job, runs.folder, finished)


@pytest.mark.parametrize("area", ["captures"])
def test_sigterm_of_snakemake_alone_lets_its_job_finish(runs: Runs, finished: Path, count: Count, area: str) -> None:
    first = runs.start()
    runs.stage(first)
    first.terminate()
    first.communicate(timeout=HANGS)
    count("SIGTERM of Snakemake")
    assert "nothing in the way" in runs.doctor()
    check_finished(runs.job, runs.folder, finished)
    assert ran(runs.end(runs.start())) == []


@pytest.mark.parametrize("area", sampled(TRAINED, 1, "two runs"))
def test_of_two_runs_in_one_folder_the_second_stops_and_the_first_is_not_disturbed(
    runs: Runs, finished: Path, count: Count, area: str
) -> None:
    first = runs.start()
    stage = runs.stage(first)
    stage.suspend()
    second = runs.start()
    said, _ = second.communicate(timeout=HANGS)
    count("second run in a folder")
    assert second.returncode == 1
    assert "Directory cannot be locked" in said
    assert f"Snakemake is running here (process {first.pid})" in runs.doctor()
    assert "--unlock" not in runs.doctor()
    stage.resume()
    runs.end(first)
    check_finished(runs.job, runs.folder, finished)


@pytest.mark.parametrize("area", sampled(TRAINED, 1, "two trainings"))
def test_of_two_trainings_that_share_a_state_the_second_stops_in_one_line(
    runs: Runs, finished: Path, count: Count, area: str
) -> None:
    """As from two projects with one folder of results: each has its own locks and logs."""
    job, folder = runs.job, runs.folder
    first = subprocess.Popen([sys.executable, *job.words[1:]], cwd=folder, stderr=subprocess.PIPE, text=True)
    runs.started.append(first)
    state = folder / TRAININGS[job.rule].run / "state"
    while not (state / "checkpoint.pt").exists():
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.002)
    first.send_signal(signal.SIGSTOP)
    words = [word if word != job.log else f"elsewhere/{word}" for word in job.words]
    second = subprocess.run([sys.executable, *words[1:]], cwd=folder, capture_output=True, text=True, timeout=HANGS)
    count("second training with one state")
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 75, second.stderr
    assert "Traceback" not in second.stderr
    assert f"is in use by process {first.pid} on " in second.stderr.splitlines()[-1]
    assert first.wait(HANGS) == 0
    check_finished(job, folder, finished)
