"""A large capture from end to end: memory, speed, and how near the speed is to that of the rasteriser alone.

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import psutil
import pycolmap
import torch

from splatdag.splats.devices import device_name, use_device
from splatdag.splats.gaussians import colors_of
from splatdag.splats.ply import read_ply
from splatdag.splats.presets import FAST
from splatdag.splats.render import render

ROOM = np.array([8.0, 6.0, 3.0])
"""Metres."""
SOLIDS = 24
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


# --- the capture ------------------------------------------------------------------------------------------------------


@dataclass
class Surface:
    """Flat, round Gaussians on surfaces."""

    means: np.ndarray
    """[N, 3] metres, z upwards."""
    normals: np.ndarray
    """[N, 3]"""
    colors: np.ndarray
    """[N, 3] in [0, 1]."""
    radius: float
    """Metres; one standard deviation."""


def surfaces(count: int) -> Surface:
    """The room's walls and the solids in it, evenly covered, with textures from large to fine."""
    generator = np.random.default_rng(7)
    boxes = [(np.zeros(3), ROOM)]
    for _ in range(SOLIDS):
        size = generator.uniform(0.3, 1.1, 3)
        corner = np.array([*generator.uniform([0.3, 0.3], ROOM[:2] - 1.5), 0.0])
        boxes.append((corner, size))
    faces = [(box, axis, side) for box in range(len(boxes)) for axis in range(3) for side in (0, 1)]
    areas = np.array([np.prod(np.delete(boxes[box][1], axis)) for box, axis, _ in faces])
    chosen = generator.choice(len(faces), count, p=areas / areas.sum())
    places = generator.uniform(size=(count, 3))
    normals = np.zeros((count, 3))
    for face, (box, axis, side) in enumerate(faces):
        on = chosen == face
        corner, size = boxes[box]
        places[on, axis] = side
        places[on] = corner + places[on] * size
        normals[on, axis] = (2 * side - 1) * (-1 if box == 0 else 1)
    return Surface(places, normals, _texture(places, chosen, generator), 0.9 * math.sqrt(areas.sum() / count))


def _texture(places: np.ndarray, faces: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A base colour for each face, waves in many directions, and tiles."""
    colors = generator.uniform(0.25, 0.75, (faces.max() + 1, 3))[faces]
    for wave in range(24):
        frequency = 2.0 ** generator.uniform(0, 6)
        direction = generator.normal(size=3)
        phase = frequency * places @ (direction / np.linalg.norm(direction)) + generator.uniform(0, 2 * np.pi)
        colors += 0.12 / math.sqrt(1 + wave) * np.sin(phase)[:, None] * generator.normal(size=3)
    tiles = np.floor(places / 0.25 + 1e-6).sum(axis=1).astype(int) % 2
    return (colors * (0.8 + 0.2 * tiles[:, None])).clip(0.02, 0.98)


def cameras(count: int) -> np.ndarray:
    """World-to-camera matrices [V, 4, 4] along a walk above the solids, looking around and a little down."""
    at = 2 * np.pi * np.arange(count) / count
    eyes = ROOM / 2 + np.stack([2.6 * np.sin(5 * at), 1.8 * np.cos(7 * at), 0.5 + 0.35 * np.sin(11 * at)], axis=1)
    forward = np.stack([np.cos(13 * at), np.sin(13 * at), -0.45 + 0.3 * np.sin(3 * at)], axis=1)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    poses[:, :3, 3] = -(poses[:, :3, :3] @ eyes[..., None])[..., 0]
    return poses


def _size(arguments: argparse.Namespace) -> tuple[int, int]:
    return arguments.width, arguments.width * 3 // 4


def _intrinsics(arguments: argparse.Namespace) -> np.ndarray:
    width, height = _size(arguments)
    return np.array([[0.7 * width, 0, width / 2], [0, 0.7 * width, height / 2], [0, 0, 1.0]])


@torch.no_grad()
def make(arguments: argparse.Namespace) -> None:
    """Photos as JPEG files and their COLMAP model, its points a little off the surfaces."""
    begin = time.perf_counter()
    device = use_device(arguments.device_count, arguments.threads)
    truth = surfaces(arguments.gaussians)
    tensors = {
        "means": truth.means,
        "quats": _flat(truth.normals),
        "scales": np.tile(truth.radius * np.array([1, 1, 0.1]), (arguments.gaussians, 1)),
        "opacities": np.full(arguments.gaussians, 0.95),
        "colors": truth.colors,
    }
    gaussians = {name: torch.tensor(value, dtype=torch.float32, device=device) for name, value in tensors.items()}
    K = torch.tensor(_intrinsics(arguments)[None], dtype=torch.float32, device=device)
    poses, (width, height) = cameras(arguments.views), _size(arguments)
    (arguments.folder / "images").mkdir(parents=True, exist_ok=True)

    def write(index: int, pixels: torch.Tensor) -> None:
        path = arguments.folder / "images" / f"{index:05}.jpg"
        cv2.imwrite(str(path), pixels.numpy()[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])

    with ThreadPoolExecutor(arguments.threads) as pool:
        writing = []
        for index, pose in enumerate(poses):
            viewmat = torch.tensor(pose[None], dtype=torch.float32, device=device)
            image = render(**gaussians, viewmats=viewmat, Ks=K, width=width, height=height)[0]
            pixels = (image[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
            writing.append(pool.submit(write, index, pixels))
            if index >= 4 * arguments.threads:
                writing[index - 4 * arguments.threads].result()  # so that pictures do not pile up
        for done in writing:
            done.result()
    photographed = time.perf_counter() - begin
    _write_model(arguments, poses, truth)
    total = time.perf_counter() - begin
    print(f"made {arguments.views} photos in {photographed:.0f} s and their model in {total - photographed:.0f} s")


def _flat(normals: np.ndarray) -> np.ndarray:
    """Quaternions [N, 4] that turn z to the normals."""
    quats = np.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], 0 * normals[:, 0]], axis=1)
    quats[normals[:, 2] < -0.999] = [0, 1, 0, 0]
    return quats


def _write_model(arguments: argparse.Namespace, poses: np.ndarray, truth: Surface) -> None:
    K, (width, height) = _intrinsics(arguments), _size(arguments)
    model = pycolmap.Reconstruction()
    params = [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    camera = pycolmap.Camera(model="PINHOLE", width=width, height=height, params=params, camera_id=1)
    model.add_camera_with_trivial_rig(camera)
    for index, pose in enumerate(poses):
        image = pycolmap.Image(name=f"{index:05}.jpg", camera_id=1, image_id=index + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    folder = arguments.folder / "sparse" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    model.write_binary(str(folder))
    # Written as the format says, since a million calls take minutes: id, position, colour, error, length of the track.
    points = np.zeros(
        len(truth.means), [("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")]
    )
    points["id"] = np.arange(len(points)) + 1
    points["xyz"] = truth.means + np.random.default_rng(8).normal(0, 0.3 * truth.radius, truth.means.shape)
    points["rgb"] = (truth.colors * 255).round()
    (folder / "points3D.bin").write_bytes(np.uint64(len(points)).tobytes() + points.tobytes())


# --- training and floor -----------------------------------------------------------------------------------------------


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
        sys.executable, "-m", "splatdag.captures.train", "--data-dir", arguments.folder,
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
    width, height = _size(arguments)
    order = np.random.default_rng(9).permutation([index for index in range(arguments.views) if index % 8])
    size = min(BATCH, len(order))
    rounds = min(200 if device.type == "cuda" else 3, max(1, len(order) // size))
    batches = order[: rounds * size].reshape(rounds, size)
    poses = torch.tensor(cameras(arguments.views)[batches], dtype=torch.float32, device=device)
    Ks = torch.tensor(_intrinsics(arguments), dtype=torch.float32, device=device).expand(size, 3, 3).contiguous()
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
