"""Recordings as files: Rerun's version in the header, task and epoch in the name, and the selection to upload."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from splatdag.workflow.errors import UserError

HEADER_BYTES = 8
"""Length (bytes) of a recording's beginning that holds its version."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.rrd")
TRAINING_VIEWS = "trn_nv_generation"
"""Task whose recordings are not of evaluations."""
_HEADER = re.compile(rb"RRF\d(...)", re.DOTALL)
_EPOCH = re.compile(r"(.+)_epoch_(\d+)")


@dataclass(frozen=True)
class Recording:
    """A recording that is to be shown on a page."""

    name: str
    """Name of the file."""
    size: int
    """Size of the file (bytes)."""
    version: str
    """Version of Rerun that wrote it."""

    @property
    def task(self) -> str:
        """Task in the name, `evaluation_nvs` of `evaluation_nvs_epoch_0010.rrd`; without an epoch, the whole stem."""
        return _parts(self.name)[0]

    @property
    def epoch(self) -> int | None:
        """Epoch in the name, 10 of `evaluation_nvs_epoch_0010.rrd`; None where the name has none."""
        return _parts(self.name)[1]


def _parts(name: str) -> tuple[str, int | None]:
    stem = name.removesuffix(".rrd")
    match = _EPOCH.fullmatch(stem)
    return (match[1], int(match[2])) if match else (stem, None)


def rerun_version(head: bytes) -> str | None:
    """Read the version of Rerun that wrote a recording, such as `0.41.0`, in its first 8 bytes; None if it is none."""
    match = _HEADER.match(head)
    return ".".join(map(str, match[1])) if match else None


def read_recording(path: Path) -> Recording:
    """Look at a recording's header.

    Raises:
        UserError: the file can't be read, is no recording, or has a name that the Hub may not take.
    """
    try:
        with path.open("rb") as file:
            version = rerun_version(file.read(HEADER_BYTES))
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: can't read the recording: {error.strerror}") from None
    if version is None:
        raise UserError(f"{path}: not a Rerun recording, or cut short; make it again")
    if not NAME.fullmatch(path.name):
        raise UserError(f"{path}: not a name for a file of the Hub; letters, digits, _, - and . only")
    return Recording(path.name, size, version)


def resolved(selection: str, rrd_glob: str | None, tasks: Iterable[str], epoch: str) -> tuple[str, str | None]:
    """Return selection and glob for `auto`: evaluations if `tasks` has some, training views if it has those.

    Args:
        selection: as in `UploadOptions`.
        rrd_glob: as in `UploadOptions`; what is given stays.
        tasks: `nvs`, `pose`, `trn_nv_generation`.
        epoch: `all`, `latest`, or one.
    """
    if selection != "auto":
        return selection, rrd_glob
    tasks = set(tasks)
    if TRAINING_VIEWS in tasks and rrd_glob is None:
        rrd_glob = f"{TRAINING_VIEWS}_epoch_*.rrd"
    if tasks <= {TRAINING_VIEWS}:
        return "none", rrd_glob
    return ("eval_latest" if epoch == "latest" else "eval_all"), rrd_glob


def selected(names: Iterable[str], selection: str, rrd_glob: str | None, epoch: str = "all") -> list[str]:
    """Select the names of the recordings to upload, sorted.

    Recordings without an epoch in their names, such as those of captures, count as evaluations, as latest, and as of
    every epoch.

    Args:
        names: of the recordings.
        selection: `eval_all`, `eval_latest` or `none`.
        rrd_glob: names of more.
        epoch: `all`, `latest`, or one, such as `epoch_0010` or `10`, to which all are limited.
    """
    names = sorted(set(names))
    if epoch not in ("all", "latest"):
        only = int(epoch.removeprefix("epoch_"))
        names = [name for name in names if _parts(name)[1] in (None, only)]
    chosen = {name for name in names if rrd_glob is not None and fnmatchcase(name, rrd_glob)}
    if selection != "none":
        evaluations = [name for name in names if not name.startswith(f"{TRAINING_VIEWS}_")]
        latest: dict[str, int | None] = {}
        for name in evaluations:
            task, number = _parts(name)
            latest[task] = number if number is None else max(number, latest.get(task) or 0)
        of_all = selection != "eval_latest"
        chosen |= {name for name in evaluations if of_all or _parts(name)[1] == latest[_parts(name)[0]]}
    return sorted(chosen)
