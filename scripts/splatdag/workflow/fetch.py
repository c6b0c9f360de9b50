"""Download of a file: complete or absent, checked by its SHA-256, and continued after a cut."""

from __future__ import annotations

import fcntl
import hashlib
import http
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from contextlib import suppress
from io import BufferedRandom
from pathlib import Path

from splatdag.workflow.errors import UserError
from splatdag.workflow.lock import locked

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_SECONDS = 10.0
"""Longest wait for a connection, and for each of its answers (seconds)."""


def fetch(source: str, path: Path, sha256: str) -> None:
    """Download a file; continue after a cut as long as something arrives, and after a kill at the next call.

    Args:
        source: address, http or https.
        path: path of the file; nothing is done if it exists.
        sha256: its digest, or the start of it.

    Raises:
        UserError: it can't be reached or kept, or is another file.
        OSError: its folder can't be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(_partial(path)) as partial:  # where there are no locks, two downloads at a time fail at the digest
        if path.exists():
            _partial(path).unlink(missing_ok=True)
            return
        continued = _size(partial) > 0
        _download(source, partial)
        if not (found := _digest(partial)).startswith(sha256) and continued:
            logger.info("%s: what was left of an earlier download does not fit; once more from the start", path.name)
            partial.truncate(0)
            _download(source, partial)
            found = _digest(partial)
        if not found.startswith(sha256):
            _partial(path).unlink()
            raise UserError(f"{source}: its SHA-256 starts with {found[: len(sha256)]}, not {sha256}: another file")
        os.fsync(partial.fileno())
        _partial(path).replace(path)


def wait_for_fetch(path: Path, seconds: float = 60.0) -> None:
    """Wait while another process downloads a file, but no longer than these seconds."""
    end = time.monotonic() + seconds
    with suppress(OSError), _partial(path).open("rb") as partial:
        while time.monotonic() < end:
            try:
                fcntl.flock(partial, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.5)
            else:
                return


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _size(file: BufferedRandom) -> int:
    return os.fstat(file.fileno()).st_size


def _digest(file: BufferedRandom) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _download(source: str, partial: BufferedRandom) -> None:
    """Append the missing rest of a file, with a new connection after each cut until one brings nothing.

    Raises:
        UserError: it can't be reached, or the last connection brought nothing.
    """
    while True:
        before = _size(partial)
        try:
            if _append(source, partial):
                return
            problem = "cut off"
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
        if _size(partial) == before:
            raise UserError(f"{source}: {problem}")
        logger.info("%s: %s after %d MB; going on from there", source, problem, _size(partial) >> 20)


def _append(source: str, partial: BufferedRandom) -> bool:
    """Append the data of one connection; tell whether the file is whole."""
    begin = _size(partial)
    request = urllib.request.Request(source, headers={"Range": f"bytes={begin}-"} if begin else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and begin:
            return True  # all of it is there, which the digest will show
        raise
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            partial.truncate(0)  # a server that knows no ranges begins anew
        length = answer.headers["Content-Length"]
        expected = None if length is None else _size(partial) + int(length)
        while chunk := answer.read(_CHUNK):
            partial.write(chunk)
            partial.flush()
        return expected is None or _size(partial) == expected
