"""What a user sees when an input is wrong: one line, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

USER_ERROR = 2
"""Exit code of a run that stopped because an input is wrong."""
RESUMABLE = 75
"""Exit code of a run that was told to stop and saved its state (EX_TEMPFAIL)."""


class UserError(Exception):
    """An input is wrong. The message is one line: what, where, what was expected, what to do."""


class Stopped(BaseException):
    """Not now: SIGTERM arrived, or another process is at it; the same command will go on from the saved state.

    Like KeyboardInterrupt, it is no Exception, so that no library takes it for a failure.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that ends a message about an unknown name: `; the nearest is max_steps`, or all of a few."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; the nearest is {close[0]}"
    return f"; known are {', '.join(known)}" if len(known) <= 12 else ""


def listed(names: list[str], most: int = 20) -> str:
    """Names for a message, the first of them where there are many."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
