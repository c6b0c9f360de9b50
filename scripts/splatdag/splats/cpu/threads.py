"""Threads for the kernels: a range of work, shared by nogil kernels on a small thread pool.

numba's own parallel loops would triple the compile time, which every new installation pays.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numba


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Workers of this process; a forked child starts its own."""
    return ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="splatdag")


def share(kernel: Callable[..., None], count: int, grain: int, *args: Any) -> None:
    """Call kernel(begin, end, *args) on parts of range(count), in parallel on numba.get_num_threads()
    threads.

    No part is smaller than about `grain`. Kernels must write to separate places for separate indices.
    """
    threads = max(min(numba.get_num_threads(), count // grain), 1)
    bounds = [count * k // threads for k in range(threads + 1)]
    others = [_pool(os.getpid()).submit(kernel, begin, end, *args) for begin, end in pairwise(bounds[1:])]
    kernel(bounds[0], bounds[1], *args)
    for other in others:
        other.result()
