"""Helpers for the Snakefile and its rules."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import splatdag
from splatdag.workflow.digests import file_digest
from splatdag.workflow.errors import USER_ERROR, UserError
from splatdag.workflow.gpu_slots import CPU_BUILD, JOBS_PER_GPU, check_gpus, jobs_per_gpu
from splatdag.workflow.patient_executor import mend_executor
from splatdag.workflow.profiles import FOLDER, profile_folder, requested_profile, started_in, submits_to_slurm
from splatdag.workflow.site import Site, check_requests, request
from splatdag.workflow.slurm import accounts, live_jobs, partitions

CACHE = Path(".snakemake") / "splatdag"
"""What may be remembered from one parse to the next; safe to delete."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a `UserError` into its line on stderr and exit code 2, without Snakemake's traceback.

    Also a file or folder that can't be looked at: its name is too long, or it is closed.
    """
    try:
        yield
    except UserError as error:
        message = str(error)
    except OSError as error:
        if error.filename is None:
            raise
        message = f"can't read {str(error.filename)[:200]}: {error.strerror}"
    else:
        return
    print(f"splatdag: {message}".replace("\n", "\nsplatdag: "), file=sys.stderr)
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
        profile_folder(requested, started_in(arguments), Path(main_snakefile).parent)


def prepare_slurm(arguments: Sequence[str], folder: Path) -> None:
    """Make ready for a run on Slurm; stop it while jobs of an earlier one in this folder are there, to run them once.

    Raises:
        UserError: the jobs, and what to do.
    """
    if not submits_to_slurm(arguments):
        return
    mend_executor()
    if jobs := live_jobs(folder):
        some = ", ".join(f"{job.job_id} {job.what}" for job in jobs[:3]) + (", …" if len(jobs) > 3 else "")
        raise UserError(
            f"{len(jobs)} of this folder's jobs are still in Slurm ({some}) and would be run a second time;"
            " wait for them, or cancel them: `python -m splatdag.commands.doctor --cancel`"
        )


def check_slurm(workflow: Any, site_file: Path) -> None:
    """Stop a run on Slurm, before anything is submitted, if the cluster has no partition or account of that name.

    Raises:
        UserError: what to edit.
    """
    if type(workflow.executor_settings).__module__ == "snakemake_executor_plugin_slurm":
        one_of_each = {job.rule.name: job for job in workflow.dag.needrun_jobs() if not job.is_local}
        asked = {rule: one_of_each[rule].resources for rule in sorted(one_of_each)}  # the same message each time
        check_requests(asked, partitions(), accounts(), site_file)


def check_local_gpus(workflow: Any) -> None:
    """Stop a run on this machine, before its jobs wait for one another, if one needs more GPUs than there are.

    Raises:
        UserError: why there are none, and what to do.
    """
    if workflow.local_exec and not workflow.touch and "SLURM_JOB_ID" not in os.environ:
        # kernels are compiled for GPUs of other machines, too
        jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name != "commands.compile_kernels"]
        count = max((int(job.resources.get("devices", 0)) for job in jobs), default=0)
        check_gpus(count)
        asked = [sys.executable, "-c", "import torch; print(torch.version.cuda)"]
        if count and subprocess.run(asked, capture_output=True, text=True).stdout.strip() == "None":
            raise UserError(CPU_BUILD)


def prepare_environment() -> None:
    """Let jobs run this interpreter and this package, with or without an activated environment."""
    _put_first("PATH", str(Path(sys.executable).parent))
    _put_first("PYTHONPATH", str(Path(splatdag.__file__).resolve().parent.parent))


def forgive_clocks() -> None:
    """Give what a job made the time of its newest input, where it is older than that: clocks differ.

    Snakemake 9.27 would remove it, in each attempt, also for inputs that are `ancient`.
    """
    from snakemake.dag import DAG

    async def check_output_mtime(self: Any, job: Any, expanded_output: list[Any]) -> None:
        times = [
            (await path.mtime_uncached(skip_storage=True)).local() for path in job.input if await path.exists_local()
        ]
        newest = max(times, default=0.0)
        behind = {path: newest - Path(path).stat().st_mtime for path in expanded_output if await path.exists_local()}
        late = {path: seconds for path, seconds in behind.items() if seconds > 0}
        for path in late:
            os.utime(path, (newest, newest))
        if late:
            path, seconds = next(iter(late.items()))
            told = f"{path}: {seconds:.0f} s older than an input, so clocks differ"
            tell([f"{told}; outputs of {job.rule.name} got its time"])

    DAG.check_output_mtime = check_output_mtime


def share_gpus(limits: MutableMapping[str, Any]) -> None:
    """Let the profile's `gpu` limit the GPUs that stages use, and `jobs_per_gpu` say how many jobs share one.

    Raises:
        UserError: `jobs_per_gpu` is no number from 1 to 64.
    """
    if "gpu" in limits:
        limits["devices"] = limits["gpu"]
    if "jobs_per_gpu" in limits:
        os.environ[JOBS_PER_GPU] = str(jobs_per_gpu(limits["jobs_per_gpu"].value))


def limit_commits(limits: MutableMapping[str, Any]) -> None:
    """One commit to the Hub at a time, also where `--resources` on the command line replaces the profile's."""
    from snakemake.resources import Resource

    limits.setdefault("hf_commits", Resource("hf_commits", 1))


def _put_first(variable: str, folder: str) -> None:
    others = [part for part in os.environ.get(variable, "").split(os.pathsep) if part not in ("", folder)]
    os.environ[variable] = os.pathsep.join([folder, *others])


def found(path: str, workflow_dir: Path) -> Path:
    """A file named in the config: from the working directory, else from the folder of the Snakefile."""
    here = os.path.exists(path)  # noqa: PTH110 - False, not an error, for a name that no file can have
    return Path(path) if here or Path(path).is_absolute() else workflow_dir / path


def digest_of_files(paths: Iterable[Path]) -> str:
    """One digest of the names and contents of small files."""
    files = {str(path): file_digest(path) for path in paths}
    return hashlib.blake2b(json.dumps(files, sort_keys=True).encode(), digest_size=8).hexdigest()


F = TypeVar("F", bound=Callable[..., Any])


def for_every_job(function: F) -> F:
    """Keep a function's signature beside it: Snakemake looks it up several times for every job that it plans."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


def site_file(workflow_dir: Path) -> Path:
    """The file that describes the cluster."""
    return workflow_dir / FOLDER / "slurm" / "site.yaml"


def backend(limits: Mapping[str, Any]) -> str:
    """`cpu` where the run's resources allow no GPU, else `cuda`.

    Snakemake compares no param that a job's `resources` decide on, so that the switch is looked up in its source.
    """
    limit = limits.get("gpu")
    return "cpu" if limit is not None and limit.value == 0 else "cuda"


Amount = int | Callable[[Any], int]
"""MB, minutes or GPUs, or a function from a job's wildcards to them."""


def site_resources(site: Site) -> Callable[..., dict[str, Any]]:
    """A function that gives a rule its resources at this site.

    It takes the class of node (`cpu`, or a GPU class, `any` or `h100`), memory (MB) and time (minutes) of a first
    attempt, the area whose jobs the rule counts among, if jobs of that area can be limited, the number of
    GPUs, or a function from a job's wildcards to it, and the share of the partition's longest time that it may take,
    if the profile makes one job of it and others, whose times add up.
    """

    def resources(
        node: str,
        mem_mb: Amount,
        runtime: Amount,
        area: str = "",
        gpus: Amount = 1,
        share: float = 1,
    ) -> dict[str, Any]:
        limits = site.node_class(node)
        longest = None if limits.max_runtime is None else int(limits.max_runtime * share)
        return {
            **(_for_gpus(site, node, gpus) if callable(gpus) else request(site, node, gpus)),
            **({f"{area}_jobs": 1} if area else {}),
            "mem_mb": _growing(mem_mb, limits.max_mem_mb),
            "runtime": _growing(runtime, longest),
        }

    return resources


def _for_gpus(site: Site, node: str, gpus: Callable[[Any], int]) -> dict[str, Any]:
    """What gets a node with as many GPUs as each job needs."""
    asked = functools.cache(functools.partial(request, site, node))
    one, two = asked(1), asked(2)

    def of_job(key: str) -> Callable[[Any], Any]:
        return for_every_job(lambda wildcards: asked(gpus(wildcards))[key])

    return {key: value if value == two[key] else of_job(key) for key, value in one.items()}


def _growing(amount: Amount, limit: int | None) -> Callable[[Any, int], int]:
    """A resource that grows with each attempt."""

    def asked(wildcards: Any, attempt: int) -> int:
        wanted = attempt * (amount(wildcards) if callable(amount) else amount)
        return wanted if limit is None else min(wanted, limit)

    return for_every_job(asked)
