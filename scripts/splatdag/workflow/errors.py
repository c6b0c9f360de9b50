"""Errors that a user sees, such as one line and exit code 2 for a wrong input."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

USER_ERROR = 2
"""Exit code of a run that stopped because an input is wrong."""
RESUMABLE = 75
"""Exit code of a run that was told to stop and saved its state (EX_TEMPFAIL)."""


class UserError(Exception):
    """Error in the user's input. The message is one line: what is wrong, where, what was expected, what to do."""


class Stopped(BaseException):
    """Stop without failure: SIGTERM arrived, or another process does the same work.

    The same command, run later, continues from the saved state. Like KeyboardInterrupt, this is no Exception, so that
    no library takes it for a failure.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the hint that ends a message on an unknown name: `; the nearest is max_steps`, or all names if few."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; the nearest is {close[0]}"
    return f"; known are {', '.join(known)}" if len(known) <= 12 else ""


def listed(names: list[str], most: int = 20) -> str:
    """Join names for a message; of many, only the first."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
