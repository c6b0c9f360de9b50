"""A terminal that is closed."""

from __future__ import annotations

import signal


def stop_on_hang_up() -> None:
    """Let a terminal that is closed stop this process as SIGTERM does, unless that is to do nothing (nohup)."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
