"""The device switch: 0 is the CPU, more are CUDA devices."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numba
import torch

from splatdag.workflow.attempts import this_attempt
from splatdag.workflow.errors import UserError
from splatdag.workflow.gpu_slots import CPU_BUILD, take_gpus
from splatdag.workflow.manifest import processor_name
from splatdag.workflow.user_cache import ensure_kernels


def use_device(count: int, threads: int) -> torch.device:
    """Choose the device to compute on, and set the thread pools for it.

    Args:
        count: CUDA devices to use; 0 is the CPU.
        threads: CPU threads.

    Raises:
        UserError: a GPU was asked for and can't be used.
    """
    # torch's own pool stays at one thread: numba does the parallel work, and two pools get in each other's way.
    torch.set_num_threads(1)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    if count == 0:
        ensure_kernels()
        return torch.device("cpu")
    check_cuda_build()
    take_gpus(count)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        reason = " ".join(" ".join(str(warning.message).partition("(Triggered")[0] for warning in said).split())
        raise UserError(
            f"a GPU asked for, but CUDA can't use it ({reason or 'no reason given'}): CUDA_VISIBLE_DEVICES must name"
            f" GPUs that `nvidia-smi` lists, with a driver for CUDA {torch.version.cuda}; --resources gpu=0 is the CPU"
        )
    if torch.cuda.device_count() < count:
        raise UserError(f"{count} GPUs asked for, but this job sees {torch.cuda.device_count()}; lower gpu=")
    if attempt := this_attempt():
        attempt.use(device_name(torch.device("cuda"), count))
    return torch.device("cuda")


def check_cuda_build() -> None:
    """Raise a `UserError` where torch is a build for the CPU."""
    if torch.version.cuda is None:
        raise UserError(CPU_BUILD)


class OutOfDeviceMemory(UserError):
    """No memory is left on the GPU; the options ask for too much."""

    def __init__(self, device: torch.device, advice: str, step: int = 0, gaussians: int | None = None) -> None:
        """Say after which step, with how many Gaussians if there are any, and what to change."""
        self.step, self.gaussians = step, gaussians
        free, total = torch.cuda.mem_get_info(device)
        where = f"after step {step}" + (f" with {gaussians:,} Gaussians" if gaussians else "")
        where = where if step or gaussians else "before the first step"
        super().__init__(
            f"no memory left on the GPU {where} ({(total - free) / 1e9:.1f} of {total / 1e9:.1f} GB in use): {advice}"
        )


@contextmanager
def out_of_memory_explained(
    device: torch.device, advice: str, where: Callable[[], tuple[int, int | None]] = lambda: (0, None)
) -> Iterator[None]:
    """Turn torch's error for a full GPU into a line that says what to change.

    Args:
        device: that the block computes on.
        advice: options to change.
        where: gives the steps done and the number of Gaussians.

    Raises:
        OutOfDeviceMemory: the GPU is too small.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise OutOfDeviceMemory(device, advice, *where()) from None


def device_name(device: torch.device, count: int = 1) -> str:
    """Name the device, or so many of the kind; with the threads of a CPU."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return f"{count} x {name}" if count > 1 else name
    return f"{processor_name()}, {numba.get_num_threads()} threads"


def device_memory_mb(device: torch.device, others: float = 0.0) -> dict[str, float]:
    """Measure the largest allocation on a CUDA device, or of others if that is larger, in MB; empty for the CPU."""
    if device.type != "cuda":
        return {}
    return {"cuda": round(max(torch.cuda.max_memory_allocated(device) / 1e6, others), 1)}
