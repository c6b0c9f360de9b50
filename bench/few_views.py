"""Benchmark with few photos: regularisers and early stopping beside preset small, on a set held out in its middle.

python bench/few_views.py --data-dir /path/to/brighton_beach [--seeds 42 43 44]

Needs a COLMAP dataset (images/ and sparse/), such as OpenDroneMap's brighton_beach, 18 photos. Photo i is held out
where i % 8 == 4: the first and the last of a sweep show what no other does. Longest side 300 pixels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from statistics import mean, pstdev

from splatdag.formats.photoset import PhotoSet
from splatdag.workflow.manifest import processor_name

ROWS: dict[str, list[str]] = {
    "1,500 steps": [],
    "1,500 steps, opacity_reg 0.01": ["--opacity-reg", "0.01"],
    "1,500 steps, scale_reg 0.001": ["--scale-reg", "0.001"],
    "1,500 steps, both": ["--opacity-reg", "0.01", "--scale-reg", "0.001"],
    "1,500 steps, scale_reg 0.01": ["--scale-reg", "0.01"],
    "1,500 steps, validation_views 1": ["--validation-views", "1"],
    "4,500 steps": ["--max-steps", "4500"],
    "4,500 steps, both": ["--max-steps", "4500", "--opacity-reg", "0.01", "--scale-reg", "0.001"],
    "4,500 steps, validation_views 1": ["--max-steps", "4500", "--validation-views", "1"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="COLMAP dataset with images/ and sparse/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    arguments = parser.parse_args()
    print(f"{date.today()}, {processor_name()}, 2 threads, {len(arguments.seeds)} seeds: mean ± spread\n")
    print("| preset small and | PSNR | SSIM | step | training s |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        held_out = Path(folder) / "held_out.txt"
        names = PhotoSet(arguments.data_dir).names
        held_out.write_text("\n".join(name for index, name in enumerate(names) if index % 8 == 4))
        for row in arguments.rows:
            runs = [_run(arguments.data_dir, Path(folder), held_out, seed, ROWS[row]) for seed in arguments.seeds]
            psnr, ssim, step, seconds = zip(*runs, strict=True)
            print(
                f"| {row} | {mean(psnr):.2f} ± {pstdev(psnr):.2f} | {mean(ssim):.4f} ± {pstdev(ssim):.4f} |"
                f" {mean(step):.0f} | {mean(seconds):.0f} |",
                flush=True,
            )


def _run(data: Path, folder: Path, held_out: Path, seed: int, flags: list[str]) -> tuple[float, float, int, float]:
    run = folder / "run"
    command = [
        sys.executable, "-m", "splatdag.scene.train", "--data-dir", data, "--model", data / "sparse" / "0",
        "--result-dir", run, "--preset", "small", "--max-image-size", "300", "--split", held_out, "--seed", seed,
        "--disable-video", *flags,
    ]  # fmt: skip
    subprocess.run([str(word) for word in command], check=True, stderr=subprocess.DEVNULL)
    figures = json.loads((run / "metrics.json").read_text())
    manifest = json.loads((run / "manifest.json").read_text())
    return figures["mean"]["psnr"], figures["mean"]["ssim"], manifest["steps"], manifest["seconds"]["train"]


if __name__ == "__main__":
    main()
