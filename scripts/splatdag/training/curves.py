"""The curves of a training: loss and PSNR by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from splatdag.workflow.publish import complete, write_json


def write_curves(path: Path, curve: list[list[float]], evaluations: list[dict[str, Any]], title: str) -> None:
    """Write the curves of loss and PSNR over steps.

    Args:
        path: the file.
        curve: rows of step, loss and PSNR (dB) of the views trained on.
        evaluations: each with its `step` and the `mean` of its figures.
        title: of the picture.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    steps, losses, psnrs = np.array(curve).reshape(-1, 3).T
    window = max(1, len(steps) // 50)
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
    for axis, values in ((top, losses), (bottom, psnrs)):
        if len(values):
            axis.plot(steps, values, color="0.8", linewidth=0.8)
            axis.plot(steps, _smooth(values, window), label="training, smoothed")
        axis.grid(alpha=0.3)
    evaluated = [(e["step"], e["mean"]["psnr"]) for e in evaluations]
    if evaluated:
        bottom.plot(*zip(*evaluated, strict=True), "o", color="tab:red", label="held out")
        bottom.annotate(
            f"{evaluated[-1][1]:.2f} dB", evaluated[-1], xytext=(-8, -14), textcoords="offset points", ha="right"
        )
    top.set(ylabel="loss", title=title, yscale="log")
    bottom.set(xlabel="step", ylabel="PSNR (dB)")
    bottom.legend(loc="lower right")
    with complete(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


def write_extra_curves(path: Path, curve: list[list[float]], held_out: list[dict[str, Any]]) -> None:
    """Write the numbers of the curves: of what was trained on, and the means of what was held out, by step."""
    columns = zip(("step", "loss", "psnr"), np.array(curve).reshape(-1, 3).T.tolist(), strict=True)
    write_json(path, {"training": dict(columns), "held_out": held_out})


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")
