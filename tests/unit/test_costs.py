"""What scenes and stages cost, from manifests and notes as stages write them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from splatdag.commands.costs import Cost, page_data, read_costs, write_costs
from splatdag.workflow.site import GpuPrices, Prices

PRICES = Prices(currency="EUR", cpu_hour=0.1, gpu_hour=GpuPrices(any=1.5, h100=3))


def attempt(seconds: float = 3600, **fields: Any) -> dict[str, Any]:
    about = {"started": "2026-11-21T10:00:00Z", "seconds": seconds, "end": "finished", "device": "processor"}
    return {**about, "threads": 2, "host": "n1", "job": "5", **fields}


def on_gpu(seconds: float = 3600, gpus: float = 1, gpu_class: str = "any", **fields: Any) -> dict[str, Any]:
    return attempt(seconds, gpus=gpus, gpu_seconds=gpus * seconds, gpu_class=gpu_class, device="H100", **fields)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def note(logs: Path):
    """Write what a stage used beside its log."""

    def write(name: str, *attempts: dict[str, Any]) -> None:
        path = logs / f"{name}.usage.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(attempts))

    return write


@pytest.fixture
def manifest(tmp_path: Path):
    """Write the manifest of a run; gives its name and folder."""

    def write(name: str, stage: str, *attempts: dict[str, Any]) -> tuple[str, Path]:
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        values = {
            "stage": stage,
            "run": {"area": "a", "scene": "b", "variant": "c"},
            **{
                "options": {},
                "inputs": {},
                "folder": str(folder),
                "code": "",
                "packages": {},
                "device": "H100",
                "seconds": {},
            },
            **{"peak_memory_mb": {}, "exit_reason": "finished", "finished": "2026-11-21T11:00:00Z", "usage": attempts},
        }
        (folder / "manifest.json").write_text(json.dumps(values))
        return name, folder

    return write


def by_stage(costs: list[Cost]) -> dict[tuple[str, str], Cost]:
    return {(cost.folder, cost.stage): cost for cost in costs}


def test_hours_are_summed_over_all_attempts_and_the_cluster_s_cost_money(logs, note):
    note("captures/room/pose", attempt(1800))
    note("captures/room/single/train", on_gpu(1800, end=""), on_gpu(5400))
    note("captures/room/single/eval_on_x/evaluate", on_gpu(360, gpus=2, gpu_class="h100"))
    found = by_stage(read_costs({}, logs, PRICES))
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
def test_without_a_price_there_are_hours_only(logs, note, used, prices):
    note("captures/room/single/train", used)
    [cost] = read_costs({}, logs, prices)
    assert (cost.cost, cost.hours) == (None, 1)


def test_a_price_of_nothing_is_a_price(logs, note):
    note("captures/room/single/train", on_gpu())
    [cost] = read_costs({}, logs, Prices(gpu_hour=GpuPrices(any=0)))
    assert cost.cost == 0


def test_manifests_count_where_logs_are_gone_and_notes_know_more(logs, note, manifest):
    runs = dict(
        [
            manifest("captures/room/single", "scene.train", on_gpu(7200)),
            manifest("captures/hall/single", "scene.train", on_gpu(3600)),
            manifest("captures/hall/single/eval_on_x", "scene.evaluate", on_gpu(1800)),
            manifest("captures/old/single", "scene.train"),
        ]
    )
    note("captures/hall/single/train", on_gpu(60, end="failed"), on_gpu(3600))
    (runs["captures/old/single"] / "manifest.json").with_name("other").mkdir()
    found = by_stage(
        read_costs({**runs, "captures/broken/single": runs["captures/old/single"] / "other"}, logs, PRICES)
    )
    assert {key: (cost.attempts, cost.hours) for key, cost in found.items()} == {
        ("captures/room/single", "train"): (1, 2),
        ("captures/hall/single", "train"): (2, pytest.approx(3660 / 3600)),
        ("captures/hall/single/eval_on_x", "evaluate"): (1, 0.5),
    }


def test_parts_of_a_run_count_where_they_ran_and_once(logs, note, manifest):
    attempts = [on_gpu(7200), on_gpu(1800), attempt(36)]
    parts = [one | {"part": part} for one, part in zip(attempts, ("train", "001/evaluate", "merge"), strict=True)]
    runs = dict([manifest("driving/flux4d", "driving.training.train", *parts)])
    note("driving/flux4d/001/evaluate", on_gpu(1800))
    found = by_stage(read_costs(runs, logs, PRICES))
    assert {key: cost.hours for key, cost in found.items()} == {
        ("driving/flux4d", "train"): 2,
        ("driving/flux4d/001", "evaluate"): 0.5,
        ("driving/flux4d", "merge"): 0.01,
    }


def test_what_is_made_once_for_all_scenes_and_looks_at_results_are_no_scenes(logs, note):
    note("kernels/any", on_gpu(60))
    note("samples/room", attempt(60))
    note("compare", attempt(1))
    note("driving/overfit/train", on_gpu())
    costs = read_costs({}, logs, PRICES)
    assert [(cost.folder, cost.scene, cost.stage) for cost in costs] == [
        ("driving/overfit", "driving/overfit", "train"),
        ("kernels/any", "kernels/any", "shared"),
        ("samples/room", "samples/room", "shared"),
    ]


def test_a_damaged_note_costs_no_other(logs, note):
    note("captures/a/single/train", on_gpu())
    note("captures/b/single/train", on_gpu())
    (logs / "captures/a/single/train.usage.json").write_text("[")
    assert [cost.folder for cost in read_costs({}, logs, PRICES)] == ["captures/b/single"]


def test_the_csv_has_a_row_per_run_and_stage(logs, note, tmp_path):
    note("captures/room/pose", attempt(1800, job=None))
    note("captures/room/single/train", on_gpu(5400))
    write_costs(tmp_path / "costs.csv", read_costs({}, logs, PRICES), PRICES.currency)
    with (tmp_path / "costs.csv").open() as file:
        pose, train = csv.DictReader(file)
    assert (pose["stage"], pose["gpu_hours"], pose["cost"], pose["currency"]) == ("pose", "0.00000", "", "")
    assert (train["run"], train["scene"], train["gpu_hours"]) == ("captures/room/single", "captures/room", "1.50000")
    assert (train["cost"], train["currency"], train["attempts"], train["device"]) == ("2.2500", "EUR", "1", "H100")


def test_stages_stand_in_the_order_in_which_they_began(logs, note):
    for hour, name in enumerate(("kernels/any", "captures/b/pose", "captures/a/frames", "captures/b/single/train")):
        note(name, attempt(started=f"2026-11-21T1{hour}:00:00Z"))
    assert page_data(read_costs({}, logs, PRICES), "EUR")["stages"] == ["pose", "frames", "train", "shared"]
