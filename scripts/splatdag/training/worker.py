"""Process of a rank other than 0: takes every step with it, and writes no file."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import traceback
from typing import IO

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    """Have the kernel end this process when the first rank ends, however it ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def _run(memory: int, rank: int, channel: IO[str]) -> None:
    import numba
    import torch

    from splatdag.training.ranks import Ranks
    from splatdag.training.spawn import Task, init_process_group

    task = torch.load(f"/proc/self/fd/{memory}", mmap=True, weights_only=False)
    assert isinstance(task, Task)
    os.close(memory)
    torch.set_num_threads(1)
    numba.set_num_threads(task.threads)
    if task.device == "cuda":
        torch.cuda.set_device(rank)
        task.prepare()
    _say(channel, ready="")
    device = torch.device("cuda", rank) if task.device == "cuda" else torch.device("cpu")
    init_process_group(task, rank)
    task.main(task.work, device, Ranks(rank, task.count, barrier=_wait_for_first))


def _wait_for_first() -> None:
    if not sys.stdin.buffer.read(1):  # the first rank has ended
        os._exit(1)


def _say(channel: IO[str], **what: str) -> None:
    print(json.dumps(what), file=channel, flush=True)


def main() -> None:
    """Take part in the training whose task lies in the file descriptor named first; the first rank reads stdout."""
    memory, parent, rank = map(int, sys.argv[1:])
    _die_with(parent)
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not for the first rank
    logging.disable()  # the first rank says it
    code = 0
    try:
        _run(memory, rank, channel)
    except BaseException as error:
        code = 1
        text = " ".join(str(error).split())
        _say(channel, kind=type(error).__name__, message=text, traceback=traceback.format_exc())
    os._exit(code)  # no tidying up: it could wait for ranks that are gone


if __name__ == "__main__":
    main()
