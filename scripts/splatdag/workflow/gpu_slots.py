"""GPUs of one machine: a job takes its own, or its place on one, by locks that the kernel frees when it ends."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from splatdag.workflow.attempts import this_attempt
from splatdag.workflow.errors import UserError

logger = logging.getLogger(__name__)
JOBS_PER_GPU = "SPLATDAG_JOBS_PER_GPU"
"""Environment variable: jobs that may share a GPU."""
CPU_BUILD = "a GPU asked for, but this torch is a CPU build; `make demo TORCH=cuda`, or --resources gpu=0"
_held: list[ExitStack] = []
"""Locks of this process, kept open until it ends."""


def take_gpus(count: int, locks: Path | None = None) -> None:
    """Wait until `count` GPUs have room, take a place on each, and let CUDA see just these; call before CUDA is used.

    A GPU has room for one job, or for as many as SPLATDAG_JOBS_PER_GPU says; a job that wants it alone waits until it
    is alone. A preset CUDA_VISIBLE_DEVICES (numbers or UUIDs) says which may be taken. Under Slurm, which assigns GPUs
    itself, nothing is done.

    Args:
        count: GPUs to take.
        locks: folder of the lock files, the same for all jobs of the machine.

    Raises:
        UserError: the machine has fewer, or SPLATDAG_JOBS_PER_GPU is no number.
    """
    if "SLURM_JOB_ID" in os.environ:
        return
    devices, places = check_gpus(count), jobs_per_gpu(os.environ.get(JOBS_PER_GPU, 1))
    folder = locks or Path(f"/tmp/splatdag-gpus-{os.getuid()}")  # whatever TMPDIR is
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    waiting = False
    while len(taken := _taken(folder, devices, places, count)) < count:
        for place in taken.values():
            place.close()
        if not waiting:
            logger.info("waiting for room on %d of %d GPUs", count, len(devices))
            waiting = True
        time.sleep(0.5)
    _held.extend(taken.values())
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    if attempt := this_attempt():
        attempt.take_gpus(count / places)


def jobs_per_gpu(given: object) -> int:
    """Return the number of jobs that may share a GPU, from a profile or the environment.

    Raises:
        UserError: it is no number from 1 to 64.
    """
    text = str(given).strip()
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise UserError(f"jobs_per_gpu: {text!r}; expected a number from 1 to 64")
    return int(text)


def check_gpus(count: int) -> list[str]:
    """Return the GPUs that this process may use, as `visible_gpus` does.

    Raises:
        UserError: they are fewer than `count`; the message says why, and what to do.
    """
    devices, source = _visible()
    if len(devices) < count:
        raise UserError(
            f"{count} GPUs asked for, but there are {len(devices)} ({source}); lower --resources gpu=, 0 is the CPU"
        )
    return devices


def visible_gpus() -> list[str]:
    """Return numbers or UUIDs of the GPUs that this process may use; no call of CUDA is made, which would fix them."""
    return _visible()[0]


def _visible() -> tuple[list[str], str]:
    """Return the GPUs, and the source of their list or the reason why there are none."""
    preset = os.environ.get("CUDA_VISIBLE_DEVICES")
    if preset is not None:
        named = [device.strip() for device in preset.split(",")]
        return list(dict.fromkeys(name for name in named if name not in ("", "-1"))), f"CUDA_VISIBLE_DEVICES={preset}"
    if shutil.which("nvidia-smi") is None:
        return [], "no nvidia-smi on PATH"
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    if listed.returncode:
        said = " ".join((listed.stdout + listed.stderr).split())
        return [], f"nvidia-smi: {said}; after an update of the driver: reboot"
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))], "listed by nvidia-smi"


def _taken(folder: Path, devices: list[str], places: int, count: int) -> dict[str, ExitStack]:
    """Take places on up to `count` GPUs that have room, those with most room first."""
    taken: dict[str, ExitStack] = {}
    for place in range(places):  # the first place of every GPU before the second of any
        for device in devices:
            if device not in taken and len(taken) < count:
                locks = ExitStack()
                shared = fcntl.LOCK_SH if places > 1 else fcntl.LOCK_EX
                lock = folder / device.replace("/", "_")  # MIG-GPU-…/1/0
                if _lock(lock, shared, locks) and _lock(Path(f"{lock}.{place}"), fcntl.LOCK_EX, locks):
                    taken[device] = locks
                else:
                    locks.close()
    return taken


def _lock(path: Path, kind: int, locks: ExitStack) -> bool:
    handle = locks.enter_context(path.open("a"))
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(f"{path}: can't be locked ({error.strerror}), so that jobs can't share GPUs") from None
    return True
