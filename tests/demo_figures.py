"""Figures that the demo reaches, held to what it reached before; `.ci/run` calls this after `make demo`.

Limits are wide enough for the rounding of any processor, and narrow enough that a broken step of the chain shows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FIGURES: dict[str, dict[str, tuple[float, float]]] = {
    "captures/room/single": {  # 28.39 dB, 0.856; an image of the mean colour has 15.19 dB
        "mean.psnr": (27.2, 30.0),
        "mean.ssim": (0.82, 0.90),
        "baseline.psnr": (14.9, 15.5),
    },
    "driving/overfit": {  # 20.61 dB, 0.577, 0.236 m, 0.568 m
        "mean.psnr": (19.6, 22.0),
        "mean.ssim": (0.51, 0.65),
        "mean.depth_rmse": (5.0, 14.0),
        "mean.epe3d": (0.05, 0.34),
        "mean.epe_fd": (0.1, 0.85),
        "baseline.psnr": (16.1, 16.4),
    },
    "driving/flux4d": {  # 19.75 dB, 0.530, 0.397 m, 1.046 m
        "mean.psnr": (18.9, 21.5),
        "mean.ssim": (0.47, 0.60),
        "mean.depth_rmse": (7.0, 20.0),
        "mean.epe3d": (0.1, 0.46),
        "mean.epe_fd": (0.3, 1.16),
        "baseline.psnr": (16.1, 16.4),
    },
}
"""Run → dotted key of its metrics.json → least and largest value."""


def wrong(results: Path) -> list[str]:
    """Say which figures are missing or out of bounds, a line each."""
    lines = []
    for run, limits in FIGURES.items():
        path = results / run / "metrics.json"
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            lines.append(f"{path}: {error}")
            continue
        for key, (least, largest) in limits.items():
            value: Any = metrics
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if not isinstance(value, int | float) or not least <= value <= largest:
                lines.append(f"{path}: {key} is {value}, expected {least:g} to {largest:g}")
    return lines


if __name__ == "__main__":
    found = wrong(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
    print("\n".join(found) or "the demo's figures are as expected")
    sys.exit(bool(found))
