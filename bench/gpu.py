"""Benchmark of trainings on a GPU, each a process of the real stage: quality, where the time goes, and memory.

python bench/gpu.py --data-dir fox [--presets fast "default --max-steps 7000"] [--seeds 42 43 44] [--jobs-per-gpu 2 4]

Needs a COLMAP dataset (images/ and sparse/), such as instant-ngp's fox. Photos at their full size, every 8th held out,
evaluated once, after the last step. A preset is a name and, after it, any flags of `python -m splatdag.scene.train`.
Before the clock starts, a short process goes through the preset's whole schedule at 2 % of the steps, so that kernels
are built. With --jobs-per-gpu, also how much is done in all where several trainings share the GPU. Memory is the
largest over the seeds: resident, and allocated on the device.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from splatdag.formats.photoset import PhotoSet
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.gpu_slots import JOBS_PER_GPU
from splatdag.workflow.manifest import package_versions, processor_name
from splatdag.workflow.publish import write_json

REPOSITORY = Path(__file__).resolve().parent.parent
WARM_UP = "--steps-scaler 0.02"
HEADINGS = (
    "preset", "steps × views", "seeds", "PSNR", "SSIM", "LPIPS", "Gaussians", "start-up s", "training s",
    "evaluation s", "publishing s", "whole process s", "device MB", "host MB",
)  # fmt: skip
AT_ONCE_HEADINGS = (
    "preset", "trainings at once", "all done s", "runs an hour", "ratio", "views trained on a second", "ratio", "PSNR",
    "device MB",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One process of the stage."""

    preset: str
    """Preset with its flags."""
    seed: int
    process_seconds: float
    """Wall time from its start to its end."""
    error: str | None = None
    """Exit code and the last line that it wrote, where it failed."""
    manifest: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    """Means over the held-out photos."""

    @property
    def views_a_step(self) -> int:
        """Views of a step, as the options say; a capture of fewer photos has fewer."""
        views: int = self.manifest["options"]["batch_size"]
        return views

    @property
    def views_a_second(self) -> float:
        """Views trained on in a second of training."""
        seconds: float = self.manifest["seconds"]["train"]
        return self.manifest["steps"] * self.views_a_step / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="COLMAP dataset with images/ and sparse/")
    parser.add_argument("--presets", nargs="+", default=["default", "fast", "fast_mcmc"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[42, 43, 44], help="none: --jobs-per-gpu alone")
    parser.add_argument("--jobs-per-gpu", type=int, nargs="+", default=[], help="trainings at once, beside one alone")
    parser.add_argument("--device-count", type=int, default=1, choices=[0, 1], help="0 is the CPU")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each training")
    parser.add_argument("--json", type=Path, help="file for everything that the runs say of themselves")
    arguments = parser.parse_args()
    if not (arguments.data_dir / "sparse").is_dir() or not (arguments.data_dir / "images").is_dir():
        parser.error(
            f"--data-dir: {arguments.data_dir} is no COLMAP dataset; expected a folder with images/ and sparse/"
        )
    about = header(arguments.data_dir, arguments.device_count)
    print(about + "\n", flush=True)
    runs: list[Run] = []
    for found, lines in measured(arguments):
        print("\n".join(lines), flush=True)
        runs += found
        if arguments.json:
            write_json(arguments.json, {"header": about, "runs": [asdict(run) for run in runs]})
    raise SystemExit(1 if any(run.error for run in runs) else 0)


def measured(arguments: argparse.Namespace) -> Iterator[tuple[list[Run], list[str]]]:
    """Yield runs, and the lines of the tables that tell of them, as they are ready."""
    train = functools.partial(run_stage, arguments)
    usable = []
    if arguments.seeds:
        yield [], heading(HEADINGS)
    for preset in arguments.presets:
        warm_up = train(f"{preset} {WARM_UP}", 42)
        if warm_up.error:
            yield [warm_up], [failure(warm_up, HEADINGS)]
            continue
        usable.append(preset)
        if arguments.seeds:
            runs = [train(preset, seed) for seed in arguments.seeds]
            yield runs, rows(preset, runs)
    if arguments.jobs_per_gpu:
        yield [], ["", *heading(AT_ONCE_HEADINGS)]
        for preset in usable:
            alone = at_once(functools.partial(train, preset), 1)
            yield alone[1], rows_at_once(alone, alone)
            for jobs in sorted({*arguments.jobs_per_gpu} - {1}):
                together = at_once(functools.partial(train, preset, sharing=jobs), jobs)
                yield together[1], rows_at_once(together, alone)


def run_stage(arguments: argparse.Namespace, preset: str, seed: int, sharing: int = 1) -> Run:
    """Run the stage, on a GPU that so many share."""
    data = arguments.data_dir
    model = next(folder for folder in (data / "sparse" / "0", data / "sparse") if folder.exists())
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "run"
        command = [
            sys.executable, "-m", "splatdag.scene.train", "--data-dir", data, "--model", model,
            "--result-dir", result, "--device-count", arguments.device_count, "--threads", arguments.threads,
            "--disable-video", "--seed", seed, "--eval-steps", "--preset", *shlex.split(preset),
        ]  # fmt: skip
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": first_gpu(), JOBS_PER_GPU: str(sharing)}
        begin = time.perf_counter()
        ended = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
        if ended.returncode:
            said = ended.stderr.strip().splitlines() or ["without a word"]
            return Run(preset, seed, seconds, error=f"exit code {ended.returncode}: {said[-1]}")
        manifest = json.loads((result / "manifest.json").read_text())
        return Run(preset, seed, seconds, None, manifest, json.loads((result / "metrics.json").read_text())["mean"])


def at_once(train: Callable[[int], Run], jobs: int) -> tuple[float, list[Run]]:
    """Train with so many seeds at the same time; the seconds until the last one ends, and the runs."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        runs = list(pool.map(train, range(42, 42 + jobs)))
    return time.perf_counter() - begin, runs


def header(data_dir: Path, device_count: int) -> str:
    """Date, data, machine and versions."""
    versions = package_versions()
    where = f"{gpu()}, gsplat {versions.get('gsplat', 'not installed')}" if device_count else processor_name()
    return (
        f"{date.today()}, {data_dir.resolve().name} ({len(PhotoSet(data_dir).names)} photos), {where},"
        f" torch {torch.__version__}, Python {versions['python']}, splatdag {commit()}"
    )


def first_gpu() -> str:
    """Number or UUID of the first visible GPU."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]


def gpu() -> str:
    """Name and driver of the first visible GPU."""
    query = ["nvidia-smi", f"--id={first_gpu()}", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    name, driver = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip().split(", ")
    return f"{name} (driver {driver})"


def commit() -> str:
    """Return the commit that is measured, or the stage's digest where there is no repository."""
    query = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(query, cwd=REPOSITORY, capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else f"code {code_digest('captures.train')}"


def heading(names: tuple[str, ...]) -> list[str]:
    return [line(names), "|" + "---|" * len(names)]


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def rows(preset: str, runs: list[Run]) -> list[str]:
    """Return one row for what finished, and one for each run that failed."""
    finished = [run for run in runs if run.error is None]
    failed = [failure(run, HEADINGS) for run in runs if run.error is not None]
    if not finished:
        return failed

    def seconds(part: str) -> str:
        return f"{mean(run.manifest['seconds'][part] for run in finished):.1f}"

    steps = mean(run.manifest["steps"] for run in finished)
    cells = [
        preset,
        f"{steps:,.0f} × {finished[0].views_a_step}",
        str(len(finished)),
        *(spread(finished, name, digits) for name, digits in (("psnr", 2), ("ssim", 4), ("lpips", 4))),
        f"{mean(run.manifest['gaussians'] for run in finished):,.0f}",
        *map(seconds, ("startup", "train", "eval", "publish")),
        f"{mean(run.process_seconds for run in finished):.1f}",
        memory(finished, "cuda", max),
        memory(finished, "host", max),
    ]
    return [line(cells), *failed]


def rows_at_once(together: tuple[float, list[Run]], alone: tuple[float, list[Run]]) -> list[str]:
    """One row for trainings that ran at once, with ratios to one alone; where one failed, a row for each failure."""
    seconds, runs = together
    failed = [failure(run, AT_ONCE_HEADINGS) for run in runs if run.error is not None]
    if failed or alone[1][0].error is not None:
        return failed
    an_hour, an_hour_alone = (3600 * len(group) / time for time, group in (together, alone))
    a_second, a_second_alone = (sum(run.views_a_second for run in group) for _, group in (together, alone))
    cells = [
        runs[0].preset, str(len(runs)), f"{seconds:.1f}", f"{an_hour:,.0f}", f"{an_hour / an_hour_alone:.2f}",
        f"{a_second:,.0f}", f"{a_second / a_second_alone:.2f}", spread(runs, "psnr", 2), memory(runs, "cuda", sum),
    ]  # fmt: skip
    return [line(cells)]


def failure(run: Run, headings: tuple[str, ...]) -> str:
    return line(
        [f"{run.preset}, seed {run.seed}", f"failed, {run.error}".replace("|", "/"), *[""] * (len(headings) - 2)]
    )


def memory(runs: list[Run], kind: str, together: Callable[[list[float]], float]) -> str:
    """The largest or the sum of the peaks (MB; of a device, what was allocated), or a dash where there are none."""
    found = [run.manifest["peak_memory_mb"].get(kind) for run in runs]
    return "–" if None in found else f"{together(found):,.0f}"


def spread(runs: list[Run], name: str, digits: int) -> str:
    """Mean (least to largest) of a figure, or a dash where a run lacks it."""
    values = [run.figures[name] for run in runs if name in run.figures]
    if len(values) < len(runs):
        return "–"
    middle, least, largest = (f"{value:.{digits}f}" for value in (mean(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({least}–{largest})"


if __name__ == "__main__":
    main()
