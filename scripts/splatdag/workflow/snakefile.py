"""Helpers for the Snakefile and its rules."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import splatdag
from splatdag.workflow.area import Area
from splatdag.workflow.errors import USER_ERROR, UserError
from splatdag.workflow.gpu_slots import CPU_BUILD, JOBS_PER_GPU, check_gpus, jobs_per_gpu
from splatdag.workflow.profiles import (
    FOLDER,
    SLURM_EXECUTORS,
    allowed_rules,
    profile_folder,
    requested_profile,
    slurm_executor,
    started_in,
)
from splatdag.workflow.site import check_requests
from splatdag.workflow.slurm import accounts, live_jobs, partitions

CACHE = Path(".snakemake") / "splatdag"
"""Folder for digests that are remembered from one parse to the next; safe to delete."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a `UserError` into its line on stderr and exit code 2, without Snakemake's traceback.

    An OSError of a file or folder that can't be read, such as one without permission, is treated likewise.
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
    """Print lines to the user on stderr."""
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
    executor = slurm_executor(arguments)
    if executor is None:
        return
    if executor != SLURM_EXECUTORS[0]:
        tell([f"--executor {executor} loses its jobs where Slurm does not answer; {SLURM_EXECUTORS[0]} keeps them"])
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
    if workflow.executor_plugin.name in SLURM_EXECUTORS:
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
        jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.name != "compile_kernels"]
        count = max((int(job.resources.get("devices", 0)) for job in jobs), default=0)
        check_gpus(count)
        asked = [sys.executable, "-c", "import torch; print(torch.version.cuda)"]
        if count and subprocess.run(asked, capture_output=True, text=True).stdout.strip() == "None":
            raise UserError(CPU_BUILD)


def prepare_environment() -> None:
    """Let jobs run this interpreter and this package, with or without an activated environment."""
    _put_first("PATH", str(Path(sys.executable).parent))
    _put_first("PYTHONPATH", str(Path(splatdag.__file__).resolve().parent.parent))


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
    """Allow one commit to the Hub at a time, also where `--resources` on the command line replaces the profile's."""
    from snakemake.resources import Resource

    limits.setdefault("hf_commits", Resource("hf_commits", 1))


def _put_first(variable: str, folder: str) -> None:
    others = [part for part in os.environ.get(variable, "").split(os.pathsep) if part not in ("", folder)]
    os.environ[variable] = os.pathsep.join([folder, *others])


def config_file(workflow_dir: Path) -> Path:
    """Return `config/config.yaml` of the working directory, else of the workflow."""
    own = Path("config") / "config.yaml"
    return own if own.exists() else workflow_dir / own


def targets_of(workflow: Any) -> Callable[[], frozenset[str]]:
    """Return a function that gives a run's requested rules and files once jobs are planned; none in a job's process."""

    def targets() -> frozenset[str]:
        return frozenset(workflow.dag_settings.targets or ("all",)) if workflow.is_main_process else frozenset()

    return targets


def job_rules(workflow: Any, arguments: Sequence[str], rules: Iterable[str]) -> frozenset[str] | None:
    """Return the rules of the jobs that this process runs; None where it plans a run, or where a module renames rules.

    Args:
        workflow: Snakemake's.
        arguments: of its command line.
        rules: names of all rules that run stages.
    """
    if workflow.is_main_process:
        return None
    asked = allowed_rules(arguments)
    return asked if asked and asked <= frozenset(rules) else None


def set_gpu_classes(given: dict[str, Any], overwritten: Mapping[str, MutableMapping[str, Any]]) -> frozenset[str]:
    """Let `--set-resources RULE:gpu_class=CLASS` ask for a node of that class, and not change the label alone.

    Args:
        given: the config, which is changed: it becomes `resources.<rule>.gpu_class`.
        overwritten: resources by rule, as Snakemake took them from the command line and the profile; the class becomes
            a word, since Snakemake would take `any` for Python's function.

    Returns:
        These rules, of which no row or run has another class.
    """
    rules = frozenset(rule for rule, resources in overwritten.items() if "gpu_class" in resources)
    for rule in rules:
        value = overwritten[rule]["gpu_class"]
        name = str(getattr(value, "raw", value)).strip("'\"")
        overwritten[rule]["gpu_class"] = name
        resources = given.get("resources") or {}
        own = (resources.get(rule) or {}) if isinstance(resources, dict) else None
        if isinstance(own, dict):  # else the config is refused
            given["resources"] = {**resources, rule: {**own, "gpu_class": name}}
    return rules


def limit_areas(limits: MutableMapping[str, Any], areas: Iterable[Area]) -> None:
    """Let so many jobs of each area be in Slurm at a time, unless `--resources <area>_jobs=N` says otherwise."""
    from snakemake.resources import Resource

    for area in areas:
        if any(rule.throttled for rule in area.rules.values()):
            limits.setdefault(f"{area.name}_jobs", Resource(f"{area.name}_jobs", area.throttle))


def site_file(workflow_dir: Path) -> Path:
    """Return the path of the file that describes the cluster."""
    return workflow_dir / FOLDER / "slurm" / "site.yaml"


def backend(limits: Mapping[str, Any]) -> str:
    """Return `cpu` where the run's resources allow no GPU, else `cuda`.

    Snakemake does not compare params that depend on a job's `resources`, so this one depends on the run's limits.
    """
    limit = limits.get("gpu")
    return "cpu" if limit is not None and limit.value == 0 else "cuda"
