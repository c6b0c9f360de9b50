"""Where the sheet wants runs to appear as links (column result_dir): free places, apart from each other."""

from __future__ import annotations

import os
from pathlib import Path

from splatdag.workflow.errors import UserError


def check_result_dir(link: Path, capture: str, results: Path, where: str) -> None:
    """Stop unless the place for the link to a capture's run is free, or holds that link.

    Raises:
        UserError: what is in the way; begins with `where`.
    """
    place, runs = absolute(link), absolute(results / "captures")
    if place == runs or runs in place.parents or place in runs.parents:
        raise UserError(
            f"{where}: {link} can't be a link, since the runs themselves are in {results / 'captures'};"
            f" choose another place, such as {results / (capture + '_single')}"
        )
    check_link(link, results / "captures" / capture / "single", where)


def check_link(link: Path, run: Path, where: str) -> None:
    """Stop unless `link` is free or a link to the folder `run` already.

    Raises:
        UserError: something else is there.
    """
    if os.path.lexists(link) and not (link.is_symlink() and link.resolve() == run.resolve()):
        kind = "a link to elsewhere" if link.is_symlink() else "a folder" if link.is_dir() else "a file"
        raise UserError(f"{where}: {link} is already there, {kind}; move it away, or choose another result_dir")


def check_apart(linked: list[tuple[str, str, Path]]) -> None:
    """Stop if two links have one place, or one is inside another's run.

    Args:
        linked: where each is written, its capture, and the link.

    Raises:
        UserError: which two.
    """
    taken: dict[Path, tuple[str, str, Path]] = {}
    for row in linked:
        where, _, link = row
        first = taken.setdefault(absolute(link), row)
        if first is not row:
            raise UserError(f"{where}: {link} is that of capture {first[1]} too; choose another")
    for place, (where, _, link) in taken.items():
        outer = next((taken[parent] for parent in place.parents if parent in taken), None)
        if outer:
            raise UserError(f"{where}: {link} is inside that of capture {outer[1]}; choose another")


def absolute(path: Path) -> Path:
    """Without `..`, but with its links: a link to a folder of an odd name gives it another."""
    return Path(os.path.abspath(path))  # noqa: PTH100
