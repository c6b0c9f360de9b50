"""Which files Python opens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_listeners: list[list[str]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _listeners and isinstance(arguments[0], str | bytes | os.PathLike):
        for heard in _listeners:
            heard.append(os.fsdecode(arguments[0]))


sys.addaudithook(_hear)  # of the whole process; it can't be taken away again


@contextmanager
def opened() -> Iterator[list[str]]:
    """The paths that are opened meanwhile, in order; those that a library opens by itself in C are not among them."""
    heard: list[str] = []
    _listeners.append(heard)
    try:
        yield heard
    finally:
        _listeners.remove(heard)
