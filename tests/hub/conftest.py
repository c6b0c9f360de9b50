"""What tests of the upload share: runs with recordings, a Hub, and the stage as its own process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.local_hub import LocalHub
from support.processes import run_module
from support.uploads import REPO, environment, receipt_of, record


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    with LocalHub(tmp_path / "hub") as server:
        yield server


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of a capture with three recordings: for a commit itself, for LFS, and for LFS in parts."""
    run = tmp_path / "results/captures/room/single"
    for name, size in (("capture", 5_000), ("evaluation_nvs_epoch_0010", 300_000), ("tiny", 300)):
        record(run / "rerun" / f"{name}.rrd", size)
    (run / "metrics.json").write_text(json.dumps({"mean": {"psnr": 30.17, "ssim": 0.9185}}))
    return run


Stage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path, run_dir: Path) -> list[str]:
    """The stage's command line for the run; where to is to be added."""
    results = tmp_path / "results"
    arguments = ["--run-dir", run_dir, "--exp", "single", "--scene", "room", "--hub-dir", results / "hub"]
    arguments += ["--receipt", receipt_of(tmp_path), "--log", tmp_path / "logs" / "upload.log"]
    return [sys.executable, "-m", "splatdag.hub.upload", *map(str, arguments)]


@pytest.fixture
def upload(hub: LocalHub, tmp_path: Path, command: list[str]) -> Stage:
    """Upload the run to the Hub, as `snakemake upload` does: with no receipt from before."""

    def start(*more: str, token: str | None = "hf_writer", to: str | None = REPO) -> subprocess.CompletedProcess[str]:
        receipt_of(tmp_path).unlink(missing_ok=True)
        where = ["--repo-id", to] if to else []
        return run_module(*command[2:], *where, *more, env=environment(hub, token))

    return start
