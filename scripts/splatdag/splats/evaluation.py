"""How good a splat is on held-out views, and what that looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from splatdag.splats.gaussians import Parameters
from splatdag.splats.metrics import psnr, ssim
from splatdag.splats.options import SplatOptions
from splatdag.splats.trainer import Trained, draw
from splatdag.splats.views import Normalisation, View, camera_tensors
from splatdag.workflow.publish import complete

_PREVIEW_VIEWS = 6
_PREVIEW_WIDTH = 480
_GAP = 6


@torch.no_grad()
def predict(
    parameters: Parameters, view: View, frame: Normalisation, options: SplatOptions, device: torch.device
) -> Tensor:
    """Render a view: image [H, W, 3] in [0, 1]."""
    height, width = view.image_HW3.shape[:2]
    camera = camera_tensors(view, frame, device)
    return draw(parameters, camera, width, height, options, options.sh_degree)[0][0].clamp(0, 1)


def evaluate(
    parameters: Parameters,
    views: list[View],
    frame: Normalisation,
    options: SplatOptions,
    mean_color: Tensor,
    device: torch.device,
) -> dict[str, Any]:
    """PSNR (dB) and SSIM of every view and their means, and the same for an image of one colour.

    Args:
        parameters: Gaussians in the frame of training.
        views: held-out views.
        frame: from the world to the frame of training.
        options: of the training.
        mean_color: [3] mean colour of the training views, the trivial baseline.
        device: where to render.
    """
    rows, baseline = [], []
    for view in views:
        target = view.image_HW3.to(device).float() / 255
        rows.append({"name": view.name, **_scores(predict(parameters, view, frame, options, device), target)})
        baseline.append(_scores(mean_color.to(device).expand_as(target).contiguous(), target))
    return {"mean": _means(rows), "baseline": _means(baseline), "views": rows}


def _scores(image: Tensor, target: Tensor) -> dict[str, float]:
    """PSNR (100 dB stands for an image that is equal, since JSON has no infinity) and SSIM."""
    return {"psnr": round(min(float(psnr(image, target)), 100.0), 4), "ssim": round(float(ssim(image, target)), 5)}


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in ("psnr", "ssim")}


def mean_color(views: list[View]) -> Tensor:
    """Mean colour [3] of views, in [0, 1]."""
    return torch.stack([view.image_HW3.float().mean(dim=(0, 1)) for view in views]).mean(dim=0) / 255


def write_preview(
    path: Path,
    parameters: Parameters,
    views: list[View],
    frame: Normalisation,
    options: SplatOptions,
    device: torch.device,
) -> None:
    """Write prediction | ground truth, one row per view, of up to six views spread over all."""
    chosen = [views[i] for i in np.unique(np.linspace(0, len(views) - 1, _PREVIEW_VIEWS).round().astype(int))]
    rows = []
    for view in chosen:
        predicted = (predict(parameters, view, frame, options, device).cpu().numpy() * 255).round().astype(np.uint8)
        pair = [
            _labelled(predicted, "prediction"),
            _labelled(view.image_HW3.numpy(), f"ground truth: {view.name}"),
        ]
        rows.append(np.concatenate([pair[0], np.full((len(pair[0]), _GAP, 3), 255, np.uint8), pair[1]], axis=1))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    with complete(path) as temporary:
        cv2.imwrite(str(temporary), np.concatenate(padded)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


def _labelled(image: np.ndarray, text: str) -> np.ndarray:
    scale = _PREVIEW_WIDTH / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text((6, 4), text, fill="white", stroke_width=2, stroke_fill="black")
    return np.asarray(picture)


def write_curves(path: Path, result: Trained, title: str) -> None:
    """Write the curves of loss and PSNR over steps."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    steps, losses, psnrs = np.array(result.curve).T
    window = max(1, len(steps) // 50)
    figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
    for axis, values in ((top, losses), (bottom, psnrs)):
        axis.plot(steps, values, color="0.8", linewidth=0.8)
        axis.plot(steps, _smooth(values, window), label="training, smoothed")
        axis.grid(alpha=0.3)
    evaluated = [(e["step"], e["mean"]["psnr"]) for e in result.evaluations]
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


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")
