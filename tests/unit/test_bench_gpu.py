"""The table of `make bench-gpu`: means and spreads of what finished, a row and exit code 1 for what did not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.scenes import write_gaussian_scene


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "bench" / "gpu.py"
    spec = importlib.util.spec_from_file_location("bench_gpu", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_gpu"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def run(bench: ModuleType, seed: int, psnr: float, train_s: float = 5.0, **figures: float) -> Any:
    manifest = {
        "options": {"batch_size": 4}, "steps": 1_000, "gaussians": 100_000 + 1_000 * seed,
        "seconds": {"startup": 4.0, "train": train_s, "eval": 0.5, "publish": 1.0},
        "peak_memory_mb": {"host": 2_000.4 + seed, "cuda": 700.0 + seed},
    }  # fmt: skip
    return bench.Run("fast", seed, 2 * train_s, None, manifest, {"psnr": psnr, "ssim": 0.88, **figures})


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_means_spreads_and_the_largest_memory(bench: ModuleType) -> None:
    (line,) = bench.rows("fast", [run(bench, 1, 30.0), run(bench, 2, 31.0, lpips=0.1), run(bench, 3, 32.0, 8.0)])
    assert dict(zip(bench.HEADINGS, cells(line), strict=True)) == {
        "preset": "fast",
        "steps × views": "1,000 × 4",
        "seeds": "3",
        "PSNR": "31.00 (30.00–32.00)",
        "SSIM": "0.8800 (0.8800–0.8800)",
        "LPIPS": "–",
        "Gaussians": "102,000",
        "start-up s": "4.0",
        "training s": "6.0",
        "evaluation s": "0.5",
        "publishing s": "1.0",
        "whole process s": "12.0",
        "device MB": "703",
        "host MB": "2,003",
    }


def test_a_run_that_fails_has_a_row_and_is_not_in_the_means(bench: ModuleType) -> None:
    broken = bench.Run("fast", 43, 1.0, "exit code 1: failed: a | b")
    first, second = bench.rows("fast", [run(bench, 1, 30.0), broken])
    assert cells(first)[2:4] == ["1", "30.00"]
    assert cells(second)[:2] == ["fast, seed 43", "failed, exit code 1: failed: a / b"]
    assert len(cells(second)) == len(bench.HEADINGS)
    assert bench.rows("fast", [broken]) == [second]


def test_trainings_at_once_are_compared_to_one_alone(bench: ModuleType) -> None:
    alone = (10.0, [run(bench, 0, 30.0, 5.0)])
    (line,) = bench.rows_at_once((16.0, [run(bench, 0, 30.0, 8.0), run(bench, 1, 31.0, 8.0)]), alone)
    # 2 in 16 s are 450 an hour, one in 10 s 360; 4,000 views in 8 s by two are 1,000 a second, one alone had 800
    assert cells(line) == ["fast", "2", "16.0", "450", "1.25", "1,000", "1.25", "30.50 (30.00–31.00)", "1,401"]


def test_a_preset_that_cannot_run_ends_with_exit_code_1(bench: ModuleType, tmp_path: Path) -> None:
    data = write_gaussian_scene(tmp_path / "data")
    command = [sys.executable, bench.__file__, "--data-dir", data, "--device-count", "0", "--presets", "no_such"]
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1, ended.stderr
    assert "failed, exit code 2: command line: --preset" in ended.stdout.splitlines()[-1]


def test_a_folder_that_is_no_dataset_is_named(bench: ModuleType, tmp_path: Path) -> None:
    command = [sys.executable, bench.__file__, "--data-dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2
    assert f"{tmp_path} is no COLMAP dataset" in ended.stderr
