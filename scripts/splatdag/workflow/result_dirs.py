"""Paths at which the user wants links to runs (`result_dir`, `out_dir`): free, and none inside another.

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
    """Return the path of the link to a run of a row."""
    return result_dir / variant if variant in PAIR else result_dir


def check_result_dir(result_dir: Path, run: Path, area: Path, where: str) -> None:
    """Stop unless the places for the links to a scene's runs are free, or hold these links.

    Args:
        result_dir: path at which they are wanted.
        run: folder of the run that appears as `result_dir` itself; those of a pair lie beside it.
        area: folder of all runs of the area.
        where: beginning of the message.

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
    """Tell whether a path is a link to a run."""
    return link.is_symlink() and link.resolve() == run.resolve()


def links_of_pair(folder: Path, runs: Path) -> dict[str, Path]:
    """Return the links in a folder that has nothing but links to the pair of runs in `runs`; empty for any other."""
    if folder.is_symlink() or not folder.is_dir():
        return {}
    entries = {path.name: path for path in folder.iterdir()}
    ours = all(name in PAIR and leads_to(path, runs / name) for name, path in entries.items())
    return entries if ours else {}


def check_apart(linked: list[tuple[str, str, Path]]) -> None:
    """Raise UserError if two links coincide or nest.

    Args:
        linked: for each link the place in the input, the name of its owner, and its path.

    Raises:
        UserError: two links coincide or nest; the message names both.
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
    """Return a path as absolute, without `..`; links are not resolved, since a link may give a folder a better name."""
    return Path(os.path.abspath(path))  # noqa: PTH100
