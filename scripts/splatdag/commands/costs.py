"""Costs of scenes and stages: GPU-hours, CPU-hours and, with a price in site.yaml, money."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from splatdag.workflow.attempts import SUFFIX, Attempt, read_attempts
from splatdag.workflow.manifest import Manifest, RunId
from splatdag.workflow.publish import write_text
from splatdag.workflow.site import Prices

_MADE_ONCE = ("kernels", "samples", "weights")
"""Areas, as in `RunId.area`, of stages that run once for all scenes."""
_SHARED = "shared"
"""Column for the costs of these stages."""


@dataclass(frozen=True)
class Cost:
    """Cost of one stage of one run, over all attempts since it last finished."""

    run: str
    """Run, such as `captures/room/single`; `captures/room` for work that all runs of a scene share, such as poses."""
    scene: str
    """Scene, such as `captures/room`; the same as `run` where the run has no scene of its own."""
    stage: str
    started: str
    """Time at which the first attempt began, in UTC."""
    attempts: int
    hours: float
    """Wall time of the processes."""
    cpu_hours: float
    """Hours times CPUs."""
    gpu_hours: float
    """Hours times GPUs held."""
    device: str
    """Device of the last attempt."""
    cost: float | None
    """Money for the attempts that ran on the cluster; None if none of them has a price."""


def read_costs(folders: Iterable[Path], logs: Path, prices: Prices) -> list[Cost]:
    """Read the costs of all stages, by run and stage, from the manifests and from the records beside the logs.

    The records also cover stages without a manifest and attempts that have not led to one; the manifests also cover
    runs whose logs were removed. Attempts that belong to no run are left out.

    Args:
        folders: of the finished runs.
        logs: folder of the stages' logs.
        prices: of the cluster.
    """
    attempts = {(one.host, one.process, one.started): one for one in (*_of_manifests(folders), *_of_records(logs))}
    used: dict[tuple[str, str], list[Attempt]] = {}
    for attempt in sorted(attempts.values(), key=lambda attempt: attempt.started):
        used.setdefault((attempt.run, attempt.stage), []).append(attempt)
    return [_summed(RunId.parse(run), stage, found, prices) for (run, stage), found in sorted(used.items()) if run]


def _of_manifests(folders: Iterable[Path]) -> Iterator[Attempt]:
    for folder in folders:
        with suppress(OSError, ValidationError):  # the comparison names the run as broken
            yield from Manifest.model_validate_json((folder / "manifest.json").read_bytes()).usage


def _of_records(logs: Path) -> Iterator[Attempt]:
    for record in logs.rglob(f"*{SUFFIX}"):
        yield from read_attempts(record)


def _summed(run: RunId, stage: str, attempts: list[Attempt], prices: Prices) -> Cost:
    costs = [cost for cost in (_price(attempt, prices) for attempt in attempts) if cost is not None]
    return Cost(
        run="/".join(filter(None, (run.area, run.scene, run.variant))),
        scene=f"{run.area}/{run.scene or run.variant}",
        stage=_SHARED if run.area in _MADE_ONCE else stage.rpartition(".")[2],
        started=attempts[0].started,
        attempts=len(attempts),
        hours=sum(attempt.seconds for attempt in attempts) / 3600,
        cpu_hours=sum(attempt.seconds * attempt.threads for attempt in attempts) / 3600,
        gpu_hours=sum(attempt.gpu_seconds for attempt in attempts) / 3600,
        device=attempts[-1].device,
        cost=sum(costs) if costs else None,
    )


def _price(attempt: Attempt, prices: Prices) -> float | None:
    """Return the price of one attempt; None if it did not run under Slurm, or its CPUs or GPUs have no price."""
    if attempt.job is None:
        return None
    if attempt.gpus:
        hour = getattr(prices.gpu_hour, attempt.gpu_class, None)
        return None if hour is None else hour * attempt.gpu_seconds / 3600
    return None if prices.cpu_hour is None else prices.cpu_hour * attempt.threads * attempt.seconds / 3600


def write_costs(path: Path, costs: list[Cost], currency: str) -> None:
    """Write a CSV row per run and stage, numbers rounded; cost and currency are empty where there is no price."""
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
        about = (cost.run, cost.scene, cost.stage, cost.started, cost.attempts)
        writer.writerow([*about, *hours, cost.device, *money])
    write_text(path, text.getvalue().encode(errors="replace").decode())


def page_data(costs: list[Cost], currency: str) -> dict[str, Any]:
    """Return the data of the page's table of costs; stages in the order in which they first began, shared ones last."""
    begun = sorted(costs, key=lambda cost: (cost.stage == _SHARED, cost.started))
    stages = list(dict.fromkeys(cost.stage for cost in begun))
    return {"currency": currency, "stages": stages, "cells": [vars(cost) for cost in costs]}
