"""GPUs of one machine: each job takes its own, by a lock that the kernel frees when the job ends, however it ends."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

from splatdag.workflow.errors import UserError

logger = logging.getLogger(__name__)
_held: list[IO[str]] = []
"""Locks of this process, kept open until it ends."""


def take_gpus(count: int, locks: Path | None = None) -> None:
    """Wait until `count` GPUs are free, take them, and let CUDA see just these; call before CUDA is used.

    A preset CUDA_VISIBLE_DEVICES (numbers or UUIDs) says which may be taken. Under Slurm, which assigns GPUs
    itself, nothing is done.

    Args:
        count: GPUs to take.
        locks: folder of the lock files, the same for all jobs of the machine.

    Raises:
        UserError: the machine has fewer.
    """
    if "SLURM_JOB_ID" in os.environ:
        return
    devices = visible_gpus()
    if len(devices) < count:
        raise UserError(f"{count} GPUs asked for, but there are {len(devices)}; lower --resources gpu=, 0 is the CPU")
    folder = locks or Path(tempfile.gettempdir()) / f"splatdag-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    waiting = False
    while True:
        taken = [(device, lock) for device in devices if (lock := _lock(folder / device)) is not None]
        if len(taken) >= count:
            break
        for _, lock in taken:
            lock.close()
        if not waiting:
            logger.info("waiting for %d of %d GPUs to be free", count, len(devices))
            waiting = True
        time.sleep(0.5)
    for _, lock in taken[count:]:
        lock.close()
    _held.extend(lock for _, lock in taken[:count])
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(device for device, _ in taken[:count])


def visible_gpus() -> list[str]:
    """Numbers or UUIDs of the GPUs that this process may use, without a call of CUDA, which would fix the choice."""
    preset = os.environ.get("CUDA_VISIBLE_DEVICES")
    if preset is not None:
        return [device.strip() for device in preset.split(",") if device.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(index) for index, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU ")]


def _lock(path: Path) -> IO[str] | None:
    handle = path.open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle
