"""Stop of a process when its terminal is closed."""

from __future__ import annotations

import signal


def stop_on_hang_up() -> None:
    """Let SIGHUP, sent when the terminal is closed, stop this process as SIGTERM does, unless it is ignored (nohup)."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM))
