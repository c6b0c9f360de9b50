"""Memory that this process may still take, within the limits of the machine, its control groups and its Slurm job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

_UNLIMITED = 1 << 60
"""Limit (bytes) from which on there is none: version 1 of control groups writes nearly 2⁶³ then."""
_FILES = {
    "cgroup": ("memory.max", "memory.current", "inactive_file"),
    "cgroup/memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Limit, usage and the key of reclaimable file cache in `memory.stat`, by version of control groups."""


def memory_left(sys_fs: Path = Path("/sys/fs"), environment: Mapping[str, str] = os.environ) -> int:
    """Return the bytes of host memory that can still be taken without swapping or being killed.

    Args:
        sys_fs: folder in which control groups are mounted, as `cgroup/`.
        environment: variables with the memory that Slurm grants, which it may enforce without control groups.
    """
    left = [psutil.virtual_memory().available, *_left_in_groups(sys_fs, Path("/proc/self/cgroup"))]
    granted = _granted_by_slurm(environment)
    if granted:
        left.append(granted - psutil.Process().memory_info().rss)
    return max(0, min(left))


def _left_in_groups(sys_fs: Path, own: Path) -> Iterator[int]:
    """Yield the bytes left in the process's control group and those around it; inactive file cache counts as left.

    In a container the path in `own` may be that of the host, of which only the end, or nothing, is mounted.
    """
    lines = own.read_text().splitlines() if own.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        folder = "cgroup/memory" if controllers else "cgroup"
        limit_file, usage_file, cache_key = _FILES[folder]
        group = Path(path.lstrip("/"))
        for place in (sys_fs / folder / group, *(sys_fs / folder / parent for parent in group.parents)):
            limit = _number(place / limit_file)
            if limit is not None and limit < _UNLIMITED:
                yield limit - (_number(place / usage_file) or 0) + _statistic(place / "memory.stat", cache_key)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" is no limit


def _statistic(path: Path, key: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), 0)


def _granted_by_slurm(environment: Mapping[str, str]) -> int:
    """Return the bytes that Slurm grants the job on this node; 0 where it does not say, or grants all."""

    def number(name: str) -> int:
        value = environment.get(name, "")
        return int(value) if value.isdigit() else 0

    per_node = number("SLURM_MEM_PER_NODE") or number("SLURM_MEM_PER_CPU") * number("SLURM_CPUS_ON_NODE")
    return per_node * 2**20


def size_text(size: int) -> str:
    """Return a number of bytes as text for people: 3.1 GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 5e7 else f"{size / 1e6:.1f} MB"
