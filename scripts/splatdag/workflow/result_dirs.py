"""Where the user wants runs to appear as links (`result_dir`, `out_dir`): free places, apart from each other.

The run `single` appears as the folder `result_dir` itself, the two of a pair as `result_dir/combined` and
`result_dir/filtered`. Where a row has all three, the links of the pair lie in the run `single`, so that all are found
at these paths, whichever was made first.
"""

from __future__ import annotations

import os
from pathlib import Path

from splatdag.workflow.errors import UserError

PAIR = ("combined", "filtered")
"""Variants whose links lie inside the folder."""


def link_of(result_dir: Path, variant: str) -> Path:
    """Where a run of a row appears."""
    return result_dir / variant if variant in PAIR else result_dir


def check_result_dir(result_dir: Path, run: Path, area: Path, where: str) -> None:
    """Stop unless the places for the links to a scene's runs are free, or hold these links.

    Args:
        result_dir: where they are wanted.
        run: folder of the run that appears as `result_dir` itself; those of a pair lie beside it.
        area: folder of all runs of the area.
        where: begins the message.

    Raises:
        UserError: what is in the way.
    """
    place, runs = absolute(result_dir), absolute(area)
    if place == runs or runs in place.parents or place in runs.parents:
        example = area.parent / "_".join(run.relative_to(area).parts)
        raise UserError(
            f"{where}: {result_dir} can't be a link, since the runs themselves are in {area};"
            f" choose another place, such as {example}"
        )
    check_link(result_dir, run, where)
    for variant in PAIR:
        check_link(link_of(result_dir, variant), run.parent / variant, where)


def check_link(link: Path, run: Path, where: str) -> None:
    """Stop unless `link` is free or a link to the folder `run` already, or a folder of links to the runs beside that.

    Raises:
        UserError: something else is there.
    """
    if not os.path.lexists(link) or leads_to(link, run) or links_of_pair(link, run.parent):
        return
    kind = "a link to elsewhere" if link.is_symlink() else "a folder" if link.is_dir() else "a file"
    raise UserError(f"{where}: {link} is already there, {kind}; move it away, or choose another place")


def leads_to(link: Path, run: Path) -> bool:
    """Whether a path is a link to a run."""
    return link.is_symlink() and link.resolve() == run.resolve()


def links_of_pair(folder: Path, runs: Path) -> dict[str, Path]:
    """The links in a folder that has nothing but links to the pair of runs in `runs`; empty for any other."""
    if folder.is_symlink() or not folder.is_dir():
        return {}
    entries = {path.name: path for path in folder.iterdir()}
    ours = all(name in PAIR and leads_to(path, runs / name) for name, path in entries.items())
    return entries if ours else {}


def check_apart(linked: list[tuple[str, str, Path]]) -> None:
    """Stop if two links have one place, or one is inside another's run.

    Args:
        linked: where each is written, whose it is, and the link.

    Raises:
        UserError: which two.
    """
    taken: dict[Path, tuple[str, str, Path]] = {}
    for row in linked:
        where, _, link = row
        first = taken.setdefault(absolute(link), row)
        if first is not row:
            raise UserError(f"{where}: {link} is that of {first[1]} too; choose another")
    for place, (where, _, link) in taken.items():
        outer = next((taken[parent] for parent in place.parents if parent in taken), None)
        if outer:
            raise UserError(f"{where}: {link} is inside that of {outer[1]}; choose another")


def absolute(path: Path) -> Path:
    """Without `..`, but with its links: a link to a folder of an odd name gives it another."""
    return Path(os.path.abspath(path))  # noqa: PTH100
