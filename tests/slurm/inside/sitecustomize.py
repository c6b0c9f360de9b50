"""Runs first in every Python process of a test: it notes what a stage got from Slurm, and puts it on the CPU.

The box's GPUs are stand-ins, so a stage can't use the one that it is given. Doing this here, from outside, leaves the
code and the command lines of jobs as they are for users, without a switch that only tests turn. Snakemake itself is
made to look for ended jobs often: the Slurm executor looks ever more rarely, ten seconds later each time, and has no
option for that.
"""

import json
import os
import sys
import time
from pathlib import Path


def _observe(stage: str, folder: Path) -> None:
    seen = {
        "stage": stage,
        "arguments": sys.argv[1:],
        "node": os.environ.get("SLURMD_NODENAME"),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "job": os.environ.get("SLURM_JOB_ID"),
    }
    (folder / f"{time.time_ns()}.json").write_text(json.dumps(seen))


def _compute_on_the_cpu() -> None:
    if "--device-count" in sys.argv:
        sys.argv[sys.argv.index("--device-count") + 1] = "0"


def _take_memory(folder: Path) -> None:
    """Once, take the megabytes that a test asks for: a file `take-<run folder with _ for />` holds the number."""
    for argument in sys.argv:
        order = folder / f"take-{argument.replace('/', '_')}"
        if order.is_file():
            megabytes = int(order.read_text())
            order.unlink()
            taken = bytearray(megabytes << 20)
            taken[::4096] = b"x" * len(taken[::4096])
            time.sleep(900)  # until Slurm has seen it


def _look_often(seconds: float) -> None:
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    RemoteExecutor.next_seconds_between_status_checks = property(lambda executor: seconds, lambda executor, value: None)


_words = sys.orig_argv
_module = _words[_words.index("-m") + 1] if "-m" in _words[:-1] else ""
if "WITNESS" in os.environ:
    _folder = Path(os.environ["WITNESS"])
    if _module.startswith("splatdag.") and "SLURM_JOB_ID" in os.environ:
        _observe(_module, _folder)
        _compute_on_the_cpu()
        _take_memory(_folder)
    if _module == "snakemake" and "SLURM_JOB_ID" not in os.environ:
        _look_often(1)
