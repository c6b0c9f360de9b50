"""Benchmark of the captures area on a real photo set: quality, time and memory of the training on the CPU.

Needs a COLMAP dataset (images/ and sparse/), such as instant-ngp's fox at 540×960, which is not ours to bundle.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from splatdag.workflow.manifest import processor_name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="COLMAP dataset with images/ and sparse/")
    parser.add_argument("--data-factor", type=int, default=4)
    parser.add_argument("--steps", type=int, nargs="+", default=[1500, 6000])
    parser.add_argument("--photos-alone", action="store_true", help="also with poses by our own SfM")
    arguments = parser.parse_args()
    print(f"{date.today()}, {processor_name()}, 2 threads, preset small, data_factor {arguments.data_factor}\n")
    print("| poses | steps | PSNR | SSIM | Gaussians | pose s | train s | total s | resident MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        sources = {"given": arguments.data_dir}
        if arguments.photos_alone:
            sources["our SfM"] = arguments.data_dir / "images"
        for name, source in sources.items():
            capture = Path(folder) / name.replace(" ", "_")
            registration = _pose(source, capture)
            for steps in arguments.steps if name == "given" else arguments.steps[:1]:
                run = capture / str(steps)
                _stage(
                    "scene.train", "--data-dir", source, "--model", capture / "sparse" / "0", "--result-dir", run,
                    "--preset", "small", "--max-steps", steps, "--eval-steps", steps,
                    "--data-factor", arguments.data_factor,
                )  # fmt: skip
                manifest = json.loads((run / "manifest.json").read_text())
                mean = json.loads((run / "metrics.json").read_text())["mean"]
                seconds = manifest["seconds"]
                print(
                    f"| {name} ({registration['registered']} of {registration['photos']}) | {steps} |"
                    f" {mean['psnr']:.2f} | {mean['ssim']:.4f} | {manifest['gaussians']:,} |"
                    f" {registration['seconds']:.0f} | {seconds['train']:.0f} | {seconds['total']:.0f} |"
                    f" {manifest['peak_memory_mb']['host']:.0f} |",
                    flush=True,
                )


def _pose(source: Path, capture: Path) -> dict:
    report = capture / "registration.json"
    _stage("captures.pose", "--data-dir", source, "--report", report)
    return json.loads(report.read_text())


def _stage(name: str, *arguments: object) -> None:
    command = [sys.executable, "-m", f"splatdag.{name}", *map(str, arguments)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
