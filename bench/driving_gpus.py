"""Flux4D on one GPU and on all of a machine: how long a step takes once the clips are in memory, and clips a second.

python bench/driving_gpus.py --folder FOLDER [--results FILE.json]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from pathlib import Path

import torch
from street_logs import indexed, lifted, made, run

from splatdag.samples.options import SEQUENCES
from splatdag.workflow.publish import write_json

LOGS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for logs, caches and runs; its logs are used again")
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--points", type=int, default=115_200, help="firings of a sweep")
    parser.add_argument("--iters", type=int, default=300, help="of each training; the last half is measured")
    parser.add_argument("--results", type=Path, help="write the figures here as JSON, too")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    root = made(arguments.folder / "logs", LOGS, 24, arguments.width, arguments.points)
    index = indexed(root, SEQUENCES[0])
    lifted(root, index, SEQUENCES[:LOGS])
    found = {}
    for count in sorted({1, max(1, torch.cuda.device_count())}):
        run_dir, log = arguments.folder / f"on_{count}", arguments.folder / f"on_{count}.log"
        shutil.rmtree(run_dir, ignore_errors=True)
        log.unlink(missing_ok=True)
        run(
            "driving.training.train", "--index-path", str(index), "--data-root", str(root),
            "--output-dir", str(run_dir),
            "--cache-dir", str(root / "lift"), "--device-count", str(count), f"--threads={os.cpu_count()}",
            f"--iters={arguments.iters}", "--cache-max-items=2000", "--save-every=0", f"--log={log}",
        )  # fmt: skip
        ms = step_ms(log)
        found[count] = {"step ms": ms, "clips a second": 1e3 * count / ms}
        print(count, found[count], flush=True)
    if arguments.results:
        write_json(arguments.results, found)
    print(json.dumps(found, indent=1))


def step_ms(log: Path) -> float:
    """Return the mean time of a step over the last half (ms), from the log's means over all steps so far."""
    told = [
        (int(step), int(step) * float(mean))
        for step, mean in re.findall(r"step (\d+) of \d+, .* (\d+) ms a step", log.read_text())
    ]
    half = next(entry for entry in told if entry[0] >= told[-1][0] / 2)
    if half is told[-1]:
        raise SystemExit(f"{log}: too short a training to be measured; raise --iters")
    return (told[-1][1] - half[1]) / (told[-1][0] - half[0])


if __name__ == "__main__":
    main()
