"""Benchmark of uploads: 500 MB of recordings to a Hub on this machine beside a copy of the files, and a second time."""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from support.local_hub import LocalHub  # noqa: E402

MB = 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--files", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = folder / "run" / "rerun"
        recordings.mkdir(parents=True)
        for epoch in range(arguments.files):
            data = b"RRF2\x00\x29\x00\x00" + os.urandom(arguments.megabytes * MB // arguments.files - 8)
            (recordings / f"evaluation_nvs_epoch_{epoch:04}.rrd").write_bytes(data)
        copy = _copied(recordings, folder / "copy")
        with LocalHub(folder / "hub", multipart_from=64 * MB, part_size=32 * MB, page_size=1_000) as hub:
            first, sent = _uploaded(hub, folder)
            second, sent_again = _uploaded(hub, folder)
            there = hub.contents("bench/recordings")
        for path in recordings.iterdir():
            assert there[f"experiments/bench/run/rerun_files/{path.name}"] == path.read_bytes()
    print(f"{arguments.megabytes} MB in {arguments.files} files, seconds; uploads with start-up of the process\n")
    print("| what | s | CPU s | ratio to the copy | sent MB |")
    print("|---|---|---|---|---|")
    for what, (seconds, cpu), size in (
        ("copy of the files, flushed", copy, arguments.megabytes),
        ("upload", first, sent / MB),
        ("the same upload again", second, sent_again / MB),
    ):
        print(f"| {what} | {seconds:.1f} | {cpu:.1f} | {seconds / copy[0]:.1f} | {size:.1f} |")


def _copied(recordings: Path, target: Path) -> tuple[float, float]:
    """Seconds, and those of the CPU."""
    begin, cpu = time.monotonic(), time.process_time()
    shutil.copytree(recordings, target)
    for path in target.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    seconds = time.monotonic() - begin, time.process_time() - cpu
    shutil.rmtree(target)
    return seconds


def _uploaded(hub: LocalHub, folder: Path) -> tuple[tuple[float, float], int]:
    """Seconds, those of the uploader's CPU, and bytes sent."""
    before = hub.sent()
    command = [sys.executable, "-m", "splatdag.hub.upload", "--repo-id", "bench/recordings", "--exp", "bench"]
    command += ["--scene", "run", "--run-dir", str(folder / "run"), "--hub-dir", str(folder / "unused")]
    command += ["--receipt", str(folder / "sharing" / "receipt.json"), "--log", str(folder / "upload.log")]
    begin, cpu = time.monotonic(), _children_cpu()
    subprocess.run(command, env=os.environ | hub.environment(), check=True, stderr=subprocess.DEVNULL)
    return (time.monotonic() - begin, _children_cpu() - cpu), hub.sent() - before


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
