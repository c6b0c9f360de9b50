"""Jobs as Snakemake plans them, run beside it: started quickly, ended by signals, and what they leave looked at."""

from __future__ import annotations

import fcntl
import functools
import json
import multiprocessing
import os
import re
import resource
import runpy
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from publications import KillAt, watch_publications

Count = Callable[..., None]
"""Note a fault of some kind, or several."""
HANGS = 900.0
"""Seconds after which something hangs, however much else this machine has to do."""
_FORKED = multiprocessing.get_context("forkserver")
_SLOW = ("torch", "numba", "cv2", "pycolmap", "scipy.spatial", "torchmetrics", "matplotlib")
_FORKED.set_forkserver_preload([*_SLOW, "av", "pandas", "plyfile", "psutil", "pyarrow", "pydantic", "rerun", "tyro"])


@dataclass(frozen=True)
class Job:
    """A job of a dry run."""

    rule: str
    outputs: tuple[str, ...]
    log: str
    words: tuple[str, ...]
    """Of its command."""

    @property
    def module(self) -> str:
        """That its command runs."""
        return self.words[self.words.index("-m") + 1]

    def remove_outputs(self, folder: Path) -> None:
        """As Snakemake does before a job starts."""
        for output in self.outputs:
            path = folder / output
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def start(
        self, folder: Path, step: str = "", largest: int = resource.RLIM_INFINITY, kill_at: KillAt | None = None
    ) -> Running:
        """Start its command in a project.

        Args:
            folder: the project.
            step: method that is counted.
            largest: bytes that a file may have.
            kill_at: where it ends itself.
        """
        return Running(self, folder, step, largest, kill_at)

    def finish(self, folder: Path) -> Running:
        """Run its command to its end, which must be good."""
        running = self.start(folder)
        assert running.wait() == 0, running.said
        return running

    def tried(self, finished: Path) -> Tried:
        """Run it once more, in a copy of the finished project; the first process that asks does so for all."""
        place = finished.parent / "tried" / self.outputs[0].replace("/", "-")
        make_once(place, "tried.json", lambda place: self._try(finished, place))
        return Tried(place / "project", **json.loads((place / "tried.json").read_text()))

    def _try(self, finished: Path, place: Path) -> None:
        project = copied(finished, place / "project")
        self.remove_outputs(project)
        (place / "clock").touch()
        since = (place / "clock").stat().st_mtime_ns
        running = self.finish(project)
        remove_states(project)  # as Snakemake does when it has noted the end
        written = [path for path in (project / "results").rglob("*") if path.is_file() and not path.is_symlink()]
        written = sorted((path for path in written if _changed(path) >= since), key=_changed)
        sizes = {str(path.relative_to(project)): path.stat().st_size for path in written}
        facts = {"seconds": running.seconds, "publications": len(running.published), "sizes": sizes}
        (place / "tried.json").write_text(json.dumps(facts))


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns


@dataclass(frozen=True)
class Tried:
    """A good run of a job, beside a process that has imported what is slow to import."""

    project: Path
    """Results and logs of the run: only to be read."""
    seconds: float
    publications: int
    """Number of its publications in `results`."""
    sizes: dict[str, int]
    """Of the files that it wrote into `results`, in order (bytes)."""

    def remove_written(self, folder: Path) -> None:
        """Remove from a copy what it wrote: the next run is as a first one."""
        remove_states(folder)
        for name in self.sizes:
            (folder / name).unlink(missing_ok=True)

    def copied(self, beside: Path) -> Path:
        """A copy of the project to do harm to."""
        return copied(self.project, Path(tempfile.mkdtemp(dir=beside)) / "project")


def make_once(folder: Path, last: str, make: Callable[[Path], None]) -> None:
    """Make a folder, unless it is there with the file that is written last; other processes wait for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / last).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)


def remove_states(project: Path) -> None:
    """Let trainings begin anew."""
    for state in list(project.glob("results/**/state")):
        shutil.rmtree(state)


def copied(finished: Path, to: Path) -> Path:
    """A copy of a project, as `cp -a` makes it."""
    return Path(shutil.copytree(finished, to, symlinks=True))


def jobs_of(dry_run: str) -> list[Job]:
    """The jobs of what `snakemake -n -p` printed, in the order of their outputs."""
    found = []
    for rule, about, command in re.findall(
        r"^(?:local)?rule (\w+):\n((?: .*\n)*)Shell command: (.*)$", dry_run, re.MULTILINE
    ):
        facts = dict(re.findall(r"^    (\w+): (.*)$", about, re.MULTILINE))
        if "output" in facts:  # not a target
            words = tuple(shlex.split(command.removeprefix("exec ")))
            found.append(Job(rule, tuple(facts["output"].split(", ")), facts["log"], words))
    return sorted(found, key=lambda job: job.outputs)


class Running:
    """A job's process, a child of a process that has imported what is slow to import."""

    def __init__(self, job: Job, folder: Path, step: str, largest: int, kill_at: KillAt | None) -> None:
        _import_what_is_slow()
        self._said, self._steps, self._published = notes = [
            Path(_notes().name) / name for name in ("said", "steps", "published")
        ]
        for note in notes:  # of the run before
            note.write_bytes(b"")
        self.process = _FORKED.Process(target=_be, args=(job, folder, *notes, step, largest, kill_at))
        self.begun = time.monotonic()
        self.process.start()

    def wait(self, seconds: float = HANGS) -> int:
        """Its exit code; it must end in time."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"it did not end in {seconds} s: {self.said}")
        self.seconds = time.monotonic() - self.begun
        self.published = self._published.read_text().splitlines()
        """What it began to publish in `results`, in order; where it was killed, with what must be found."""
        return self.process.exitcode

    def reaches(self, so: Callable[[], bool]) -> bool:
        """Wait until something is so; False if it ended before."""
        deadline = time.monotonic() + HANGS
        while not so():
            if self.process.exitcode is not None:
                return so()
            assert time.monotonic() < deadline, self.said
            time.sleep(0.002)
        return True

    def killed_after(self, seconds: float) -> bool:
        """Kill it (-9) so long after its start; whether it still ran then."""
        self.process.join(seconds)
        return self.killed()

    def killed_at(self, step: int) -> bool:
        """Kill it (-9) as soon as it has done so many steps; whether it still ran then."""
        self.reaches(lambda: self.steps >= step)
        return self.killed()

    def says(self, words: str) -> bool:
        """Wait until it says something; False if it ended before."""
        return self.reaches(lambda: words in self.said)

    def killed(self) -> bool:
        """Kill it (-9); whether it still ran."""
        alive = self.process.exitcode is None
        self.process.kill()
        self.process.join()
        return alive

    @property
    def said(self) -> str:
        """What it wrote to the terminal."""
        return self._said.read_text() if self._said.exists() else ""

    @property
    def publishes(self) -> bool:
        """Tell whether it has begun to publish something."""
        return self._published.stat().st_size > 0

    @property
    def steps(self) -> int:
        """Calls of the counted method."""
        return self._steps.stat().st_size if self._steps.exists() else 0


@functools.cache
def _notes() -> tempfile.TemporaryDirectory[str]:
    """Of this process alone: a job, which imports this module too, would leave its own when it is killed."""
    return tempfile.TemporaryDirectory(prefix="splatdag-faults-")


@functools.cache
def _import_what_is_slow() -> None:
    """Wait until the process that others are forked from is ready, which would count as the first job's time."""
    first = _FORKED.Process(target=int)
    first.start()
    first.join()


def _be(
    job: Job, folder: Path, said: Path, steps: Path, published: Path, step: str, largest: int, kill_at: KillAt | None
) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    os.chdir(folder)
    terminal = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(terminal, stream)
    steps.write_bytes(b"")
    watch_publications(os.open(published, os.O_WRONLY | os.O_APPEND), kill_at)
    if step:
        _count(step, os.open(steps, os.O_WRONLY | os.O_APPEND))
    sys.argv = list(job.words[job.words.index("-m") + 1 :])
    runpy.run_module(job.module, run_name="__main__", alter_sys=True)


def _count(step: str, file: int) -> None:
    """Write a byte after each call of a method, `module:Class.method`; a kill leaves what is written."""
    module, _, path = step.partition(":")
    kind, _, name = path.partition(".")
    owner = getattr(import_module(module), kind)
    original = getattr(owner, name)

    def counted(*given: Any, **named: Any) -> Any:
        result = original(*given, **named)
        os.write(file, b".")
        return result

    setattr(owner, name, counted)
