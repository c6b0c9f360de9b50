"""The site file: names of a cluster's account, partitions and GPU classes, and the requests of jobs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.options import Options, validated
from splatdag.workflow.yaml_text import read_yaml

LEAST_MEM_MB = 1000
"""Smallest memory that a job may ask for (MB): the two Snakemake processes around a stage take about 300."""
WARNING_SECONDS = 120
"""Time from SIGTERM to the time limit of a job (seconds), in which a training saves its state, to continue later."""


class NodeClass(Options):
    """Request to Slurm for a node of one class. Unset keys are left out of the request."""

    slurm_partition: str | None = None
    """Partition."""
    constraint: str | None = None
    """Node feature, for `--constraint`."""
    qos: str | None = None
    """Quality of service, for `--qos`."""
    max_runtime: int | None = Field(None, ge=1)
    """The partition's longest time limit (minutes): a repeated attempt, which asks for more, stays below."""
    max_mem_mb: int | None = Field(None, ge=LEAST_MEM_MB)
    """Memory of a node (MB): a repeated attempt stays below."""


class GpuClass(NodeClass):
    """A node with a GPU of one class."""

    gpu_model: str | None = Field(None, pattern=r"^[A-Za-z0-9_.]+$")
    """GPU model as Slurm knows it (`sinfo -o %G`)."""


class GpuClasses(Options):
    """The two classes that rules ask for."""

    any: GpuClass = GpuClass(slurm_partition="gpu")
    """Any GPU that runs a gsplat training."""
    h100: GpuClass = GpuClass(slurm_partition="h100", gpu_model="h100")
    """A GPU with 80 GB or more."""


GPU_CLASSES = tuple(GpuClasses.model_fields)


class GpuPrices(Options):
    """Prices per hour of a GPU of each class."""

    any: float | None = Field(None, ge=0)
    """Price of a GPU of class `any` per hour."""
    h100: float | None = Field(None, ge=0)
    """Price of a GPU of class `h100` per hour."""


class Prices(Options):
    """Prices per hour. A job with GPUs pays for these, and its CPUs are included. Unset prices are not known."""

    currency: str = Field("", pattern=r"^[^\s<>]{0,12}$")
    """Word or sign of the currency."""
    cpu_hour: float | None = Field(None, ge=0)
    """Price of one CPU per hour, for jobs without a GPU."""
    gpu_hour: GpuPrices = GpuPrices()
    """Price of one GPU per hour, by class."""


class Site(Options):
    """Settings that differ from one cluster to another."""

    slurm_account: str | None = None
    """Account that jobs are charged to."""
    gpu_style: Literal["gpus", "gres"] = "gpus"
    """Slurm option that requests GPUs on this cluster: `--gpus=MODEL:1` or `--gres=gpu:MODEL:1`."""
    bad_nodes: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.,\[\]-]+$")]] = []
    """Nodes that no job shall run on."""
    cpu: NodeClass = NodeClass(slurm_partition="cpu")
    """Nodes of jobs without a GPU."""
    gpu_classes: GpuClasses = GpuClasses()
    """Nodes of each GPU class."""
    prices: Prices = Prices()
    """Prices per hour on this cluster; with them, the comparison of all runs shows costs."""

    def node_class(self, name: str) -> NodeClass:
        """Return this site's class of nodes for `cpu`, `any` or `h100`."""
        return self.cpu if name == "cpu" else getattr(self.gpu_classes, name)


def read_site(path: Path) -> Site:
    """Read and check a site file.

    Raises:
        UserError: the file is unreadable or a key is unknown.
    """
    return validated(Site, read_yaml(path, f"{path}: can't read the site file"), str(path))


def request(site: Site, name: str, gpus: int = 1) -> dict[str, Any]:
    """Return Snakemake resources that get a node at this site: `cpu`, or one with GPUs of class `any` or `h100`.

    `devices` is the number of GPUs that the stage uses; `gpu` or `gres` requests them from Slurm.
    """
    asked = site.node_class(name)
    extra = [f"--signal=TERM@{WARNING_SECONDS}"]
    if site.bad_nodes:
        extra.append(f"--exclude={','.join(site.bad_nodes)}")
    found: dict[str, Any] = {"slurm_extra": " ".join(extra)}
    if site.slurm_account:
        found["slurm_account"] = site.slurm_account
    found |= asked.model_dump(include={"slurm_partition", "constraint", "qos"}, exclude_none=True)
    if isinstance(asked, GpuClass):
        found |= {"devices": gpus, "gpu_class": name, "h100_slots" if name == "h100" else "gpu_slots": gpus}
        model = asked.gpu_model
        if site.gpu_style == "gres":
            found["gres"] = f"gpu:{model}:{gpus}" if model else f"gpu:{gpus}"
        else:
            found |= {"gpu": gpus} | ({"gpu_model": model} if model else {})
    return found


def check_requests(
    asked: Mapping[str, Mapping[str, Any]], partitions: Sequence[str], accounts: Sequence[str], where: Path
) -> None:
    """Stop if Slurm has no partition or account of the name that a rule asks for, or a GPU rule asks for none.

    Args:
        asked: each rule's resources.
        partitions: those of the cluster.
        accounts: those of the user; none if the cluster does not tell.
        where: the site file.

    Raises:
        UserError: what to edit.
    """
    for rule, resources in asked.items():
        partition, account = resources.get("slurm_partition"), resources.get("slurm_account")
        key = f"{where}: {_class_of(resources)}.slurm_partition"
        if not partition and resources.get("devices"):
            raise UserError(
                f"{key}: not set, but rule {rule} needs a GPU; set it to one of this cluster's partitions:"
                f" {', '.join(partitions)}"
            )
        if partition and partition not in partitions:
            raise UserError(
                f"{key}: this cluster has no partition {partition!r}, which rule {rule} asks for"
                f"{nearest(str(partition), partitions)}"
            )
        if account and accounts and str(account).lower() not in map(str.lower, accounts):
            raise UserError(f"{where}: slurm_account: you have no account {account!r}{nearest(str(account), accounts)}")


def _class_of(resources: Mapping[str, Any]) -> str:
    if not resources.get("devices"):
        return "cpu"
    return "gpu_classes.h100" if resources.get("h100_slots") else "gpu_classes.any"
