"""A job may be killed at any moment: what is there afterwards is whole, and the next attempt finishes."""

from __future__ import annotations

import io
import re
import shutil
import signal
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from areas import AREAS, EVERY, KILLED_OFTEN, REPEATS, RULES, TRAININGS
from jobs import Count, Job, Tried, remove_states
from publications import KillAt, found, kills_at
from rounds import FULL, chance, sampled
from whole import check_whole, contents, files

pytestmark = pytest.mark.faults
KILLS = 20 if FULL else 3
"""Of a training of each area, one after the other."""
KILLS_AT_PUBLICATIONS = 3
"""At most, of each job; a usual round makes one of them."""
STOPPED = sorted({*TRAININGS, *(area.interrupted for area in AREAS.values())})
"""Rules whose jobs are told to stop."""
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


def kill_at(kill: KillAt, job: Job, copy: Path, good: Tried, count: Count) -> None:
    """Let a job kill itself while it publishes; it begins anew, so that it publishes the same in order."""
    training = TRAININGS.get(job.rule)
    job.remove_outputs(copy)
    remove_states(copy)
    running = job.start(copy, training.step if training else "", kill_at=kill)
    assert running.wait() == -signal.SIGKILL, running.said
    count("kill -9 at a publication")
    [(place, expected)] = [line.split("\t") for line in running.published if "\t" in line]
    assert found(Path(place)) == expected, f"killed {kill.moment}: {place}"
    check_outputs(job, copy, good.project)
    if training:
        kept = saved_step(copy / training.run / "state" / "checkpoint.pt")
        assert kept <= running.steps <= kept + EVERY


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in KILLED_OFTEN])
def test_a_job_that_is_killed_leaves_nothing_half_and_its_next_attempt_finishes(
    rule: str, jobs: list[Job], finished: Path, tmp_path: Path, count: Count
) -> None:
    for job in jobs:
        good, name = job.tried(finished), job.outputs[0]
        copy = good.copied(tmp_path)
        for kill in sampled([None, *kills_at(good.publications, KILLS_AT_PUBLICATIONS)], 1, f"kills of {name}"):
            if kill is not None:
                kill_at(kill, job, copy, good, count)
                continue
            job.remove_outputs(copy)
            if job.start(copy).killed_after(chance(name).uniform(0.2, 1) * good.seconds):
                count("kill -9 of a job")
            check_outputs(job, copy, good.project)
        job.remove_outputs(copy)
        job.finish(copy)
        check_finished(job, copy, good.project)


@pytest.mark.parametrize("rule", KILLED_OFTEN)
def test_a_training_killed_again_and_again_loses_at_most_the_steps_since_its_last_checkpoint(
    rule: str, jobs: list[Job], finished: Path, tmp_path: Path, count: Count
) -> None:
    [job], steps = jobs, chance(f"steps of {rule}")
    good = job.tried(finished)
    copy = good.copied(tmp_path)
    state = copy / TRAININGS[rule].run / "state" / "checkpoint.pt"
    kept = kills = 0
    job.remove_outputs(copy)
    while kills < KILLS:
        running = job.start(copy, TRAININGS[rule].step)
        if not running.killed_at(steps.randint(0, 2 * EVERY)):
            assert running.process.exitcode == 0, running.said
            check_finished(job, copy, good.project)
            job.remove_outputs(copy)
            shutil.rmtree(state.parent)
            kept = 0
            continue
        kills += 1
        reached, before = kept + running.steps, kept
        check_outputs(job, copy, good.project)
        kept = saved_step(state)
        assert before <= kept <= reached <= kept + EVERY
    count("kill -9 of a training", kills)
    for kill in sampled(kills_at(good.publications, KILLS_AT_PUBLICATIONS), 1, f"kills of {rule}"):
        kill_at(kill, job, copy, good, count)
    job.remove_outputs(copy)
    job.finish(copy)
    check_finished(job, copy, good.project)


def saved_step(state: Path) -> int:
    """After how many steps a state was saved; 0 if there is none."""
    return int(torch.load(state, weights_only=True)["state"]["step"]) if state.exists() else 0


@pytest.mark.parametrize("rule", sampled(STOPPED, 2, "SIGTERM"))
def test_a_job_that_is_told_to_stop_says_so_and_its_next_attempt_finishes(
    rule: str, jobs: list[Job], finished: Path, tmp_path: Path, count: Count
) -> None:
    [job, *_], training = jobs, TRAININGS.get(rule)
    good = job.tried(finished)
    copy = good.copied(tmp_path)
    job.remove_outputs(copy)
    running = job.start(copy, training.step if training else "")
    assert running.reaches(lambda: running.steps > 0 if training else running.publishes), running.said
    running.process.terminate()
    code, said = running.wait(), running.said
    if code:
        count("SIGTERM of a job")
        assert code == 75, said
        assert "Traceback" not in said
        assert re.search(r"\] stopped: .*run the same command again", said.splitlines()[-1])
    assert code or not training, "it has more than a step to do"
    if training:
        assert "state saved" in said
        assert saved_step(copy / training.run / "state" / "checkpoint.pt") == running.steps, "nothing is lost"
    check_outputs(job, copy, good.project)
    job.remove_outputs(copy)
    job.finish(copy)
    check_finished(job, copy, good.project)


@pytest.mark.parametrize("rule", KILLED_OFTEN)
def test_a_damaged_checkpoint_is_set_aside_and_the_training_begins_anew(
    rule: str, jobs: list[Job], finished: Path, tmp_path: Path, count: Count
) -> None:
    [job] = jobs
    good = job.tried(finished)
    copy = good.copied(tmp_path)
    state = copy / TRAININGS[rule].run / "state" / "checkpoint.pt"
    job.remove_outputs(copy)
    running = job.start(copy)
    assert running.reaches(state.exists), running.said
    running.killed()
    data = state.read_bytes()
    for name in sampled(DAMAGE, 2, f"damage of {rule}"):
        job.remove_outputs(copy)
        state.parent.mkdir(exist_ok=True)
        state.write_bytes(DAMAGE[name](data))
        count("damaged checkpoint")
        running = job.start(copy)
        assert running.says("state not continued: it can't be read"), f"{name}: {running.said}"
        running.killed()
    job.finish(copy)
    check_finished(job, copy, good.project)
