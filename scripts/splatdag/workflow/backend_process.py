"""Guardian of a backend: runs its command, and ends all its processes with the stage, however either of them ends.

A script on its own, which needs nothing of this package: `python -I backend_process.py COMMAND…`. One byte on stdin
asks the command to stop; the end of stdin, which also comes with the death of the stage, ends it at once. Exits with
the command's code, or 128 and the number of the signal that ended it, as a shell does.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import psutil

GRACE_SECONDS = 10.0
"""Time that the command has to stop when it is asked to."""
CANNOT_START = 126
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PASSED_BY_STAGE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)


def _obey(process: subprocess.Popen[bytes], ended: threading.Event) -> None:
    """Stop the command when the stage asks for it, and end it when the stage is gone."""
    if os.read(0, 1) and not ended.is_set():
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        ended.wait(GRACE_SECONDS)
    if not ended.is_set():
        _kill_all()


def _kill_all() -> None:
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()


def main() -> None:
    """Run the command of the arguments."""
    # Orphans of the command become children of this process, so that none is lost, whatever session it is in.
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in _PASSED_BY_STAGE:  # Slurm sends SIGTERM to all processes of a job
        signal.signal(number, lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_BY_STAGE)
    try:
        process = subprocess.Popen(
            sys.argv[1:],
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # no thread runs yet
        )
    except OSError as error:
        print(error, flush=True)
        raise SystemExit(CANNOT_START) from None
    ended = threading.Event()
    threading.Thread(target=_obey, args=(process, ended), daemon=True).start()
    code = process.wait()
    ended.set()
    while psutil.Process().children():
        _kill_all()
        with suppress(ChildProcessError):
            os.wait()
    sys.stdout.flush()
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
