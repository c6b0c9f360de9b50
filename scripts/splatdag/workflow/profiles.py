"""Command line of Snakemake and its profile, which has to exist here: Snakemake ignores one that is missing."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from splatdag.workflow.errors import UserError, nearest

FOLDER = "workflow_profiles"
SLURM_EXECUTORS = ("splatdag-slurm", "slurm")
"""Executors that submit jobs to Slurm: this package's, and the one that it is derived from."""
_WITHOUT_JOBS = (
    "dryrun", "touch", "unlock", "list_rules", "list_target_rules", "summary", "detailed_summary", "report", "lint",
    "dag", "rulegraph", "filegraph", "cleanup_metadata",
)  # fmt: skip
"""Options of Snakemake with which it runs no job."""
_FILES = ("profile*.yaml", "config*.yaml")


def requested_profile(arguments: Sequence[str]) -> str | None:
    """Return the value of `--workflow-profile` (or an unambiguous beginning of it) among arguments, or None."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, equals, value = argument.partition("=")
        if len(flag) > len("--w") and "--workflow-profile".startswith(flag):
            found = value if equals else following
    return None if found == "none" else found


def started_in(arguments: Sequence[str]) -> Path:
    """Return the folder in which Snakemake was started and looks for profiles; `--directory` moves it elsewhere.

    The shell's variable PWD names that folder; it is used only if `--directory` leads from it to the current one.
    """
    given = [
        following if word in ("--directory", "-d") else word.partition("=")[2]
        for word, following in zip(arguments, [*arguments[1:], ""], strict=True)
        if word in ("--directory", "-d") or word.startswith("--directory=")
    ]
    if given:
        before = Path(os.environ.get("PWD", "."))
        if (before / given[-1]).resolve() == Path.cwd():
            return before
    return Path.cwd()


def snakemake_options(arguments: Sequence[str]) -> Any:
    """Parse a command line of Snakemake, with its profiles; None if it is another program's."""
    from snakemake.cli import parse_args

    with contextlib.redirect_stderr(io.StringIO()), contextlib.chdir(started_in(arguments)):
        try:
            return parse_args(list(arguments))[1]
        except SystemExit:
            return None


def slurm_executor(arguments: Sequence[str]) -> str | None:
    """Return the executor that submits jobs to Slurm, set by a profile or `--executor`; None where none does."""
    options = snakemake_options(arguments)
    if options is None or any(getattr(options, name, None) for name in _WITHOUT_JOBS):
        return None
    return options.executor if options.executor in SLURM_EXECUTORS else None


def allowed_rules(arguments: Sequence[str]) -> frozenset[str]:
    """Return the rules of the jobs for which an executor has started Snakemake; none where it is called otherwise."""
    flag = "--allowed-rules"
    words = arguments[arguments.index(flag) + 1 :] if flag in arguments else ()
    return frozenset(itertools.takewhile(lambda word: not word.startswith("-"), words))


def profile_folder(requested: str, working_dir: Path, workflow_dir: Path) -> Path:
    """Return the folder of the profile that Snakemake loads for this name.

    The order is that of Snakemake 9: the name itself, then `profiles/<name>`, both from the working directory,
    then `profiles/<name>` beside the Snakefile.

    Raises:
        UserError: there is none, so Snakemake would run without it.
    """
    candidates = [
        working_dir / requested,
        working_dir / "profiles" / requested,
        workflow_dir / "profiles" / requested,
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.parent
        if any(True for pattern in _FILES for _ in candidate.glob(pattern)):
            return candidate
    known = sorted(path.name for path in (workflow_dir / FOLDER).glob("*") if path.is_dir())
    hint = nearest(Path(requested).name, known)
    raise UserError(
        f"--workflow-profile {requested}: no such profile{hint}; for example --workflow-profile {FOLDER}/slurm"
    )
