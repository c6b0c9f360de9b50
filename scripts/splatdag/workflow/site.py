"""The site file: which partition, GPU model and constraint stand for a GPU class on this cluster."""

from __future__ import annotations

from pathlib import Path

import yaml

from splatdag.workflow.errors import UserError
from splatdag.workflow.options import Options, validated


class GpuClass(Options):
    """What a job asks Slurm for to get a GPU of one class. Unset keys are left out of the request."""

    slurm_partition: str | None = None
    """Partition."""
    gpu_model: str | None = None
    """GPU model as Slurm knows it, for `--gpus=MODEL:N`."""
    constraint: str | None = None
    """Node feature, for `--constraint`."""
    qos: str | None = None
    """Quality of service, for `--qos`."""


class GpuClasses(Options):
    """The two classes that rules ask for."""

    any: GpuClass = GpuClass(slurm_partition="gpu")
    """Any GPU that runs a gsplat training."""
    h100: GpuClass = GpuClass(slurm_partition="h100", gpu_model="h100")
    """A GPU with 80 GB or more."""


class Site(Options):
    """All that differs from one cluster to another."""

    slurm_account: str | None = None
    """Account that jobs are charged to."""
    cpu_partition: str | None = "cpu"
    """Partition of jobs without a GPU."""
    gpu_classes: GpuClasses = GpuClasses()
    """What each GPU class is called here."""


def read_site(path: Path) -> Site:
    """Read and check a site file.

    Raises:
        UserError: the file is unreadable or a key is unknown.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: can't read the site file: {' '.join(str(error).split())}") from None
    return validated(Site, given, str(path))


def request(site: Site, node: str) -> dict[str, str]:
    """Snakemake resources that get a node at this site: `cpu`, or one with a GPU of class `any` or `h100`."""
    asked = GpuClass(slurm_partition=site.cpu_partition) if node == "cpu" else getattr(site.gpu_classes, node)
    account = {"slurm_account": site.slurm_account} if site.slurm_account else {}
    return account | asked.model_dump(exclude_none=True)
