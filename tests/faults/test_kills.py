"""A job may be killed at any moment: what is there afterwards is whole, and the next attempt finishes."""

from __future__ import annotations

import io
import random
import re
import shutil
import signal
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch
from areas import AREAS, EVERY, KILLED_OFTEN, REPEATS, RULES, TRAININGS
from jobs import Count, Job
from publications import found, kills_at
from whole import check_whole, contents, files

pytestmark = pytest.mark.faults
KILLS = 20
"""Of a training of each area, one after the other."""
KILLS_OF_OTHERS = 1
KILLS_AT_PUBLICATIONS = 3
"""At most, of each job."""
RECEIPTS = ("sample.json", "frames.json")
"""Of whole folders, which they lie in."""


def with_one_bit_changed(data: bytes) -> bytes:
    """A checkpoint with a bit of its largest tensor changed; many bytes of an archive lie between its files, unread."""
    largest = max(zipfile.ZipFile(io.BytesIO(data)).infolist(), key=lambda file: file.file_size)
    name, extra = struct.unpack_from("<HH", data, largest.header_offset + 26)
    middle = largest.header_offset + 30 + name + extra + largest.file_size // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


DAMAGE = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "one bit": with_one_bit_changed,
    "all but the last byte": lambda data: data[:-1],
}
"""What a power cut or a bad disk may leave of a checkpoint."""


def check_outputs(job: Job, folder: Path, finished: Path) -> None:
    """Fail if a declared output is there and not whole, or the folder that it is the receipt of."""
    for output in job.outputs:
        there, good = folder / output, finished / output
        if there.name in RECEIPTS and there.exists():
            there, good = there.parent, good.parent
        if there.is_dir():
            assert files(there) >= files(good) - {Path("rerun")}, there
            for name in files(good):
                check_whole(there / name, good / name)
        elif there.exists():
            check_whole(there, good)


def check_finished(job: Job, folder: Path, finished: Path) -> None:
    """Fail unless everything is there and whole, and what is the same in every run is the same.

    `finished` is a run of the same kind: a forked process gets other last bits of a loss than one of its own.
    """
    results, good = folder / "results", finished / "results"
    assert files(results) <= files(good)
    assert not {path for path in files(good) - files(results) if not _comes_later(job, path)}
    assert not list(results.rglob("*.partial*")), "what kills left is removed"
    check_outputs(job, folder, finished)
    for path in good.glob(REPEATS.get(job.rule, "no file")):
        if path.relative_to(good) in files(results):
            assert contents(results / path.relative_to(good)) == contents(path), path


def _comes_later(job: Job, path: Path) -> bool:
    """Whether other jobs make a file of the results anew: recordings, a run's manifest that another job writes last."""
    training = TRAININGS.get(job.rule)
    manifest = f"{training.run}/manifest.json" if training else ""
    of_run = bool(training) and manifest not in job.outputs
    return "rerun" in path.parts or (of_run and (f"results/{path}" == manifest or path.parts[0] == "compare"))


def kill_at_publications(job: Job, copy: Path, finished: Path, publications: int, count: Count) -> None:
    """Let a job kill itself while it publishes; each time it begins anew, so that it publishes the same in order."""
    training = TRAININGS.get(job.rule)
    for kill in kills_at(publications, KILLS_AT_PUBLICATIONS):
        job.remove_outputs(copy)
        for state in copy.glob("results/**/state"):
            shutil.rmtree(state)
        running = job.start(copy, training.step if training else "", kill_at=kill)
        assert running.wait() == -signal.SIGKILL, running.said
        count("kill -9 at a publication")
        [(place, expected)] = [line.split("\t") for line in running.published if "\t" in line]
        assert found(Path(place)) == expected, f"killed {kill.moment}: {place}"
        check_outputs(job, copy, finished)
        if training:
            kept = saved_step(copy / training.run / "state" / "checkpoint.pt")
            assert kept <= running.steps <= kept + EVERY


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in KILLED_OFTEN])
def test_a_job_that_is_killed_leaves_nothing_half_and_its_next_attempt_finishes(
    rule: str, jobs: list[Job], copy: Path, tmp_path: Path, count: Count
) -> None:
    for job in jobs:
        (tried, finished), chance = job.tried(copy, tmp_path), random.Random(rule)
        for _ in range(KILLS_OF_OTHERS):
            job.remove_outputs(copy)
            if job.start(copy).killed_after(chance.uniform(0.2, 1) * tried.seconds):
                count("kill -9 of a job")
            check_outputs(job, copy, finished)
        kill_at_publications(job, copy, finished, len(tried.published), count)
        job.remove_outputs(copy)
        job.finish(copy)
        check_finished(job, copy, finished)


@pytest.mark.parametrize("rule", KILLED_OFTEN)
def test_a_training_killed_twenty_times_loses_at_most_the_steps_since_its_last_checkpoint(
    rule: str, jobs: list[Job], copy: Path, tmp_path: Path, count: Count
) -> None:
    [job], state = jobs, copy / TRAININGS[rule].run / "state" / "checkpoint.pt"
    (tried, finished), chance = job.tried(copy, tmp_path), random.Random(rule)
    kept = kills = 0
    job.remove_outputs(copy)
    while kills < KILLS:
        running = job.start(copy, TRAININGS[rule].step)
        if not running.killed_after(chance.uniform(0.1, 0.6) * tried.seconds):
            assert running.process.exitcode == 0, running.said
            check_finished(job, copy, finished)
            job.remove_outputs(copy)
            shutil.rmtree(state.parent)
            kept = 0
            continue
        kills += 1
        reached, before = kept + running.steps, kept
        check_outputs(job, copy, finished)
        kept = saved_step(state)
        assert before <= kept <= reached <= kept + EVERY
    count("kill -9 of a training", kills)
    kill_at_publications(job, copy, finished, len(tried.published), count)
    job.remove_outputs(copy)
    job.finish(copy)
    check_finished(job, copy, finished)


def saved_step(state: Path) -> int:
    """After how many steps a state was saved; 0 if there is none."""
    return int(torch.load(state, weights_only=True)["state"]["step"]) if state.exists() else 0


def stop(job: Job, copy: Path, when: float, rule: str) -> tuple[int, str, int]:
    """Send SIGTERM: exit code, what was said, and the steps that were done."""
    running = job.start(copy, TRAININGS[rule].step if rule in TRAININGS else "")
    running.process.join(when)
    running.process.terminate()
    return running.wait(), running.said, running.steps


@pytest.mark.parametrize("rule", sorted({*TRAININGS, *(area.interrupted for area in AREAS.values())}))
def test_a_job_that_is_told_to_stop_says_so_and_its_next_attempt_finishes(
    rule: str, jobs: list[Job], copy: Path, tmp_path: Path, count: Count
) -> None:
    for job in jobs[:1]:
        tried, finished = job.tried(copy, tmp_path)
        job.remove_outputs(copy)
        code, said, steps = stop(job, copy, 0.6 * tried.seconds, rule)
        if code:
            count("SIGTERM of a job")
            assert code in (75, -signal.SIGTERM), said  # the latter before it has begun to work
            assert "Traceback" not in said
            assert code != 75 or re.search(r"\] stopped: .*run the same command again", said.splitlines()[-1])
        if code == 75 and "state saved" in said:
            assert saved_step(copy / TRAININGS[rule].run / "state" / "checkpoint.pt") == steps, "nothing is lost"
        check_outputs(job, copy, finished)
        job.remove_outputs(copy)
        job.finish(copy)
        check_finished(job, copy, finished)


@pytest.mark.parametrize("rule", KILLED_OFTEN)
def test_a_damaged_checkpoint_is_set_aside_and_the_training_begins_anew(
    rule: str, jobs: list[Job], copy: Path, tmp_path: Path, count: Count
) -> None:
    [job], state = jobs, copy / TRAININGS[rule].run / "state" / "checkpoint.pt"
    _, finished = job.tried(copy, tmp_path)
    job.remove_outputs(copy)
    running = job.start(copy)
    while not state.exists():
        assert running.process.exitcode is None, running.said
        time.sleep(0.001)
    running.killed_after(0)
    data = state.read_bytes()
    for name, damage in DAMAGE.items():
        job.remove_outputs(copy)
        state.parent.mkdir(exist_ok=True)
        state.write_bytes(damage(data))
        count("damaged checkpoint")
        running = job.start(copy)
        while "state not continued: it can't be read" not in running.said:
            assert running.process.exitcode is None, f"{name}: {running.said}"
            time.sleep(0.01)
        running.killed_after(0)
    job.finish(copy)
    check_finished(job, copy, finished)
