"""Waiting for what happens in other processes and threads."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT_S = 900
"""Far above what anything takes on a busy machine: who waits so long waits for what never comes."""


def wait_until(happened: Callable[[], object], every_s: float = 0.01) -> None:
    """Wait until a condition holds, looking so often; fail where it does not in minutes."""
    end = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < end, f"not in {LIMIT_S} s"
        time.sleep(every_s)
