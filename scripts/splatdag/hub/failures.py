"""Failed requests to the Hub: report an error to the user, try again at once, or wait and try again."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from typing import NoReturn

import httpx2
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import parse_ratelimit_headers

from splatdag.hub.options import TOKEN, UploadOptions
from splatdag.workflow.errors import UserError

logger = logging.getLogger(__name__)

_LONGEST_WAIT = 60.0
"""Longest wait between two attempts, unless the Hub asks for more (seconds)."""
_MOVED = 412
"""HTTP status of a commit whose parent is not the head of the branch."""
_TRANSIENT = {408, 409, 423, 425, 429, 500, 502, 503, 504, 520, 522, 524}
"""HTTP statuses of failures that may pass; 409 and 423: another commit is being made."""


class HubFailure(Exception):
    """The Hub could not be reached or did not take an upload; the same command later may succeed."""


class LongWait(Exception):
    """The Hub asks to wait longer than the upload may."""


class Patience:
    """Waits between attempts, `patience_s` in all."""

    def __init__(self, options: UploadOptions, endpoint: str) -> None:
        self._where = f"{options.repo_id}, branch {options.branch}, at {endpoint}"
        self._repo_id, self._endpoint = options.repo_id, endpoint
        self._left, self._next_wait, self._attempts = options.patience_s, 1.0, 1
        self._moved = 0

    @property
    def nothing_to_do(self) -> str:
        """Message where the branch has everything."""
        if self._attempts > 1:
            return "everything is there; the commit before had arrived, or another's made it superfluous"
        return "everything is there as it is; nothing was sent"

    def after(self, error: Exception) -> None:
        """Wait before another attempt, or give up.

        Raises:
            UserError: another attempt would fail alike.
            HubFailure: there is no time left for one.
        """
        cause = _root(error)
        status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
        if isinstance(cause, UserError):
            raise cause
        if isinstance(cause, LongWait):
            self._give_up(cause)
        if status in (401, 403):
            self._refuse(status, cause)
        if not _may_pass(cause, status):
            self._tell_what_is_wrong(cause)
        if status == _MOVED:
            self._moved += 1
            logger.info("the branch has moved since it was looked at; looking again")
            self._wait(min(0.1 * 2**self._moved, 10.0), cause)
            return
        wait = max(self._next_wait, asked_wait(cause.response) if isinstance(cause, HfHubHTTPError) else 0.0)
        self._next_wait = min(2 * self._next_wait, _LONGEST_WAIT)
        logger.warning("%s; attempt %d in %.0f s", _words(cause), self._attempts + 1, wait)
        self._wait(wait, cause)

    def _wait(self, seconds: float, cause: Exception) -> None:
        if seconds > self._left:
            self._give_up(cause)
        self._left -= seconds
        self._attempts += 1
        time.sleep(seconds)

    def _give_up(self, cause: Exception) -> NoReturn:
        raise HubFailure(
            f"{self._where}: {_words(cause)} (attempt {self._attempts}); run the same command again later:"
            " what has arrived is not sent again"
        ) from cause

    def _refuse(self, status: int, cause: Exception) -> NoReturn:
        if status == 401:
            raise UserError(
                f"{TOKEN}: {self._endpoint} does not accept this token (401), or {self._repo_id} is private and not"
                " yours; make one that may write, and set it in the environment"
            ) from cause
        raise UserError(
            f"{TOKEN}: this token may not write to {self._repo_id} (403); it needs the role `write`, or the right to"
            " write to that repository"
        ) from cause

    def _tell_what_is_wrong(self, cause: Exception) -> NoReturn:
        if isinstance(cause, RepositoryNotFoundError):
            raise UserError(f"sharing.upload.repo_id: {self._endpoint} has no repository {self._repo_id}") from cause
        if _without_xet(cause):
            raise UserError(
                f"{self._endpoint} has no Xet storage; set HF_HUB_DISABLE_XET=1 in the environment"
            ) from cause
        if isinstance(cause, HfHubHTTPError):
            raise UserError(f"{self._where}: {_words(cause)}") from cause
        raise cause


def asked_wait(response: httpx2.Response) -> float:
    """Read the wait that a response asks for (seconds), from Retry-After or the Hub's rate limit headers; else 0."""
    after = response.headers.get("Retry-After", "")
    if after.isdecimal():
        return float(after)
    limits = parse_ratelimit_headers(response.headers)
    return float(limits.reset_in_seconds) if limits is not None and limits.remaining == 0 else 0.0


def refuse_long_waits(patience_s: float) -> Callable[[httpx2.Response], None]:
    """Return a hook that raises LongWait where the Hub asks huggingface_hub to wait longer than `patience_s`."""

    def check(response: httpx2.Response) -> None:
        if response.status_code in (429, 503) and (wait := asked_wait(response)) > patience_s:
            raise LongWait(f"it is busy ({response.status_code}) and asks to wait {wait:.0f} s")

    return check


def _root(error: Exception) -> Exception:
    """Return the cause behind huggingface_hub's `Error while uploading …`, or the error itself."""
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _may_pass(cause: Exception, status: int | None) -> bool:
    if status is not None:
        return status == _MOVED or status in _TRANSIENT
    if isinstance(cause, ConnectionError | TimeoutError):
        return not _without_xet(cause)
    return isinstance(cause, httpx2.TransportError | json.JSONDecodeError)


def _without_xet(cause: Exception) -> bool:
    """Tell whether hf_xet asked a Hub for Xet storage that it does not have."""
    return re.search(r"xet.*\b404\b|\b404\b.*xet", str(cause), re.DOTALL | re.IGNORECASE) is not None


def _words(cause: Exception) -> str:
    """Describe a failure in one line without addresses."""
    if isinstance(cause, HfHubHTTPError):
        said = (cause.server_message or cause.response.reason_phrase or "").strip()
        return f"the Hub answered {cause.response.status_code}" + (f" ({' '.join(said.split())[:200]})" if said else "")
    if isinstance(cause, httpx2.TimeoutException | TimeoutError):
        return "the Hub did not answer in time"
    if isinstance(cause, httpx2.TransportError | ConnectionError):
        return f"the connection failed ({' '.join(str(cause).split())[:200] or type(cause).__name__})"
    if isinstance(cause, json.JSONDecodeError):
        return "the Hub, or a proxy before it, answered what is no JSON"
    return " ".join(str(cause).split())[:200]
