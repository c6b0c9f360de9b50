"""A finished project of all areas, copies of it to do harm to, and how many faults were injected."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from areas import AREAS, TARGETS, write_project
from jobs import HANGS, Count, Job, copied, jobs_of, make_once
from rounds import ROUND, sampled

SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "2"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left alone with it."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent or not item.get_closest_marker("slow"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], Path]) -> Path:
    """The project of all areas, everything made; the first process that needs it makes it for all."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "finished"
    make_once(folder, "dry_run.txt", lambda folder: _make_all(new_project(folder)))
    return folder


def _make_all(project: Path) -> None:
    write_project(project)
    _snakemake(project, *(target for target in TARGETS if target != "compare"))
    _snakemake(project, "compare")  # of the runs that are there now
    (project / "dry_run.txt").write_text(_snakemake(project, "-n", "-p", "--forceall", *TARGETS))


def _snakemake(folder: Path, *arguments: str) -> str:
    done = subprocess.run([*SNAKEMAKE, *arguments], cwd=folder, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def jobs(finished: Path, rule: str, request: pytest.FixtureRequest) -> list[Job]:
    """The jobs of a rule that faults are injected into: one in a usual round."""
    every = {name for area in AREAS.values() for name in area.every_job}
    found = [job for job in jobs_of((finished / "dry_run.txt").read_text()) if job.rule == rule]
    return sampled(found, 1, request.node.name) if rule in every else found[:1]


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project, as `cp -a` makes it."""
    return copied(finished, tmp_path / "project")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory; without the right to mount one the test is skipped."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256m", "none", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    """Note a fault that was injected; their numbers are told in the end."""

    def note(kind: str, number: int = 1) -> None:
        record_property("fault", (kind, number))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many faults were injected, and how they were chosen."""
    total: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, fault in report.user_properties if report.when == "call" else ():
            if name == "fault":
                total[fault[0]] += fault[1]
    if total:
        terminalreporter.section("faults injected")
        terminalreporter.write_line(ROUND)
        for kind, number in sorted(total.items()):
            terminalreporter.write_line(f"{number:5d}  {kind}")
        terminalreporter.write_line(f"{total.total():5d}  in all")
