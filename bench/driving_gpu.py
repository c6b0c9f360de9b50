"""Flux4D on a GPU: what a step takes at full size, and what it learns from many sample logs.

python bench/driving_gpu.py --folder FOLDER steps|one|many [--results FILE.json]

steps: time and memory of a step on one clip of 1920×1080 images and 115,200 firings a sweep, with the front camera's
points and with all lidar points; and of one sparse convolution beside a dense one.
one: one clip with dense lidar, learnt; how far its background moves in the image of a camera that stands still, and
how wrong the speeds of cars and people are.
many: logs are made, most to learn from; the training is stopped (SIGTERM) and continued every --piece seconds; it is
measured on logs that it has not seen, and on one of them at 1920×1080.
What FOLDER has already is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from street_logs import indexed, lifted, made, run

from splatdag.driving.clips.clip_loader import Lesson, OnDevice
from splatdag.driving.clips.clip_reader import Reader
from splatdag.driving.clips.clips import Clip, read_index
from splatdag.driving.clips.initial_gaussians import SWEEP_SECONDS, Clock
from splatdag.driving.evaluation.scores import summary
from splatdag.driving.logs.box_tracks import matches
from splatdag.driving.logs.pandaset import PANDAR64, Log
from splatdag.driving.network.model import Flux4D
from splatdag.driving.network.sparse import Level, SubmanifoldConv
from splatdag.driving.training.step import training_step
from splatdag.driving.training_options import TrainOptions
from splatdag.samples.options import SEQUENCES
from splatdag.workflow.publish import write_json

RESUMABLE = 75
CUDA = int(torch.cuda.is_available())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["steps", "one", "many"])
    parser.add_argument("--folder", type=Path, required=True, help="for logs, caches and runs")
    parser.add_argument("--results", type=Path, help="write the figures here as JSON, too")
    parser.add_argument("--train-logs", type=int, default=64)
    parser.add_argument("--test-logs", type=int, default=4)
    parser.add_argument("--frames", type=int, default=24, help="of a log")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--points", type=int, default=57_600, help="firings of a sweep")
    parser.add_argument(
        "--piece", type=float, default=240, help="seconds after which the training is stopped, and goes on"
    )
    parser.add_argument(
        "--end", type=float, default=1200, help="seconds of training in all; then its last checkpoint counts"
    )
    parser.add_argument("--flags", default="", help="of the training")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    found = {"steps": steps, "one": one, "many": many}[arguments.what](arguments)
    print(json.dumps(found, indent=1))
    if arguments.results:
        write_json(arguments.results, found)


def steps(arguments: argparse.Namespace) -> dict[str, Any]:
    root = made(arguments.folder / "large", 1, 40, 1920, 115_200)
    clip = read_index(indexed(root, "001"))[0]
    device = torch.device("cuda" if CUDA else "cpu")
    found: dict[str, Any] = {}
    kinds: dict[str, dict[str, Any]] = {
        "base": {"iterations": 1}, "refined": {}, "half size": {"data_factor": 2},
        "all lidar points": {"keep_unseen": True, "lidar_sensor_id": -1},
    }  # fmt: skip
    for name, changes in kinds.items():
        options = TrainOptions(**changes)
        begin = time.perf_counter()
        lesson = Lesson.of(Reader(root, options, root / "lift")(clip))
        first = time.perf_counter() - begin
        begin = time.perf_counter()
        lesson = Lesson.of(Reader(root, options, root / "lift")(clip))
        read = time.perf_counter() - begin
        model = Flux4D(options).to(device)
        place = OnDevice(model, device)
        begin = time.perf_counter()
        given = place.of(lesson)
        wait()
        placed = time.perf_counter() - begin
        peak_reset()
        seconds = [step(model, given, options, slot) for slot in range(12)][4:]
        found[name] = {
            "Gaussians": len(given.scene.start),
            "of them lidar points": int((~given.scene.start.backdrop).sum()) - options.num_image_points,
            "voxels": [len(level.coordinates) for level in given.voxels.pyramid],
            "reading s, points lifted, too": first,
            "reading s": read,
            "to the device ms": 1e3 * placed,
            "step ms": 1e3 * sorted(seconds)[len(seconds) // 2],
            "memory MB": peak(),
        }
        if name == "base":
            found["convolutions"] = convolutions(given.voxels.pyramid[0], 32, device)
        print(name, found[name], flush=True)
    return found


def step(model: Flux4D, given: Any, options: TrainOptions, slot: int) -> float:
    wait()
    begin = time.perf_counter()
    loss, *_ = training_step(model, given, slot, options, tuple(range(given.scene.clip.length)))
    loss.backward()
    wait()
    model.zero_grad()
    return time.perf_counter() - begin


def convolutions(level: Level, channels: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of a convolution with its gradients: ours, torch's dense one on the same grid."""
    layer = SubmanifoldConv(channels, channels).to(device)
    features = torch.randn((len(level.coordinates), channels), device=device, requires_grad=True)
    ours = timed(lambda: layer(features, level))
    dense = torch.nn.Conv3d(channels, channels, 3, padding=1, bias=False).to(device)
    grid = torch.zeros((1, channels, *level.shape), device=device, requires_grad=True)
    theirs = timed(lambda: dense(grid))
    return {"voxels": len(level.coordinates), "cells": level.shape[0] * level.shape[1] * level.shape[2],
            "sparse ms": ours, "dense ms": theirs}  # fmt: skip


def timed(run: Any) -> float:
    spent = []
    for _ in range(8):
        wait()
        begin = time.perf_counter()
        run().sum().backward()
        wait()
        spent.append(1e3 * (time.perf_counter() - begin))
    return sorted(spent)[4]


def one(arguments: argparse.Namespace) -> dict[str, Any]:
    root = made(arguments.folder / "dense", 1, 24, 960, 115_200)
    index = indexed(root, "001")
    clips = read_index(index)
    number = next(number for number, clip in enumerate(clips) if clip.setting == "eval_future")
    run_dir = arguments.folder / "one"
    shared = ["--index-path", str(index), "--data-root", str(root), "--device-count", str(CUDA)]
    begin = time.perf_counter()
    flags = [f"--clip-index={number}", "--iters=1500", "--lr=2e-3", "--save-every=0", *arguments.flags.split()]
    run("driving.training.overfit", *shared, "--output-dir", str(run_dir), "--cache-dir", str(root / "lift"), *flags)
    seconds = time.perf_counter() - begin
    flow = ["--ckpt", str(run_dir / "ckpt_last.pt"), "--out-dir", str(run_dir / "flow"), f"--clip-index={number}"]
    run("driving.evaluation.flow", *shared, *flow, "--cache-dir", str(root / "lift"), "--mode=fixed_pose")
    told = json.loads((run_dir / "flow" / "summary.json").read_text())["fixed_pose"]
    return {
        "seconds": seconds,
        "background px": told["background_median"],
        "boxes that move px": told["dynamic_median"],
        "speeds": speeds(run_dir, root, clips[number]),
        "metrics": brief(run_dir / "metrics.json"),
    }


def speeds(run_dir: Path, root: Path, clip: Clip) -> list[dict[str, Any]]:
    """List the things faster than 0.5 m/s: class, points, speed (m/s), and relative error of their median velocity."""
    log = Log(root / clip.scene_id)
    clock = Clock.of(log, clip)
    motion = np.load(next(run_dir.glob("clip_*/*/motion.npz")))
    ends = np.array([log.lidar_times[clip.start + frame] for frame in clip.inputs]) - clock.begin
    nearest = np.abs(motion["seconds"][:, None] + SWEEP_SECONDS / 2 - ends).argmin(axis=1)
    told: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {}
    for place, frame in enumerate(clip.inputs):
        number = clip.start + frame
        boxes, other = log.boxes(number), log.boxes(number + 1)
        rows = np.flatnonzero(nearest == place)
        for box, there in enumerate(matches(boxes, other)):
            if there < 0 or not boxes.of(PANDAR64)[box]:
                continue
            true = (other.centers[there] - boxes.centers[box]) / (log.lidar_times[number + 1] - log.lidar_times[number])
            inside = rows[boxes.inside(motion["points"][rows].astype(np.float64), box)]
            if np.linalg.norm(true) > 0.5 and len(inside):
                own = told.setdefault(boxes.ids[box], [])
                own.append((boxes.labels[box], true, motion["velocities"][inside]))
    found = []
    for parts in told.values():
        true, got = np.mean([part[1] for part in parts], axis=0), np.concatenate([part[2] for part in parts])
        speed = float(np.linalg.norm(true))
        wrong = float(np.linalg.norm(np.median(got, axis=0) - true)) / speed
        found.append({"class": parts[0][0], "points": len(got), "m/s": round(speed, 2), "wrong": round(wrong, 3)})
    return sorted(found, key=lambda one: -one["points"])


def many(arguments: argparse.Namespace) -> dict[str, Any]:
    count = arguments.train_logs + arguments.test_logs
    begin = time.perf_counter()
    root = made(arguments.folder / "logs", count, arguments.frames, arguments.width, arguments.points)
    making = time.perf_counter() - begin
    tests = SEQUENCES[: arguments.test_logs]
    index = indexed(root, ",".join(tests))
    begin = time.perf_counter()
    lifted(root, index, SEQUENCES[:count])
    lifting = time.perf_counter() - begin
    run_dir = arguments.folder / "many"
    shared = ["--index-path", str(index), "--data-root", str(root), "--device-count", str(CUDA)]
    train = [
        "driving.training.train", *shared, "--output-dir", str(run_dir), "--cache-dir", str(root / "lift"),
        "--save-every=0",
        f"--threads={os.cpu_count()}", "--cache-max-items=2000", "--save-ckpt-every=500", *arguments.flags.split(),
    ]  # fmt: skip
    begin, pieces = time.perf_counter(), 0
    while True:
        code = piece(train, min(arguments.piece, arguments.end - (time.perf_counter() - begin)))
        pieces += 1
        if code == 0:
            break
        if code != RESUMABLE:
            raise SystemExit(f"the training ended with {code}")
        if time.perf_counter() - begin >= arguments.end - 1:
            break
    learnt = time.perf_counter() - begin
    last = sorted(run_dir.glob("ckpt_step_*.pt"))[-1]
    found: dict[str, Any] = {
        "logs": count, "making s": making, "lifting s": lifting, "clips": len(read_index(index)),
        "training s": learnt, "pieces": pieces, "checkpoint": last.name,
    }  # fmt: skip

    def measure(scene: str) -> None:
        words = ["--ckpt", str(last), "--scene", scene, "--out-dir", str(run_dir / scene), "--save-max-clips=1"]
        run("driving.evaluation.evaluate", *shared, *words, "--cache-dir", str(root / "lift"))

    with ThreadPoolExecutor(len(tests)) as pool:
        list(pool.map(measure, tests))
    found["metrics"] = merged([run_dir / scene / "metrics.json" for scene in tests])
    large = made(arguments.folder / "large", 1, 40, 1920, 115_200)
    words = ["--ckpt", str(last), "--scene", "001", "--out-dir", str(run_dir / "large"), "--save-max-clips=1"]
    shared = ["--index-path", str(indexed(large, "001")), "--data-root", str(large), "--device-count", str(CUDA)]
    run("driving.evaluation.evaluate", *shared, *words, "--cache-dir", str(large / "lift"))
    rows = json.loads((run_dir / "large" / "metrics.json").read_text())["rows"]
    found["at 1920×1080"] = {
        "seconds": rows["seconds"],
        "Gaussians": rows["gaussians"],
        "memory": rows["manifest"]["peak_memory_mb"],
    }
    return found


def merged(files: list[Path]) -> dict[str, Any]:
    rows = [json.loads(path.read_text())["rows"] for path in files]
    metrics = summary([r for row in rows for r in row["images"]], [r for row in rows for r in row["pairs"]], {})
    return short(metrics) | {"reconstruct s": [clip["reconstruct"] for row in rows for clip in row["seconds"]]}


def brief(path: Path) -> dict[str, Any]:
    return short(json.loads(path.read_text()))


def short(metrics: dict[str, Any]) -> dict[str, Any]:
    first = metrics["baselines"]["init_only"]["nvs"]
    return {
        "nvs": metrics["nvs"], "init_only": first, "baseline": metrics["baseline"],
        "scene_flow": {key: value for key, value in metrics["scene_flow"].items() if key != "per_pair"},
        "zero_flow": metrics["baselines"]["zero_flow"]["scene_flow"].get("epe_3way_mean"),
    }  # fmt: skip


def piece(words: list[str], seconds: float) -> int:
    """Run a stage, and stop it after so many seconds; its exit code."""
    process = subprocess.Popen([sys.executable, "-m", f"splatdag.{words[0]}", *words[1:]])
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        return process.wait(120)


def wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def peak_reset() -> None:
    if CUDA:
        torch.cuda.reset_peak_memory_stats()


def peak() -> float | None:
    return torch.cuda.max_memory_allocated() / 1e6 if CUDA else None


if __name__ == "__main__":
    main()
