"""A GPU that was asked for and can't be used: one line says why and what to do, before any work."""

import warnings

import pytest
import torch
from support.processes import run_module
from support.scenes import write_gaussian_scene

from splatdag.training.devices import use_device
from splatdag.workflow.errors import UserError

FROM_TORCH = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU"
    " driver. (Triggered internally at /c10/cuda/CUDAFunctions.cpp:119.)"
)


@pytest.fixture
def cuda_build(monkeypatch):
    """A torch for CUDA 13 that is allowed one GPU and can use none."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_an_old_driver_is_named_as_torch_names_it(cuda_build, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(warnings.warn(FROM_TORCH, stacklevel=1)))
    with pytest.raises(UserError) as refused:
        use_device(1, 1)
    assert str(refused.value) == (
        "a GPU asked for, but CUDA can't use it (CUDA initialization: The NVIDIA driver on your system is too old"
        " (found version 11040). Please update your GPU driver.): CUDA_VISIBLE_DEVICES must name GPUs that"
        " `nvidia-smi` lists, with a driver for CUDA 13.0; --resources gpu=0 is the CPU"
    )


def test_fewer_gpus_than_slurm_was_asked_for_are_told(cuda_build, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="^2 GPUs asked for, but this job sees 1; lower gpu=$"):
        use_device(2, 1)


CAUSE = {
    "built for the CPU": (None, "this torch is a CPU build; `make demo TORCH=cuda`, or --resources gpu=0"),
    "absent": ("13.0", "1 GPUs asked for, but there are 0 (CUDA_VISIBLE_DEVICES=); lower --resources gpu=, 0 is"),
    "hidden": ("13.0", "1 GPUs asked for, but there are 0 (CUDA_VISIBLE_DEVICES=-1); lower --resources gpu=, 0 is"),
    "not there": ("13.0", "a GPU asked for, but CUDA can't use it (no reason given): CUDA_VISIBLE_DEVICES must name"),
}
VISIBLE = {"hidden": "-1", "not there": "7"}
STAGE = """
import runpy, sys, torch
torch.version.cuda = {cuda!r}
runpy.run_module("splatdag.scene.train", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("cause", CAUSE)
def test_a_training_without_its_gpu_ends_with_what_to_do(tmp_path, monkeypatch, cause):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    cuda, message = CAUSE[cause]
    data, run = write_gaussian_scene(tmp_path / "data"), tmp_path / "run"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE.get(cause, ""))
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # locks
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    flags = ["--data-dir", data, "--model", data / "sparse" / "0", "--result-dir", run, "--device-count", "1"]
    flags.append("--preset=fast")  # of preset auto a line says what it is
    (tmp_path / "stage.py").write_text(STAGE.format(cuda=cuda))
    done = run_module("stage", *flags, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert [path for path in run.rglob("*") if path.is_file()] == []
