"""The bench of a large capture runs from end to end on a small one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_small_capture_is_made_trained_and_measured(repository: Path) -> None:
    sizes = ("--views", "6", "--width", "96", "--gaussians", "500", "--steps", "20")
    command = [sys.executable, str(repository / "bench" / "large_capture.py"), *sizes, "--image-cache", "disk"]
    command += ["--threads", "2", "--device-count", "0"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    choice, photos, gaussians, psnr, _, memory, *_, training, floor, ratio = (
        cell.strip() for cell in ended.stdout.splitlines()[-1].strip("|").split("|")
    )
    assert (choice, photos, gaussians) == ("disk", "5 photos, 0.1 MB, in a scratch file", "500")
    assert float(psnr) > 10
    resident, own = (float(number.replace(",", "")) for number in memory.split(", "))
    assert 100 < own < resident < 2_000
    assert float(ratio) == pytest.approx(float(training) / float(floor), rel=0.05, abs=0.01)
