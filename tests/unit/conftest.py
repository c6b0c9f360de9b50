"""What unit tests share."""

from __future__ import annotations

import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads_and_signals() -> Iterator[None]:
    """Give back what a training in this process sets: torch's threads and the handler of SIGTERM."""
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)


@pytest.fixture
def bounded() -> Iterator[None]:
    """A reader that waits, or never ends, fails its test and stops no others."""
    has = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (has + (2 << 30), limits[1]))
    signal.signal(signal.SIGALRM, lambda number, frame: pytest.fail("waited"))
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_DATA, limits)


@pytest.fixture(scope="session")
def shared_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small results tree of the human trainer, to read."""
    from support.human_trees import make_tree

    return make_tree(tmp_path_factory.mktemp("humans"))


@pytest.fixture
def tree(shared_tree: Path, tmp_path: Path) -> Path:
    """A small results tree of the human trainer, to break; no file of ours is in it."""
    return Path(shutil.copytree(shared_tree, tmp_path / "humans"))


@pytest.fixture(scope="session")
def street_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sample logs of driving, 001 and 002, to read."""
    from support.streets import make

    return make(tmp_path_factory.mktemp("street"))
