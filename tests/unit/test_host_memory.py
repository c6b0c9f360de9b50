"""How much memory is left: of the machine, its control groups, and Slurm's grant."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from splatdag.workflow.host_memory import _left_in_groups, memory_left

GB = 10**9


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_tightest_control_group_around_the_process_counts(tmp_path: Path) -> None:
    """A Slurm job of 32 GB on a large node, version 2: the step has no limit of its own, the job has."""
    job = tmp_path / "cgroup" / "system.slice" / "job_7"
    write(tmp_path / "own", "0::/system.slice/job_7/step_0\n")
    write(job / "step_0" / "memory.max", "max\n")
    write(job / "memory.max", f"{32 * GB}\n")
    write(job / "memory.current", f"{20 * GB}\n")
    write(job / "memory.stat", f"anon {8 * GB}\nfile {12 * GB}\ninactive_file {9 * GB}\nactive_file {3 * GB}\n")
    write(job.parent / "memory.max", f"{500 * GB}\n")
    write(job.parent / "memory.current", f"{100 * GB}\n")
    assert sorted(_left_in_groups(tmp_path, tmp_path / "own")) == [21 * GB, 400 * GB]


def test_control_groups_of_version_1_count_too(tmp_path: Path) -> None:
    """As in a container: the path is the host's, and only its root is mounted."""
    root = tmp_path / "cgroup" / "memory"
    write(tmp_path / "own", "9:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n")
    write(root / "memory.limit_in_bytes", f"{16 * GB}\n")
    write(root / "memory.usage_in_bytes", f"{6 * GB}\n")
    write(root / "memory.stat", f"inactive_file {GB}\ntotal_inactive_file {2 * GB}\n")
    assert list(_left_in_groups(tmp_path, tmp_path / "own")) == [12 * GB]
    write(root / "memory.limit_in_bytes", "9223372036854771712\n")
    assert list(_left_in_groups(tmp_path, tmp_path / "own")) == []


def test_what_slurm_grants_counts_where_it_does_not_use_control_groups(tmp_path: Path) -> None:
    own = psutil.Process().memory_info().rss
    for environment in (
        {"SLURM_MEM_PER_NODE": "2048"}, {"SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_ON_NODE": "4"},
    ):  # fmt: skip
        assert memory_left(tmp_path, environment) == pytest.approx(max(0, 2048 * 2**20 - own), abs=2**24)
    for environment in ({}, {"SLURM_MEM_PER_NODE": "0"}):
        assert memory_left(tmp_path, environment) == pytest.approx(psutil.virtual_memory().available, rel=0.2)
