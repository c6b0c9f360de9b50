"""Benchmark of one training on several GPUs: speed-up, quality and memory.

Needs a COLMAP dataset (images/ and sparse/0) of photos that are worth a GPU, and as many GPUs as are asked for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="COLMAP dataset with images/ and sparse/0")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("flags", nargs="*", help="more for the stage, after --, such as --data-factor 4")
    arguments = parser.parse_args()
    print("| views a step | GPUs | ms a step | speed-up | startup s | PSNR | SSIM | Gaussians | MB a GPU |")
    print("|---|---|---|---|---|---|---|---|---|")
    device = ""
    for views in arguments.batch_sizes:
        alone = None
        for gpus in arguments.gpus:
            with tempfile.TemporaryDirectory() as folder:
                manifest, mean = _train(arguments.data_dir, Path(folder) / "run", gpus, views, arguments.flags)
            seconds, device = manifest["seconds"], manifest["device"]
            step = 1e3 * seconds["train"] / manifest["steps"]
            alone = alone or step
            print(
                f"| {views} | {gpus} | {step:.1f} | {alone / step:.2f} | {seconds['startup']:.0f} |"
                f" {mean['psnr']:.2f} | {mean['ssim']:.4f} | {manifest['gaussians']:,} |"
                f" {manifest['peak_memory_mb']['cuda']:.0f} |",
                flush=True,
            )
    print(f"\n{date.today()}, {device}, preset fast {' '.join(arguments.flags)}")


def _train(data: Path, run: Path, gpus: int, views: int, flags: list[str]) -> tuple[dict, dict]:
    command = [
        sys.executable, "-m", "splatdag.scene.train", "--data-dir", data, "--model", data / "sparse" / "0",
        "--result-dir", run, "--device-count", gpus, "--batch-size", views, "--preset", "fast", "--disable-video",
        *flags,
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True)
    return json.loads((run / "manifest.json").read_text()), json.loads((run / "metrics.json").read_text())["mean"]


if __name__ == "__main__":
    main()
