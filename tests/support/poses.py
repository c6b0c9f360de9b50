"""The stage captures.pose, called or started."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from splatdag.captures import pose
from splatdag.captures.options import PoseOptions
from splatdag.workflow.stage import Job

MODEL_FILES = ("cameras.bin", "images.bin", "points3D.bin")
UNRELATED = ["unrelated_1.jpg", "unrelated_2.jpg"]


def solve(data_dir: Path, report: Path, threads: int = 2, **options: Any) -> dict[str, Any]:
    pose.main(data_dir, report, PoseOptions(**options), Job(threads=threads))
    return json.loads(report.read_text())


def published(folder: Path) -> list[str]:
    """Outputs in a folder that a run wrote to; its state/ is none."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in files if path.parts[0] != "state")


def write_noise(path: Path, seed: int, size: tuple[int, int] = (180, 240)) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    cv2.imwrite(str(path), pixels)


def start_cli(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "splatdag.captures.pose", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
