"""Whatever is in a file: a reader takes it or says in one line what is wrong, soon and in little memory.

Readers run in a process of their own, since libraries that decode may end it. How many files each gets is for
seconds; with the marker `faults` it is for minutes, and SPLATDAG_FUZZ is any number.
"""

from __future__ import annotations

import logging
import os
import random
import resource
import shutil
import signal
import traceback
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import pytest
from damage import bent, damaged

_SECONDS = 120
"""For one file."""
_MEMORY = 4 << 30
"""Bytes that a process of readers may ask for; the libraries alone take about one."""
NAMES = (
    "photo, RGB jpg", "photo, CMYK jpg", "photo, RGBA png", "photo, P png", "photo, I;16 png", "photo, RGB tif",
    "photo, RGB bmp", "mask", "picture", "COLMAP, binary", "COLMAP, text", "transforms.json",
    "points of transforms.json", "splat", "sheet", "config", "site", "held-out list", "index, pickle", "index, lines",
    "driving log, lists", "driving log, tables", "lift cache", "checkpoint, flux4d", "checkpoint, splats",
    "checkpoint of simple_trainer", "state",
    "recording", "human results, pose", "human results, cameras", "human results, tables", "run", "measured clip",
    "measured clip, motion", "measured clip, cameras", "remembered digests", "JSON",
)  # fmt: skip


def _limited() -> None:
    """Bound the memory of a process of readers."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGALRM, _too_slow)
    logging.disable(logging.CRITICAL)


def _too_slow(number: int, frame: object) -> None:
    raise TimeoutError(f"more than {_SECONDS} s")


def read_damaged(name: str, folder: Path, count: int) -> tuple[int, int, list[str]]:
    """Read so many damaged files.

    Returns:
        How many were read and how many refused, and what went wrong otherwise.
    """
    from readers import READERS

    from splatdag.workflow.errors import UserError

    reader, work = READERS[name], folder / "work"
    valid = folder / "valid"
    valid.mkdir()
    files = [path.relative_to(valid) for path in sorted(reader.write(valid))]
    shutil.copytree(valid, work)
    reader.read(work)
    taken = refused = 0
    wrong: list[str] = []
    for number in range(max(5, round(count * reader.share))):
        chance = random.Random(zlib.crc32(f"{name} {number}".encode()))
        file = chance.choice(files)
        if reader.tree and chance.random() < 0.6:
            try:
                reader.tree.save(work / file, bent(reader.tree.load(valid / file), chance))
            except Exception:  # a format that does not hold such a value
                continue
        else:
            (work / file).write_bytes(damaged((valid / file).read_bytes(), chance))
        (folder / "number.txt").write_text(f"{number}, {file}")
        signal.alarm(_SECONDS)
        try:
            reader.read(work)
            taken += 1
        except UserError:
            refused += 1
        except BaseException:
            wrong.append(f"{name}, number {number}, {file}: {traceback.format_exc(limit=-3)}")
        finally:
            signal.alarm(0)
        shutil.copy(valid / file, work / file)
    if reader.refuses and not refused and not wrong:
        wrong.append(f"{name}: all {taken} were taken")
    return taken, refused, wrong


class _Readers:
    """A process for readers, another when it is dead."""

    def __init__(self) -> None:
        self.pool: ProcessPoolExecutor | None = None

    def run(self, name: str, folder: Path, count: int) -> tuple[int, int, list[str]]:
        if self.pool is None:
            self.pool = ProcessPoolExecutor(1, get_context("spawn"), _limited)
        try:
            return self.pool.submit(read_damaged, name, folder, count).result()
        except BrokenProcessPool:
            self.pool = None
            return 0, 0, [f"{name}: the process died of number {(folder / 'number.txt').read_text()}"]

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown()


@pytest.fixture(scope="module")
def readers() -> Iterator[_Readers]:
    found = _Readers()
    yield found
    found.close()


def _check(
    readers: _Readers, name: str, folder: Path, count: int, record_property: Callable[[str, object], None]
) -> None:
    taken, refused, wrong = readers.run(name, folder, int(os.environ.get("SPLATDAG_FUZZ", count)))
    record_property("fault", ("damaged files", taken + refused + len(wrong)))
    assert not wrong, f"{len(wrong)} of {taken + refused + len(wrong)}; the first:\n" + "\n".join(wrong[:3])


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_taken_or_refused_in_one_line(name, readers, tmp_path, record_property) -> None:
    _check(readers, name, tmp_path, 12, record_property)


@pytest.mark.faults
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_damaged_files_are_taken_or_refused(name, readers, tmp_path, record_property) -> None:
    _check(readers, name, tmp_path, 1000, record_property)


def test_every_reader_is_named_here() -> None:
    from readers import READERS

    assert set(NAMES) == set(READERS)
