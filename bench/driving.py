"""Benchmark of driving logs: the index of all of PandaSet's metadata, and Flux4D on a clip of the bundled log."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from support.pandaset_logs import write_metadata  # noqa: E402

from splatdag.samples.options import SEQUENCES  # noqa: E402

GATES = {
    "one image learnt": ["--fixed-target-frame=1", "--iters=500", "--num-image-points=60000"],
    "the clip learnt": ["--iters=500", "--iterations=1"],
    "as shipped": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index-alone", action="store_true", help="leave the trainings out, some six minutes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sequence in SEQUENCES:
            write_metadata(folder / "pandaset", sequence)
        index = _indexed(folder / "pandaset", folder)
        print(f"index of {len(SEQUENCES)} logs of 80 frames: {index['seconds']:.1f} s, {index['clips']} clips")
        if not arguments.index_alone:
            _run("samples.street", "--out", str(folder / "street"))
            _indexed(folder / "street", folder)
            for what, flags in GATES.items():
                print(f"{what}: {_overfitted(folder, what, flags)}")


def _indexed(logs: Path, folder: Path) -> dict[str, Any]:
    files = ["--out-full", str(folder / "full.pkl"), "--out-tiny", str(folder / "tiny.pkl")]
    begin = time.perf_counter()
    _run("driving.clips.index", "--data-root", str(logs), *files, "--report", str(folder / "report.json"))
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, **json.loads((folder / "report.json").read_text())}


def _overfitted(folder: Path, name: str, flags: list[str]) -> str:
    """Train on one clip; returns a line of time, PSNR (images between input frames | after them | given) and EPE."""
    run = folder / name.replace(" ", "_")
    shared = ["--index-path", str(folder / "tiny.pkl"), "--data-root", str(folder / "street")]
    begin = time.perf_counter()
    _run("driving.training.overfit", *shared, "--output-dir", str(run), "--preset=small", *flags)
    seconds = time.perf_counter() - begin
    metrics = json.loads((run / "metrics.json").read_text())
    parts = {"model": metrics["nvs"]} | {
        key: value["nvs"] for key, value in metrics["baselines"].items() if "nvs" in value
    }
    told = [
        f"{key} " + " | ".join(_figure(nvs[kind]["full"]["psnr_mean"]) for kind in ("interpolation", "future", "input"))
        for key, nvs in parts.items()
    ]
    rows = json.loads((run / "clip_0" / "metrics.json").read_text())["rows"]["images"]
    image = next(row for row in rows if row["frame"] == 1)
    flow, zero = metrics["scene_flow"], metrics["baselines"]["zero_flow"]["scene_flow"]
    moves, still, unmoved = (part["epe_3way_mean"][of] for part, of in ((flow, "FD"), (flow, "BS"), (zero, "FD")))
    return (
        f"{seconds:.0f} s; PSNR {'; '.join(told)}; image 1 {_figure(image['psnr'])};"
        f" what moves {_figure(metrics['mean']['dynamic_psnr'])}; EPE of moving points {_figure(moves, 2)} m"
        f" (none {_figure(unmoved, 2)}), of background {_figure(still, 2)}"
    )


def _run(stage: str, *words: str) -> None:
    done = subprocess.run([sys.executable, "-m", f"splatdag.{stage}", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stderr}{stage} ended with {done.returncode}")


def _figure(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
    print(f"largest memory of a stage: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB")
