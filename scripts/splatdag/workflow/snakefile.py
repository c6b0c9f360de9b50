"""Helpers for the Snakefile and its rules."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import splatdag
from splatdag.workflow.errors import USER_ERROR, UserError
from splatdag.workflow.gpu_slots import JOBS_PER_GPU, jobs_per_gpu
from splatdag.workflow.inventory import file_digest
from splatdag.workflow.profiles import FOLDER, profile_folder, requested_profile
from splatdag.workflow.site import read_site, request

CACHE = Path(".snakemake") / "splatdag"
"""What may be remembered from one parse to the next; safe to delete."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a `UserError` into its line on stderr and exit code 2, without Snakemake's traceback."""
    try:
        yield
    except UserError as error:
        print(f"splatdag: {error}".replace("\n", "\nsplatdag: "), file=sys.stderr)
        sys.exit(USER_ERROR)


def tell(lines: Iterable[str]) -> None:
    """Say something on stderr; what a run does is not changed by it."""
    for line in lines:
        print(f"splatdag: {line}", file=sys.stderr)


def check_profile(arguments: Sequence[str], main_snakefile: str) -> None:
    """Stop when the profile named on the command line is not there; Snakemake would run without it.

    Raises:
        UserError: the profile, and the nearest known one.
    """
    requested = requested_profile(arguments)
    if requested is not None:
        profile_folder(requested, Path.cwd(), Path(main_snakefile).parent)


def prepare_environment() -> None:
    """Let jobs run this interpreter and this package, with or without an activated environment."""
    _put_first("PATH", str(Path(sys.executable).parent))
    _put_first("PYTHONPATH", str(Path(splatdag.__file__).resolve().parent.parent))


def share_gpus(limits: Mapping[str, Any]) -> None:
    """Let as many jobs share a GPU as `jobs_per_gpu` beside the profile's `gpu` says; 1 without it.

    Raises:
        UserError: it is no number from 1 to 64.
    """
    if "jobs_per_gpu" in limits:
        os.environ[JOBS_PER_GPU] = str(jobs_per_gpu(limits["jobs_per_gpu"].value))


def _put_first(variable: str, folder: str) -> None:
    others = [part for part in os.environ.get(variable, "").split(os.pathsep) if part not in ("", folder)]
    os.environ[variable] = os.pathsep.join([folder, *others])


def found(path: str, workflow_dir: Path) -> Path:
    """A file named in the config: from the working directory, else from the folder of the Snakefile."""
    here = Path(path)
    return here if here.exists() or here.is_absolute() else workflow_dir / path


def digest_of_files(paths: Iterable[Path]) -> str:
    """One digest of the names and contents of small files."""
    files = {str(path): file_digest(path) for path in paths}
    return hashlib.blake2b(json.dumps(files, sort_keys=True).encode(), digest_size=8).hexdigest()


F = TypeVar("F", bound=Callable[..., Any])


def for_every_job(function: F) -> F:
    """Keep a function's signature beside it: Snakemake looks it up several times for every job that it plans."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


def scaled(amount: int) -> Callable[[Any, int], int]:
    """A resource that grows with each attempt: MB or minutes."""
    return for_every_job(lambda wildcards, attempt: amount * attempt)


def backend(limits: Mapping[str, Any]) -> str:
    """`cpu` where the run's resources allow no GPU, else `cuda`.

    Snakemake compares no param that a job's `resources` decide on, so that the switch is looked up in its source.
    """
    limit = limits.get("gpu")
    return "cpu" if limit is not None and limit.value == 0 else "cuda"


def site_resources(workflow_dir: Path) -> Callable[[str], dict[str, str]]:
    """A function from `cpu`, or a GPU class (`any`, `h100`), to the resources that get such a node at this site."""
    site = read_site(workflow_dir / FOLDER / "slurm" / "site.yaml")
    return lambda node: request(site, node)
