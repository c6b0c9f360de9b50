"""Something small that is done again and again beside the work of a process, until that ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def repeated(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Call `action` every so many seconds, from a thread, while the block runs; a kill of the process ends it too."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(seconds):
            action()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
