"""Many sample logs of the front camera, made, indexed and lifted by processes of the real stages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from splatdag.samples.options import SEQUENCES


def made(root: Path, logs: int, frames: int, width: int, points: int) -> Path:
    """A folder of sample logs of the front camera; each is made by a process of its own."""
    names = SEQUENCES[:logs]

    def make(number: int) -> None:
        own = root.with_name(f"{root.name}_{number}")
        run(
            "samples.street", "--out", str(own), "--logs=1", f"--frames={frames}", f"--width={width}",
            f"--points={points}", "--cameras=front_camera", "--packed=none", "--semseg=none", f"--seed={number}",
            f"--threads={max(2, (os.cpu_count() or 2) // logs)}",
        )  # fmt: skip
        shutil.move(own / "001", root / names[number])
        shutil.rmtree(own)

    root.mkdir(parents=True, exist_ok=True)
    missing = [number for number, name in enumerate(names) if not (root / name).is_dir()]
    with ThreadPoolExecutor(min(len(names), os.cpu_count() or 2)) as pool:
        list(pool.map(make, missing))
    return root


def lifted(root: Path, index: Path, names: tuple[str, ...]) -> None:
    """Lift all frames of the logs' clips, each log by a process of its own."""

    def lift(name: str) -> None:
        receipt = root / "lift" / f"{name}.json"
        if not receipt.is_file():
            places = ["--index-path", str(index), "--data-root", str(root), "--folder", str(root / "lift")]
            run("driving.clips.lift_logs", *places, "--scene", name, "--receipt", str(receipt), "--threads=1")

    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        list(pool.map(lift, names))


def indexed(root: Path, tests: str) -> Path:
    full = root / "full.pkl"
    if not full.is_file():
        files = ["--out-full", str(full), "--out-tiny", str(root / "tiny.pkl"), "--report", str(root / "report.json")]
        run("driving.clips.index", "--data-root", str(root), *files, f"--val-scenes={tests}")
    return full


def run(stage: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", f"splatdag.{stage}", *words], check=True)
