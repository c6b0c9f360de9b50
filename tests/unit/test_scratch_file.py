"""Photos in a file: on a full disk, after a kill, and what they take of memory."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from support.scenes import gaussian_scene, write_gaussian_scene

from splatdag.scene import image_cache
from splatdag.scene.image_cache import ImageCache, bytes_of
from splatdag.workflow.errors import UserError

CPU = torch.device("cpu")
GB = 10**9

HOLD = """
import sys, torch
from splatdag.scene.image_cache import ImageCache
cache = ImageCache(50_000_000, "disk", torch.device("cpu"))
print("there", flush=True)
sys.stdin.read()
"""


def test_the_file_is_gone_however_the_process_ends(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert any(str(tmp_path) in line and line.endswith("(deleted)") for line in maps.splitlines())
    assert list(tmp_path.iterdir()) == []
    process.kill()
    process.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_one_line_before_any_photo_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest file that the process may write stands in for the disk; the kernel refuses either at once."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(
            UserError, match=r"no room for a file of 0\.1 GB with the photos \(.*\); set TMPDIR"
        ) as caught:
            ImageCache(GB // 10, "disk", CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not shutil.which("unshare"), reason="no unshare")
def test_a_full_disk_is_one_line_of_the_stage(tmp_path: Path) -> None:
    data, small = write_gaussian_scene(tmp_path / "data"), tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=16k none {small}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    command = (
        f"{mount} && TMPDIR={small} exec {sys.executable} -m splatdag.scene.train --data-dir {data}"
        f" --model {data}/sparse/0 --result-dir {tmp_path}/run --preset small --image-cache disk"
    )
    ended = subprocess.run(["unshare", "-rm", "sh", "-c", command], capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert "no room for a file of 0.1 MB with the photos (No space left on device); set TMPDIR" in ended.stderr
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_scratch_folder_in_memory_is_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [part.mountpoint for part in psutil.disk_partitions(all=True) if part.fstype == "tmpfs"]
    folders = [folder for folder in folders if os.access(folder, os.W_OK)]
    if not folders:
        pytest.skip("no folder in memory")
    monkeypatch.setattr(tempfile, "tempdir", folders[0])
    monkeypatch.setattr(image_cache, "memory_left", lambda: 1000)
    with pytest.raises(UserError, match="is kept in memory as well; set TMPDIR to a folder on a disk"):
        ImageCache(5000, "auto", CPU)


def test_what_lies_in_a_file_is_no_memory_of_the_process() -> None:
    photo = torch.zeros((2000, 2000, 3), dtype=torch.uint8)
    view = replace(gaussian_scene()[1][0], image_HW3=photo)
    count = 12
    cache = ImageCache(count * bytes_of(2000 * 2000, False, False), "disk", CPU)
    before = psutil.Process().memory_info().rss
    views = [cache.keep(view) for _ in range(count)]
    for each in views:
        each.to(CPU)
    assert psutil.Process().memory_info().rss - before < 4 * photo.numel()
