"""A job that kills itself (-9) while it publishes: at a given publication and moment, which chance would hardly hit."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

Publish = Callable[[Path], AbstractContextManager[Path]]
HALF, WHOLE, REPLACED = MOMENTS = (
    "while it was written",
    "when it was whole and not yet in its place",
    "when it was in its place",
)


@dataclass(frozen=True)
class KillAt:
    """Where a job ends."""

    publication: int
    """Counted from 0, in the order in which they begin."""
    moment: str


def kills_at(publications: int, most: int) -> list[KillAt]:
    """The first publication, the last and some between, with the moments in turn."""
    kills = min(publications, most)
    return [
        KillAt(index * (publications - 1) // max(kills - 1, 1), MOMENTS[index % len(MOMENTS)]) for index in range(kills)
    ]


def watch_publications(notes: int, kill_at: KillAt | None) -> None:
    """Note the name of whatever this process publishes in `results`, and end it where it shall end.

    Before that it notes what must be found then in the place of what was published (see `found`).
    """
    assert not any(name.partition(".")[0] == "splatdag" for name in sys.modules), "modules would keep the originals"
    from splatdag.workflow import publish

    numbers, results = itertools.count(), Path("results").absolute()

    def watched(original: Publish) -> Publish:
        @contextmanager
        def publication(path: Path) -> Iterator[Path]:
            inside = path.absolute().is_relative_to(results)  # else a job's costs, or a cache of the user
            number = next(numbers) if inside else None
            if inside:
                os.write(notes, f"{path.absolute()}\n".encode())
            moment = kill_at.moment if kill_at is not None and kill_at.publication == number else None
            before = found(path) if moment else ""
            with original(path) as temporary:
                yield temporary
                if moment == HALF:
                    _cut(temporary)
                if moment in (HALF, WHOLE):
                    _die(notes, path, before)
                after = found(temporary) if moment else ""
            if moment == REPLACED:
                _die(notes, path, after)

        return publication

    publish.complete = watched(publish.complete)
    publish.complete_folder = watched(publish.complete_folder)


def found(path: Path) -> str:
    """What is at a path, in a word."""
    if path.is_symlink():
        return f"a link to {path.readlink()}"
    if path.is_dir():
        return _digest("".join(f"{file.relative_to(path)} {found(file)}\n" for file in _files(path)).encode())
    return _digest(path.read_bytes()) if path.exists() else "nothing"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def _cut(path: Path) -> None:
    """Leave what a process leaves that is killed while it writes."""
    if path.is_dir() and not path.is_symlink():
        _files(path)[-1].unlink()
        return
    half = path.with_name(f"{path.name}.half")
    if not path.is_symlink():  # a link is there or is not
        shutil.copyfile(path, half)  # which may share its data with what it is a link to
        os.truncate(half, half.stat().st_size // 2)
        half.replace(path)
    else:
        path.unlink()


def _die(notes: int, path: Path, expected: str) -> None:
    os.write(notes, f"{path.absolute()}\t{expected}\n".encode())
    os.killpg(0, signal.SIGKILL)
