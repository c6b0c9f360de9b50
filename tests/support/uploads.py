"""Recordings, receipts and the environment of uploads in tests."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

from support.local_hub import LocalHub

HEADER = b"RRF2\x00\x29\x00\x00"
"""First bytes of a recording that Rerun 0.41.0 wrote."""
REPO = "lab/recordings"
FOLDER = "experiments/single/room"


def record(path: Path, size: int = 5_000, seed: int = 0) -> Path:
    """A file that begins as recordings do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADER + random.Random(f"{path.name} {seed}").randbytes(size - len(HEADER)))
    return path


def receipt_of(tmp_path: Path) -> Path:
    return tmp_path / "results/sharing/single/room.json"


def environment(hub: LocalHub, token: str | None = "hf_writer") -> dict[str, str]:
    """This process's environment with the Hub in it, and with no other token."""
    outside = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return outside | hub.environment(token)


def receipt(tmp_path: Path) -> dict:
    return json.loads(receipt_of(tmp_path).read_text())


def start(command: list[str], hub: LocalHub, *more: str) -> subprocess.Popen[str]:
    """Start an upload to the Hub."""
    return subprocess.Popen(
        [*command, "--repo-id", REPO, *more], env=environment(hub), stderr=subprocess.PIPE, text=True
    )
