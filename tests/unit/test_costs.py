"""What scenes and stages cost, from manifests and notes as stages write them."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from splatdag.commands.costs import Cost, page_data, read_costs, write_costs
from splatdag.workflow.site import GpuPrices, Prices

NUMBERS = itertools.count(1)
PRICES = Prices(currency="EUR", cpu_hour=0.1, gpu_hour=GpuPrices(any=1.5, h100=3))


def attempt(seconds: float = 3600, **fields: Any) -> dict[str, Any]:
    about = {"started": "2026-11-21T10:00:00Z", "seconds": seconds, "end": "finished", "device": "processor"}
    return {**about, "threads": 2, "host": "n1", "job": "5", "process": next(NUMBERS), **fields}


def on_gpu(seconds: float = 3600, gpus: float = 1, gpu_class: str = "any", **fields: Any) -> dict[str, Any]:
    return attempt(seconds, gpus=gpus, gpu_seconds=gpus * seconds, gpu_class=gpu_class, device="H100", **fields)


def of(run: str, stage: str, *attempts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"run": run, "stage": stage, **one} for one in attempts]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "logs" / "deep").mkdir(parents=True)
    return tmp_path / "logs"


@pytest.fixture
def record(logs: Path):
    """Write the record of a stage's attempts."""

    def write(run: str, stage: str, *attempts: dict[str, Any]) -> Path:
        path = logs / "deep" / f"{next(NUMBERS)}.attempts.json"
        path.write_text(json.dumps(of(run, stage, *attempts)))
        return path

    return write


@pytest.fixture
def manifest(tmp_path: Path):
    """Write the manifest of a run; gives its folder."""

    def write(stage: str, usage: list[dict[str, Any]]) -> Path:
        folder = tmp_path / "results" / str(next(NUMBERS))
        folder.mkdir(parents=True)
        values = {
            "stage": stage,
            "run": {"area": "a", "scene": "b", "variant": "c"},
            **{"options": {}, "inputs": {}, "folder": str(folder), "code": "", "packages": {}, "device": "H100"},
            **{"seconds": {}, "peak_memory_mb": {}, "exit_reason": "finished", "finished": "2026-11-21T11:00:00Z"},
            "usage": usage,
        }
        (folder / "manifest.json").write_text(json.dumps(values))
        return folder

    return write


def by_stage(costs: list[Cost]) -> dict[tuple[str, str], Cost]:
    return {(cost.run, cost.stage): cost for cost in costs}


def test_hours_are_summed_over_all_attempts_and_the_cluster_s_cost_money(logs, record):
    record("captures/room/", "captures.pose", attempt(1800))
    record("captures/room/single", "scene.train", on_gpu(1800, end=""), on_gpu(5400))
    record("captures/room/single/eval_on_x", "scene.evaluate", on_gpu(360, gpus=2, gpu_class="h100"))
    found = by_stage(read_costs([], logs, PRICES))
    train = found["captures/room/single", "train"]
    assert (train.attempts, train.hours, train.cpu_hours, train.gpu_hours) == (2, 2, 4, 2)
    assert train.cost == pytest.approx(3.0), "the GPU's price; its CPUs are included"
    pose = found["captures/room", "pose"]
    assert (pose.cpu_hours, pose.gpu_hours, pose.cost) == (1, 0, pytest.approx(0.1))
    evaluation = found["captures/room/single/eval_on_x", "evaluate"]
    assert (evaluation.gpu_hours, evaluation.cost) == (pytest.approx(0.2), pytest.approx(0.6))
    assert {cost.scene for cost in found.values()} == {"captures/room"}


@pytest.mark.parametrize(
    ("used", "prices"),
    [
        pytest.param(on_gpu(job=None), PRICES, id="without Slurm"),
        pytest.param(on_gpu(), Prices(), id="no price at all"),
        pytest.param(on_gpu(gpu_class="h100"), Prices(gpu_hour=GpuPrices(any=1)), id="no price of its class"),
        pytest.param(on_gpu(), Prices(cpu_hour=1), id="no price of GPUs"),
        pytest.param(attempt(), Prices(gpu_hour=GpuPrices(any=1)), id="no price of CPUs"),
    ],
)
def test_without_a_price_there_are_hours_only(logs, record, used, prices):
    record("captures/room/single", "scene.train", used)
    [cost] = read_costs([], logs, prices)
    assert (cost.cost, cost.hours) == (None, 1)


def test_a_price_of_nothing_is_a_price(logs, record):
    record("captures/room/single", "scene.train", on_gpu())
    [cost] = read_costs([], logs, Prices(gpu_hour=GpuPrices(any=0)))
    assert cost.cost == 0


def test_manifests_count_where_logs_are_gone_and_an_attempt_that_both_tell_of_once(logs, record, manifest, tmp_path):
    room, hall, evaluation = (
        of("captures/room/single", "scene.train", on_gpu(7200)),
        of("captures/hall/single", "scene.train", on_gpu(60, end="failed"), on_gpu(3590)),
        of("captures/hall/single/eval_on_x", "scene.evaluate", on_gpu(1800)),
    )
    folders = [manifest("scene.train", usage) for usage in (room, hall, evaluation, [])]
    record("captures/hall/single", "scene.train", hall[0], hall[1] | {"seconds": 3600})
    (tmp_path / "broken").mkdir()
    found = by_stage(read_costs([*folders, tmp_path / "broken"], logs, PRICES))
    assert {key: (cost.attempts, cost.hours) for key, cost in found.items()} == {
        ("captures/room/single", "train"): (1, 2),
        ("captures/hall/single", "train"): (2, pytest.approx(3660 / 3600)),
        ("captures/hall/single/eval_on_x", "evaluate"): (1, 0.5),
    }


def test_what_several_processes_did_for_a_run_is_summed_by_stage(logs, record, manifest):
    run, used = "driving/logs/flux4d", [on_gpu(1800), on_gpu(900)]
    usage = [*of(run, "driving.training.train", on_gpu(7200)), *of(run, "driving.evaluation.evaluate", *used)]
    record(run, "driving.evaluation.evaluate", used[0])
    record(run, "driving.evaluation.evaluate", used[1])
    found = by_stage(read_costs([manifest("driving.training.train", usage)], logs, PRICES))
    assert {key: cost.hours for key, cost in found.items()} == {
        ("driving/logs/flux4d", "train"): 2,
        ("driving/logs/flux4d", "evaluate"): 0.75,
    }


def test_what_is_made_once_for_all_scenes_has_a_column_and_looks_at_results_none(logs, record):
    record("kernels//any", "splats.kernels", on_gpu(60))
    record("samples//room", "samples.room", attempt(60))
    record("", "commands.compare", attempt(1))
    costs = read_costs([], logs, PRICES)
    assert [(cost.run, cost.scene, cost.stage) for cost in costs] == [
        ("kernels/any", "kernels/any", "shared"),
        ("samples/room", "samples/room", "shared"),
    ]


def test_a_damaged_record_costs_no_other(logs, record):
    record("captures/a/single", "scene.train", on_gpu()).write_text("[")
    record("captures/b/single", "scene.train", on_gpu())
    assert [cost.run for cost in read_costs([], logs, PRICES)] == ["captures/b/single"]


def test_the_csv_has_a_row_per_run_and_stage(logs, record, tmp_path):
    record("captures/room/", "captures.pose", attempt(1800, job=None))
    record("captures/room/single", "scene.train", on_gpu(5400))
    write_costs(tmp_path / "costs.csv", read_costs([], logs, PRICES), PRICES.currency)
    with (tmp_path / "costs.csv").open() as file:
        pose, train = csv.DictReader(file)
    assert (pose["stage"], pose["gpu_hours"], pose["cost"], pose["currency"]) == ("pose", "0.00000", "", "")
    assert (train["run"], train["scene"], train["gpu_hours"]) == ("captures/room/single", "captures/room", "1.50000")
    assert (train["cost"], train["currency"], train["attempts"], train["device"]) == ("2.2500", "EUR", "1", "H100")


def test_stages_stand_in_the_order_in_which_they_began(logs, record):
    runs = [("kernels//any", "splats.kernels"), ("captures/b/", "captures.pose"), ("captures/a/", "captures.frames")]
    for hour, (run, stage) in enumerate([*runs, ("captures/b/single", "scene.train")]):
        record(run, stage, attempt(started=f"2026-11-21T1{hour}:00:00Z"))
    assert page_data(read_costs([], logs, PRICES), "EUR")["stages"] == ["pose", "frames", "train", "shared"]
