"""Runs below a results folder, read from their files, and stages that failed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from splatdag.workflow.attempts import State, statuses
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import Manifest
from splatdag.workflow.publish import read_json
from splatdag.workflow.weights import Weights

Cell = str | float | bool | None
T = TypeVar("T", bound=BaseModel)

_GROUPS = ("run", "metric", "baseline", "size", "seconds", "memory", "option")
"""Groups of columns, in the order of the CSV file."""


@dataclass(frozen=True)
class Run:
    """Training run, read from its manifest and metrics."""

    name: str
    """Folder of the run relative to the results, such as `captures/room/single`."""
    folder: Path
    columns: dict[str, dict[str, Cell]] = field(default_factory=dict)
    """Values by group (run, metric, baseline, size, seconds, memory, option) and column."""
    fault: str = ""
    """Reason why its manifest or metrics cannot be read; empty if they can."""

    @property
    def cells(self) -> dict[str, Cell]:
        """Values by column."""
        return {name: value for group in _GROUPS for name, value in self.columns.get(group, {}).items()}


@dataclass(frozen=True)
class Failure:
    """A stage that ended badly, or a run that cannot be read."""

    name: str
    state: str
    """State: `failed`, `killed` or `broken`."""
    reason: str
    file: str
    """Log of the stage, or folder of the broken run."""


class _Metrics(BaseModel):
    mean: dict[str, float | None]
    baseline: dict[str, float | None] | None = None
    lpips_left_out: str = ""


def read_runs(results: Path) -> list[Run]:
    """Read all training runs below `results`, sorted by name; a run whose files are broken has its `fault` set."""
    runs = []
    for folder, below, files in os.walk(results):
        below[:] = [name for name in below if not name.startswith(".") and name != "state"]
        if "manifest.json" in files and (run := _read_run(Path(folder), results)):
            runs.append(run)
    return sorted(runs, key=lambda run: run.name)


def _read_run(folder: Path, results: Path) -> Run | None:
    """Read a run; return None if its manifest is not one of a stage (humans have a manifest of their own kind, too)."""
    name = folder.relative_to(results).as_posix()
    about: dict[str, Cell] = {"run": name, "area": "", "scene": "", "variant": ""}
    try:
        given = read_json(folder / "manifest.json")
        if "stage" not in given:
            return None
        manifest = _validated(Manifest, given, "manifest.json")
        metrics = _validated(_Metrics, read_json(folder / "metrics.json"), "metrics.json")
    except UserError as error:
        fault = str(error).removeprefix(f"{folder}/")
        return Run(name, folder, {"run": {**about, "exit_reason": f"broken: {fault}"}}, fault)
    about |= manifest.run.model_dump()
    about |= {key: getattr(manifest, key) for key in ("finished", "exit_reason", "device")}
    about |= {"sample": manifest.sample} if manifest.sample else {}
    about |= _licences(manifest.weights)
    about |= {"lpips_left_out": metrics.lpips_left_out} if metrics.lpips_left_out else {}
    values: dict[str, dict[str, Cell]] = {
        "run": about,
        "metric": {**metrics.mean},
        "baseline": _prefixed("baseline_", metrics.baseline or {}),
        "size": {"gaussians": manifest.gaussians, "steps": manifest.steps},
        "seconds": _prefixed("seconds_", manifest.seconds),
        "memory": _prefixed("peak_memory_mb_", manifest.peak_memory_mb),
        "option": dict(_flattened(manifest.options, "option")),
    }
    return Run(name, folder, values)


def _licences(weights: list[Weights]) -> dict[str, Cell]:
    """Return columns on weights: names with licences and, unless those of the result all allow it, commercial use."""
    if not weights:
        return {}
    names = [f"{w.name}{' (metrics)' if w.used_for == 'metrics' else ''}: {w.described()}" for w in weights]
    found: dict[str, Cell] = {"weights": "; ".join(names)}
    answers = {w.commercial for w in weights if w.used_for == "results"}
    if False in answers or None in answers:
        found["commercial_use"] = "no" if False in answers else "not stated"
    return found


def _prefixed(prefix: str, values: Mapping[str, float | None]) -> dict[str, Cell]:
    return {f"{prefix}{key}": value for key, value in values.items()}


def _validated(model: type[T], given: Any, file: str) -> T:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join([file, *map(str, problem["loc"])])
        raise UserError(f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}") from None


def _flattened(options: dict[str, Any], prefix: str) -> Iterator[tuple[str, Cell]]:
    for key, value in options.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}.{key}")
        elif isinstance(value, list):
            yield f"{prefix}.{key}", json.dumps(value, ensure_ascii=False)
        else:
            yield f"{prefix}.{key}", value


def columns(runs: list[Run]) -> dict[str, str]:
    """Return every column that a run has, with its group; groups in order, columns as they first appear."""
    return {name: group for group in _GROUPS for run in runs for name in run.columns.get(group, {})}


def read_failures(runs: list[Run], logs: Path) -> list[Failure]:
    """List the runs that cannot be read, and the stages whose last attempt failed or was killed."""
    failures = [Failure(run.name, "broken", run.fault, str(run.folder)) for run in runs if run.fault]
    for log, status in statuses(logs):
        if status.state in (State.FAILED, State.KILLED):
            name = log.relative_to(logs).with_suffix("").as_posix()
            failures.append(Failure(name, status.state, status.reason, str(log)))
    return failures
