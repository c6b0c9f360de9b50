"""How a stage's last attempt went, read from its log, the lock that a running stage holds on it, and its notes."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from splatdag.workflow.stage import FAILED, FINISHED, STARTED, STOPPED
from splatdag.workflow.usage import NOTE_SECONDS, SUFFIX, read_usage

_TAIL = 64 * 1024
_TIME = rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
_HEADER = re.compile(rf" {STARTED} \S+ \(process \d+\)$".encode(), re.MULTILINE)
_END = re.compile(rb"(%b) (%b in [\d.]+ s|(%b|%b): ?(.*))$" % (_TIME, *map(str.encode, (FINISHED, FAILED, STOPPED))))


class State(StrEnum):
    """How far a stage is."""

    WAITING = "waiting"
    """It has not been started."""
    RUNNING = "running"
    """Its log is locked by the process that writes it; or it runs on another machine and has lately noted its usage."""
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    """It was told to stop and saved its state: running it again continues."""
    KILLED = "killed"
    """It ended without writing why."""


@dataclass(frozen=True)
class Attempt:
    """The last attempt at a stage."""

    state: State
    reason: str = ""
    """Why it failed or stopped, one line."""
    when: str = ""
    """When it ended, or began if it has not ended, as the log writes it; empty if unknown."""
    attempts: int = 0
    """Attempts that the log's last 64 KiB tell of."""


def read_attempt(log: Path) -> Attempt:
    """The last attempt that a log tells of; a missing file or one that no stage wrote is `waiting`.

    Only the beginning and the last 64 KiB are read, so that a huge log costs no more than a small one.
    """
    try:
        with log.open("rb") as file:
            return _read(file, log)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return Attempt(State.WAITING, "" if missing else f"cannot read {log}: {error.strerror}")


def _read(file: BinaryIO, log: Path) -> Attempt:
    tail = _tail(file)
    headers = _headers(tail)
    if not headers and not _headers(_first_line(file)):
        return Attempt(State.WAITING)
    attempts = max(len(headers), 1)
    if end := _end(tail):
        state = State(end[3].decode()) if end[3] else State.DONE
        return Attempt(state, (end[4] or b"").decode(errors="replace"), end[1].decode(), attempts)
    begun = headers[-1] if headers else ""
    # Only a log without an end is probed: a probe that meets a starting stage would make it give up.
    state, reason = (State.RUNNING, "") if _notes_elsewhere(log) else _without_end(file)
    return Attempt(state, reason and f"{reason}; see {log}", begun, attempts)


def _tail(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    return file.read(_TAIL)


def _first_line(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.readline(512)


def _headers(text: bytes) -> list[str]:
    """When each attempt began; a header may follow on the half line that a killed attempt left."""
    times = (text[max(0, match.start() - 19) : match.start()] for match in _HEADER.finditer(text))
    return [time.decode() for time in times if re.fullmatch(_TIME, time)]


def _end(text: bytes) -> re.Match[bytes] | None:
    """The last line that has a time, if it is the end of an attempt; what follows it is no stage's."""
    timed = next((line for line in reversed(text.split(b"\n")) if re.search(_TIME, line)), b"")
    return _END.search(timed)


def _notes_elsewhere(log: Path) -> bool:
    """Whether a stage runs on another machine, whose locks may not be seen here."""
    path = log.with_suffix(SUFFIX)
    attempts = read_usage(path)
    if not attempts or attempts[-1].end or attempts[-1].host == socket.gethostname():
        return False
    return time.time() - path.stat().st_mtime < 4 * NOTE_SECONDS


def _without_end(file: BinaryIO) -> tuple[State, str]:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return State.RUNNING, ""
    except OSError:
        return State.KILLED, "no end yet, and this file system has no locks: killed, or still running"
    return State.KILLED, "ended without a word: killed, out of memory or a crash"
