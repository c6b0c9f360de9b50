"""The guard of the demo's figures notices what is out of bounds or missing."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def guard(repository: Path) -> dict[str, Any]:
    return runpy.run_path(str(repository / "tests" / "demo_figures.py"))


@pytest.fixture
def results(tmp_path: Path, guard: dict[str, Any]) -> Path:
    """Metrics in the middle of all limits."""
    for run, limits in guard["FIGURES"].items():
        metrics: dict[str, Any] = {}
        for key, (least, largest) in limits.items():
            section, name = key.split(".")
            metrics.setdefault(section, {})[name] = (least + largest) / 2
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


def test_figures_within_the_limits_are_fine(guard: dict[str, Any], results: Path) -> None:
    assert guard["wrong"](results) == []


@pytest.mark.parametrize("value", [25.2, None, "28.4", float("nan")])
def test_a_figure_out_of_bounds_is_named(guard: dict[str, Any], results: Path, value: Any) -> None:
    path = results / "captures/room/single/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["mean"]["psnr"] = value
    path.write_text(json.dumps(metrics))
    [line] = guard["wrong"](results)
    assert line == f"{path}: mean.psnr is {value}, expected 27.2 to 30"


def test_a_run_without_metrics_is_named(guard: dict[str, Any], results: Path) -> None:
    (results / "driving/flux4d/metrics.json").unlink()
    [line] = guard["wrong"](results)
    assert "driving/flux4d/metrics.json" in line
