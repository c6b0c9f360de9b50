"""What Snakemake was asked for on its command line, and whether its profile is there: a missing one it ignores."""

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
"""This package's executor, and the one that it is made from."""
_WITHOUT_JOBS = (
    "dryrun", "touch", "unlock", "list_rules", "list_target_rules", "summary", "detailed_summary", "report", "lint",
    "dag", "rulegraph", "filegraph", "cleanup_metadata",
)  # fmt: skip
"""Options of Snakemake with which it runs no job."""
_FILES = ("profile*.yaml", "config*.yaml")


def requested_profile(arguments: Sequence[str]) -> str | None:
    """The value of `--workflow-profile` (or an unambiguous beginning of it) on a command line."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, equals, value = argument.partition("=")
        if len(flag) > len("--w") and "--workflow-profile".startswith(flag):
            found = value if equals else following
    return None if found == "none" else found


def started_in(arguments: Sequence[str]) -> Path:
    """Where Snakemake was started, which is where it looks for profiles; `--directory` takes it elsewhere.

    The shell tells where that was; it is not believed if the directory does not lead from there to here.
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
    """Name of the executor that submits jobs to Slurm, by a profile or by `--executor`; None where none will."""
    options = snakemake_options(arguments)
    if options is None or any(getattr(options, name, None) for name in _WITHOUT_JOBS):
        return None
    return options.executor if options.executor in SLURM_EXECUTORS else None


def allowed_rules(arguments: Sequence[str]) -> frozenset[str]:
    """The rules of the jobs that an executor starts Snakemake for; none where it is called otherwise."""
    flag = "--allowed-rules"
    words = arguments[arguments.index(flag) + 1 :] if flag in arguments else ()
    return frozenset(itertools.takewhile(lambda word: not word.startswith("-"), words))


def profile_folder(requested: str, working_dir: Path, workflow_dir: Path) -> Path:
    """The folder of the profile that Snakemake loads for this name.

    Looked up as Snakemake 9 does: the name itself, then `profiles/<name>`, both from the working directory,
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
