"""What unit tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _threads_and_signals() -> Iterator[None]:
    """Give back what a training in this process sets: torch's threads and the handler of SIGTERM."""
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)
