"""A training that the GPU is too small for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support.both import NEEDS_CUDA
from support.scenes import write_gaussian_scene
from support.trainings import options

from splatdag.scene import train as stage
from splatdag.training import devices
from splatdag.training.devices import OutOfDeviceMemory
from splatdag.workflow.stage import Job

pytestmark = NEEDS_CUDA


def test_too_little_device_memory_ends_with_what_to_lower_and_a_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small share of the memory, and a million Gaussians at random."""
    data, run_dir = write_gaussian_scene(tmp_path / "data"), tmp_path / "run"
    chosen = options(test_every=4, init_type="random", init_num_pts=1_000_000, batch_size=4)
    monkeypatch.setattr(devices, "take_gpus", lambda count: None)  # which this process would keep from later tests
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(500e6 / torch.cuda.mem_get_info()[1])
    try:
        with pytest.raises(OutOfDeviceMemory, match=r"no memory left on the GPU .* lower strategy.cap_max"):
            stage.main(data, data / "sparse" / "0", run_dir, chosen, Job(threads=2), device_count=1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    manifest = json.loads((run_dir / "state" / "manifest.json").read_text())
    assert manifest["exit_reason"] == "cuda_oom"
    assert not (run_dir / "manifest.json").exists()
