"""Which profile Snakemake was asked for, and whether it is there: Snakemake ignores a missing one in silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from splatdag.workflow.errors import UserError, nearest

FOLDER = "workflow_profiles"
_FILES = ("profile*.yaml", "config*.yaml")


def requested_profile(arguments: Sequence[str]) -> str | None:
    """The value of `--workflow-profile` (or an unambiguous beginning of it) on a command line."""
    found = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, equals, value = argument.partition("=")
        if len(flag) > len("--w") and "--workflow-profile".startswith(flag):
            found = value if equals else following
    return None if found == "none" else found


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
