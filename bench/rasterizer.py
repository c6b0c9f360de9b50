"""Times the CPU rasteriser, forward and backward, as a ratio to the rough sketch running beside it.

python bench/rasterizer.py [--sketch /path/to/cpu_rasterizer.py] [--repeats 30] [--largest 200000]

Prints Markdown tables. Every pair of figures is measured alternately in one run, so that other load hits
both.
"""

import argparse
import importlib
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType

import numba
import torch
from torch import Tensor

from splatdag.splats.render import render

SIZES = (64, 128, 256, 512, 1024)
COUNTS = (1_000, 10_000, 50_000, 200_000)


def scene(count: int, width: int, height: int) -> dict[str, Tensor]:
    """Gaussians that fill the view of one camera, sized so that each pixel meets a few tens of them."""
    torch.manual_seed(0)
    depth = 2 + 2 * torch.rand(count)
    focal = 1.2 * max(width, height)
    x = (torch.rand(count) - 0.5) * width / focal * depth * 1.1
    y = (torch.rand(count) - 0.5) * height / focal * depth * 1.1
    size = 0.5 * math.sqrt(width * height / count) / focal
    return {
        "means": torch.stack((x, y, depth), -1),
        "quats": torch.randn(count, 4),
        "scales": size * depth[:, None] * torch.exp(0.5 * torch.randn(count, 3)),
        "opacities": torch.sigmoid(1.5 * torch.randn(count)),
        "colors": 0.3 * torch.randn(count, 16, 3),
        "viewmats": torch.eye(4)[None],
        "Ks": torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]]),
    }


def ours(inputs: dict[str, Tensor], width: int, height: int, **options: object) -> Callable[[], None]:
    leaves = {k: v.clone().requires_grad_(k != "Ks") for k, v in inputs.items()}
    upstream: list[Tensor] = []

    def step() -> None:
        for leaf in leaves.values():
            leaf.grad = None
        image, _, info = render(**leaves, width=width, height=height, **options)
        if options.get("absgrad"):
            info["means2d"].retain_grad()
        if not upstream:
            upstream.append(torch.randn_like(image))
        image.backward(upstream[0])

    return step


def sketched(sketch: ModuleType, inputs: dict[str, Tensor], width: int, height: int) -> Callable[[], None]:
    raw = {
        "means": inputs["means"],
        "quats": inputs["quats"],
        "scales": inputs["scales"].log(),
        "opac": torch.logit(inputs["opacities"]),
        "sh0": inputs["colors"][:, 0],
        "shN": inputs["colors"][:, 1:4],
    }
    leaves = {k: v.clone().requires_grad_() for k, v in raw.items()}
    viewmat, K = inputs["viewmats"][0], inputs["Ks"][0]
    upstream = torch.randn(height, width, 3)

    def step() -> None:
        for leaf in leaves.values():
            leaf.grad = None
        means2d, conics, colors, opacities, radii, depths, _ = sketch.project(leaves, viewmat, K, height, width, 0)
        sketch.Rast2.apply(means2d, conics, colors, opacities, radii, depths, height, width, None).backward(upstream)

    return step


def milliseconds(steps: list[Callable[[], None]], repeats: int) -> list[float]:
    times: list[list[float]] = [[] for _ in steps]
    for repeat in range(repeats + 1):
        for k, step in enumerate(steps):
            start = time.perf_counter()
            step()
            if repeat:
                times[k].append(1e3 * (time.perf_counter() - start))
    return [median(t) for t in times]


def load_sketch(path: Path | None) -> ModuleType | None:
    if path is None or not path.is_file():
        print("No sketch given or found (--sketch): its row is left out.\n")
        return None
    sys.path.insert(0, str(path.parent))
    return importlib.import_module(path.stem)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sketch", type=Path)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--largest", type=int, default=COUNTS[-1], help="most Gaussians in the scaling table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"numba threads: {numba.get_num_threads()}; torch threads: 1\n")

    count, width, height = 6_000, 135, 240
    inputs = scene(count, width, height)
    rows = {
        "RGB, SH 0": ours(inputs, width, height, sh_degree=0),
        "RGB, SH 3": ours(inputs, width, height, sh_degree=3),
        "RGB+ED, SH 0": ours(inputs, width, height, sh_degree=0, render_mode="RGB+ED"),
        "RGB, SH 0, antialiased": ours(inputs, width, height, sh_degree=0, antialiased=True),
        "RGB, SH 0, absgrad": ours(inputs, width, height, sh_degree=0, absgrad=True),
    }
    sketch = load_sketch(options.sketch)
    if sketch is not None:
        rows["sketch (RGB, SH 0)"] = sketched(sketch, inputs, width, height)
    results = milliseconds(list(rows.values()), options.repeats)
    print(f"{count} Gaussians, {width} x {height}, forward and backward, median of {options.repeats}\n")
    print("| mode | ms | ratio to sketch |\n|---|---|---|")
    for name, ms in zip(rows, results, strict=True):
        print(f"| {name} | {ms:.2f} | {f'{ms / results[-1]:.2f}' if sketch else '-'} |")

    print("\nRGB, SH 0, forward and backward, ms\n")
    print("| Gaussians | " + " | ".join(f"{s} x {s}" for s in SIZES) + " |\n|---" + "|---" * len(SIZES) + "|")
    for count in (c for c in COUNTS if c <= options.largest):
        cells = []
        for size in SIZES:
            step = ours(scene(count, size, size), size, size, sh_degree=0)
            cells.append(f"{milliseconds([step], 3)[0]:.1f}")
        print(f"| {count:,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
