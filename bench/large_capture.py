"""Benchmark of a large capture from end to end: memory, speed, and the ratio of the speed to the rasteriser's alone.

python bench/large_capture.py [--views 1000] [--width 1152] [--gaussians 1000000] [--steps 3000]
    [--image-cache auto host disk] [--folder FOLDER]

Makes a furnished room of a million Gaussians, photos of it and their COLMAP model (kept in --folder and used again
from there), and trains on it with the stage `captures.train`, preset fast, from as many points: once for each place
that photos can be kept in. The floor is the rasteriser alone on the result, forward and backward, with the training's
views and batch size, but no loss and no optimiser. Runs on a GPU, or where there is none on the CPU; there it takes
small numbers, such as --views 6 --width 96 --gaussians 500 --steps 20. The ratio means something from 1,000 steps on:
before step 400 photos are half as large.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import psutil
import torch
from synthetic_capture import cameras, intrinsics, make, photo_size

from splatdag.scene.presets import FAST
from splatdag.splats.devices import use_device
from splatdag.splats.gaussians import colors_of
from splatdag.splats.ply import read_ply
from splatdag.splats.render import render
from splatdag.training.devices import device_name

BATCH = FAST["batch_size"]
REPORT = re.compile(r"step (\d+) of \d+, loss")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=1000)
    parser.add_argument("--width", type=int, default=1152, help="of a photo in pixels; the height is three quarters")
    parser.add_argument("--gaussians", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--image-cache", nargs="+", default=["auto", "host", "disk"])
    parser.add_argument("--threads", type=int, default=psutil.cpu_count() or 1)
    parser.add_argument("--device-count", type=int, default=int(torch.cuda.is_available()))
    parser.add_argument("--folder", type=Path, help="where to keep the capture and the runs; default: a temporary one")
    parser.add_argument("--part", choices=["make", "floor"], help=argparse.SUPPRESS)
    parser.add_argument("--splat", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        {"make": make, "floor": floor}[arguments.part](arguments)
        return
    with tempfile.TemporaryDirectory() as temporary:
        arguments.folder = arguments.folder or Path(temporary)
        report(arguments)


def report(arguments: argparse.Namespace) -> None:
    """Make the capture, train on it, and print a row for each training. The parts are processes, so that each has its
    own memory and gives the GPU back."""
    if not (arguments.folder / "sparse" / "0" / "points3D.bin").is_file():
        print(_of_part(arguments, "make"), flush=True)
    rows: list[str] = []
    for choice in arguments.image_cache:
        trained = _train(arguments, choice)
        floor_rate, device = _of_part(arguments, "floor", "--splat", trained.run / "splat.ply").split(" ", 1)
        if not rows:
            print(
                f"\n{date.today()}, {device}, {arguments.threads} CPU threads, {arguments.steps} steps, preset fast\n"
            )
            print(
                "| image_cache | photos | Gaussians | PSNR | startup s | host MB, of it own | device MB |"
                " training views/s | rasteriser alone | ratio |\n|---|---|---|---|---|---|---|---|---|---|"
            )
        rows.append(trained.row(choice, float(floor_rate)))
        print(rows[-1], flush=True)


def _of_part(arguments: argparse.Namespace, part: str, *more: object) -> str:
    """The last line that a part prints."""
    names = ("views", "width", "gaussians", "threads", "device_count", "folder")
    flags = [word for name in names for word in ("--" + name.replace("_", "-"), getattr(arguments, name))]
    command = [sys.executable, __file__, "--part", part, *flags, *more]
    done = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]


@dataclass
class Trained:
    """A training and what was seen of it from outside."""

    run: Path
    views_per_second: float
    resident_mb: float
    own_mb: float
    """Memory that no file can give back."""

    def row(self, choice: str, floor_rate: float) -> str:
        manifest = json.loads((self.run / "manifest.json").read_text())
        psnr = json.loads((self.run / "metrics.json").read_text())["mean"]["psnr"]
        on_device = manifest["peak_memory_mb"].get("cuda")
        return (
            f"| {choice} | {manifest['images']} | {manifest['gaussians']:,} | {psnr:.2f} |"
            f" {manifest['seconds']['startup']:.0f} | {self.resident_mb:,.0f}, {self.own_mb:,.0f} |"
            f" {f'{on_device:,.0f}' if on_device else '-'} | {self.views_per_second:.1f} | {floor_rate:.1f} |"
            f" {self.views_per_second / floor_rate:.2f} |"
        )


def _train(arguments: argparse.Namespace, choice: str) -> Trained:
    """Run the stage. Speed is that of the last half of the steps, from when its reports arrive; of a training too short
    for two reports there, that of the whole."""
    run = arguments.folder / f"run_{choice}"
    command = [
        sys.executable, "-m", "splatdag.scene.train", "--data-dir", arguments.folder,
        "--model", arguments.folder / "sparse" / "0", "--result-dir", run, "--preset", "fast",
        "--max-steps", arguments.steps, "--strategy.cap-max", arguments.gaussians, "--image-cache", choice,
        "--checkpoint-every", 10 * arguments.steps, "--disable-video",
        "--threads", arguments.threads, "--device-count", arguments.device_count,
    ]  # fmt: skip
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen: list[tuple[float, int]] = []
    with _memory_of(process.pid) as peaks:
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            if match := REPORT.search(line):
                seen.append((time.perf_counter(), int(match.group(1))))
        if process.wait():
            raise SystemExit(f"the training ended with code {process.returncode}")
    late = [(when, step) for when, step in seen if step >= arguments.steps / 2]
    if len(late) > 1:
        rate = (late[-1][1] - late[0][1]) / (late[-1][0] - late[0][0])
    else:
        rate = arguments.steps / json.loads((run / "manifest.json").read_text())["seconds"]["train"]
    kept = sum(1 for index in range(arguments.views) if index % 8)
    return Trained(run, rate * min(BATCH, kept), peaks["VmHWM"] / 1e3, peaks["RssAnon"] / 1e3)


@contextmanager
def _memory_of(process: int) -> Iterator[dict[str, float]]:
    """The largest resident memory of a process and what of it is its own (kB), looked at ten times a second."""
    peaks, ended = {"VmHWM": 0.0, "RssAnon": 0.0}, threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            try:
                lines = Path(f"/proc/{process}/status").read_text().splitlines()
            except OSError:
                return
            values = dict(line.split(":", 1) for line in lines)
            for name in peaks:
                if name in values:
                    peaks[name] = max(peaks[name], 1.024 * float(values[name].split()[0]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()


def floor(arguments: argparse.Namespace) -> None:
    """Views a second of the rasteriser alone, forward and backward, on the Gaussians that the training ended with."""
    device = use_device(arguments.device_count, arguments.threads)
    parameters = {name: value.to(device) for name, value in read_ply(arguments.splat).items()}
    leaves = {
        "means": parameters["means"],
        "quats": parameters["quats"],
        "scales": parameters["scales"].exp(),
        "opacities": torch.sigmoid(parameters["opacities"]),
        "colors": colors_of(parameters),
    }
    leaves = {name: value.detach().requires_grad_() for name, value in leaves.items()}
    degree = math.isqrt(leaves["colors"].shape[1]) - 1
    width, height = photo_size(arguments)
    order = np.random.default_rng(9).permutation([index for index in range(arguments.views) if index % 8])
    size = min(BATCH, len(order))
    rounds = min(200 if device.type == "cuda" else 3, max(1, len(order) // size))
    batches = order[: rounds * size].reshape(rounds, size)
    poses = torch.tensor(cameras(arguments.views)[batches], dtype=torch.float32, device=device)
    Ks = torch.tensor(intrinsics(arguments), dtype=torch.float32, device=device).expand(size, 3, 3).contiguous()
    upstream = torch.rand((size, height, width, 3), device=device) / (size * height * width)

    def step(viewmats: torch.Tensor) -> None:
        for leaf in leaves.values():
            leaf.grad = None
        image = render(**leaves, viewmats=viewmats, Ks=Ks, width=width, height=height, sh_degree=degree)[0]
        image.backward(upstream)

    def synchronised() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    for viewmats in poses[:10]:
        step(viewmats)
    begin = synchronised()
    for viewmats in poses:
        step(viewmats)
    print(rounds * size / (synchronised() - begin), device_name(device).removesuffix(f", {arguments.threads} threads"))


if __name__ == "__main__":
    main()
