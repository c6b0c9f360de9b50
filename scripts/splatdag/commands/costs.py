"""What scenes and stages cost: GPU-hours, CPU-hours and, with a price in site.yaml, money."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from splatdag.workflow.manifest import Manifest
from splatdag.workflow.publish import write_text
from splatdag.workflow.site import Prices
from splatdag.workflow.usage import SUFFIX, Usage, read_usage

_SHARED = "shared"
"""Column of what is made once for all scenes: compiled kernels, sample inputs."""


@dataclass(frozen=True)
class Cost:
    """What one stage of one run used, over all attempts since it last finished."""

    folder: str
    """The run, such as `captures/room/single`, or what else the stage makes, such as the poses of `captures/room`."""
    scene: str
    """The topmost of these folders that it lies in, such as `captures/room`."""
    stage: str
    started: str
    """When the first attempt began, in UTC."""
    attempts: int
    hours: float
    """Wall time of the processes."""
    cpu_hours: float
    """Hours times CPUs."""
    gpu_hours: float
    """Hours times GPUs held."""
    device: str
    """Of the last attempt."""
    cost: float | None
    """Of the attempts that ran on the cluster; None if none has a price."""


def read_costs(runs: Mapping[str, Path], logs: Path, prices: Prices) -> list[Cost]:
    """What all stages used, by run and stage: from the manifests, and from the notes beside the logs.

    The notes also tell of stages without a manifest and of attempts that have not led to one; logs may be gone.

    Args:
        runs: names and folders of the finished runs.
        logs: folder of the stages' logs.
        prices: of the cluster.
    """
    used = dict([*_of_manifests(runs), *_of_logs(logs)])
    folders = {folder for folder, _ in used}
    return [
        _summed(folder, _scene(folder, folders), stage, attempts, prices)
        for (folder, stage), attempts in sorted(used.items())
    ]


def _of_manifests(runs: Mapping[str, Path]) -> Iterator[tuple[tuple[str, str], list[Usage]]]:
    for name, folder in runs.items():
        try:
            manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
        except (OSError, ValidationError):  # the comparison names the run as broken
            continue
        for part in dict.fromkeys(usage.part for usage in manifest.usage):
            below, _, stage = (part or manifest.stage.rpartition(".")[2]).rpartition("/")
            where = f"{name}/{below}" if below else name
            yield (where, stage), [usage for usage in manifest.usage if usage.part == part]


def _of_logs(logs: Path) -> Iterator[tuple[tuple[str, str], list[Usage]]]:
    """Those of an area; a log that lies in no area's folder is of a look at the results."""
    for path in logs.glob(f"*/**/*{SUFFIX}"):
        folder, name = path.parent.relative_to(logs), path.name.removesuffix(SUFFIX)
        if attempts := read_usage(path):
            of_scene = len(folder.parts) > 1
            yield (folder.as_posix(), name) if of_scene else ((folder / name).as_posix(), _SHARED), attempts


def _scene(folder: str, folders: Collection[str]) -> str:
    above = [parent.as_posix() for parent in reversed(PurePosixPath(folder).parents)]
    return next((parent for parent in above if parent in folders), folder)


def _summed(folder: str, scene: str, stage: str, attempts: list[Usage], prices: Prices) -> Cost:
    costs = [cost for cost in (_price(usage, prices) for usage in attempts) if cost is not None]
    return Cost(
        folder,
        scene,
        stage,
        attempts[0].started,
        len(attempts),
        sum(usage.seconds for usage in attempts) / 3600,
        sum(usage.seconds * usage.threads for usage in attempts) / 3600,
        sum(usage.gpu_seconds for usage in attempts) / 3600,
        attempts[-1].device,
        sum(costs) if costs else None,
    )


def _price(usage: Usage, prices: Prices) -> float | None:
    """Of one attempt; None if it ran on no cluster, or what it used has no price there."""
    if usage.job is None:
        return None
    if usage.gpus:
        hour = getattr(prices.gpu_hour, usage.gpu_class, None)
        return None if hour is None else hour * usage.gpu_seconds / 3600
    return None if prices.cpu_hour is None else prices.cpu_hour * usage.threads * usage.seconds / 3600


def write_costs(path: Path, costs: list[Cost], currency: str) -> None:
    """Write one row per run and stage; hours and money rounded, where there is a price."""
    text = io.StringIO()
    header = (
        *("run", "scene", "stage", "started", "attempts", "hours", "cpu_hours", "gpu_hours", "device", "cost"),
        "currency",
    )
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for cost in costs:
        hours = (f"{value:.5f}" for value in (cost.hours, cost.cpu_hours, cost.gpu_hours))
        money = ("", "") if cost.cost is None else (f"{cost.cost:.4f}", currency)
        about = (cost.folder, cost.scene, cost.stage, cost.started, cost.attempts)
        writer.writerow([*about, *hours, cost.device, *money])
    write_text(path, text.getvalue().encode(errors="replace").decode())


def page_data(costs: list[Cost], currency: str) -> dict[str, Any]:
    """What the page needs for its table; stages in the order in which they first began, what is shared last."""
    begun = sorted(costs, key=lambda cost: (cost.stage == _SHARED, cost.started))
    stages = list(dict.fromkeys(cost.stage for cost in begun))
    return {"currency": currency, "stages": stages, "cells": [vars(cost) for cost in costs]}
