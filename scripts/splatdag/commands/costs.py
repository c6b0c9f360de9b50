"""What scenes and stages cost: GPU-hours, CPU-hours and, with a price in site.yaml, money."""

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
"""Areas of what is made once for all scenes."""
_SHARED = "shared"
"""Column of these."""


@dataclass(frozen=True)
class Cost:
    """What one stage of one run used, over all attempts since it last finished."""

    run: str
    """Such as `captures/room/single`; `captures/room` for what all runs of the scene share, such as its poses."""
    scene: str
    """Such as `captures/room`; where the run has no scene of its own, the run."""
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


def read_costs(folders: Iterable[Path], logs: Path, prices: Prices) -> list[Cost]:
    """What all stages used, by run and stage: from the manifests, and from the records beside the logs.

    The records also tell of stages without a manifest and of attempts that have not led to one; logs may be gone. What
    belongs to no run, such as a look at the results, is left out.

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
    """Of one attempt; None if it ran on no cluster, or what it used has no price there."""
    if attempt.job is None:
        return None
    if attempt.gpus:
        hour = getattr(prices.gpu_hour, attempt.gpu_class, None)
        return None if hour is None else hour * attempt.gpu_seconds / 3600
    return None if prices.cpu_hour is None else prices.cpu_hour * attempt.threads * attempt.seconds / 3600


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
        about = (cost.run, cost.scene, cost.stage, cost.started, cost.attempts)
        writer.writerow([*about, *hours, cost.device, *money])
    write_text(path, text.getvalue().encode(errors="replace").decode())


def page_data(costs: list[Cost], currency: str) -> dict[str, Any]:
    """What the page needs for its table; stages in the order in which they first began, what is shared last."""
    begun = sorted(costs, key=lambda cost: (cost.stage == _SHARED, cost.started))
    stages = list(dict.fromkeys(cost.stage for cost in begun))
    return {"currency": currency, "stages": stages, "cells": [vars(cost) for cost in costs]}
