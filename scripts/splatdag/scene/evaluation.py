"""How good a splat is on held-out views, and what that looks like."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splatdag.scene.preview import spread, write_pairs
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.views import View, camera_tensors
from splatdag.splats.metrics import is_measurable, psnr, ssim
from splatdag.splats.normalisation import Normalisation
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete

_CPU = torch.device("cpu")
_LEAST_SIDE = 11
"""Pixels; the window of SSIM."""
_WRITERS = 4
"""Pictures that are compressed at a time, beside the rendering of the next."""
_DIMMED = 0.3
"""Brightness of what is masked in pictures."""


def least_side(views: list[View]) -> int:
    """Pixels of the shortest side of all photos."""
    return min(min(view.image_HW3.shape[:2]) for view in views)


def check_sizes(views: list[View]) -> None:
    """Stop at photos that are smaller than the window of SSIM.

    Raises:
        UserError: the smallest one, and its size.
    """
    height, width, name = min(((*view.image_HW3.shape[:2], view.name) for view in views), key=lambda of: min(of[:2]))
    if min(width, height) < _LEAST_SIDE:
        raise UserError(
            f"{name}: only {width}×{height} pixels as it is used, at least {_LEAST_SIDE} each way are needed; leave out"
            " such photos, lower data_factor or raise max_image_size"
        )


def check_measurable(views: list[View]) -> None:
    """Stop before a training whose evaluation could not be made.

    Raises:
        UserError: the mask of a held-out view leaves too little to measure.
    """
    for view in views:
        if view.mask_HW is not None and not is_measurable(view.mask_HW):
            raise UserError(
                f"{view.name}: after scaling, its mask leaves {int(view.mask_HW.sum())} pixels, too few to measure SSIM"
                " on (half a window of 11 × 11); enlarge the white part, or leave the photo out"
            )


@torch.no_grad()
def predict(model: SplatModel, view: View, frame: Normalisation) -> Tensor:
    """Render a view: image [H, W, 3] in [0, 1], on the model's device."""
    height, width = view.image_HW3.shape[:2]
    camera = camera_tensors(view, frame, model.parameters["means"].device)
    return model.draw(*camera, width, height)[0][0].clamp(0, 1)


@dataclass
class Evaluation:
    """How good a model is on held-out views."""

    figures: dict[str, Any]
    """`mean` and `baseline` (an image of one colour) with psnr (dB), ssim and, where measured, lpips; `views` with the
    same for each view."""
    seconds_per_image: float
    """Wall time of rendering one view."""


def evaluate(
    model: SplatModel,
    views: list[View],
    frame: Normalisation,
    mean_color: Tensor,
    *,
    measure_lpips: Callable[[Tensor, Tensor, Tensor | None], float] | None = None,
    render: Callable[[int], Path] | None = None,
) -> Evaluation:
    """Measure every view and the means, where masks exist on what they leave; and the same for an image of one colour.

    Args:
        model: Gaussians in the frame of training.
        views: held-out views.
        frame: from the world to the frame of training.
        mean_color: [3] mean colour of the training views, the trivial baseline.
        measure_lpips: function of image, target and mask; None leaves LPIPS out.
        render: where the picture of a view goes, ground truth | prediction; None writes none.
    """
    rows, baseline, seconds = [], [], 0.0
    with ThreadPoolExecutor(_WRITERS) as writers:
        written = []
        for index, view in enumerate(views):
            begin = time.perf_counter()
            image = predict(model, view, frame)
            if image.is_cuda:
                torch.cuda.synchronize(image.device)
            seconds += time.perf_counter() - begin
            there = view.to(image.device)
            target, mask = there.target(model.options.white_bg), there.mask_HW
            flat = mean_color.to(image.device).expand_as(target).contiguous()
            rows.append({"name": view.name, **_scores(image, target, mask, measure_lpips)})
            baseline.append(_scores(flat, target, mask, measure_lpips))
            if render is not None:
                pair = (torch.cat([target, image], dim=1) * 255).round().to(torch.uint8).cpu()
                written.append(writers.submit(write_picture, render(index), pair.numpy()))
                if len(written) > 2 * _WRITERS:  # pictures are compressed more slowly than drawn, and are large
                    written.pop(0).result()
        for writing in written:
            writing.result()
    figures = {"mean": _means(rows), "baseline": _means(baseline), "views": rows}
    return Evaluation(figures, seconds / max(len(views), 1))


def _scores(
    image: Tensor,
    target: Tensor,
    mask: Tensor | None,
    measure_lpips: Callable[[Tensor, Tensor, Tensor | None], float] | None,
) -> dict[str, float]:
    """PSNR (100 dB stands for an image that is equal, since JSON has no infinity), SSIM, and LPIPS where it can be."""
    scores = {
        "psnr": round(min(float(psnr(image, target, mask)), 100.0), 4),
        "ssim": round(float(ssim(image, target, mask)), 5),
    }
    if measure_lpips is not None:
        scores["lpips"] = round(measure_lpips(image, target, mask), 5)
    return scores


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "name"}


def mean_color(views: list[View], white: bool = False, device: torch.device = _CPU) -> Tensor:
    """Mean colour [3] of what counts in views, in [0, 1], worked out on a device.

    Raises:
        UserError: nothing counts.
    """
    means = []
    for view in (view.to(device) for view in views):
        target = view.target(white)
        counted = target.flatten(0, 1) if view.mask_HW is None else target[view.mask_HW]
        if len(counted):
            means.append(counted.mean(dim=0))
    if not means:
        raise UserError("after scaling, the masks leave nothing of any photo; white is what counts")
    return torch.stack(means).mean(dim=0)


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write an image [H, W, 3] uint8 as PNG."""
    with complete(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png")


def write_preview(path: Path, model: SplatModel, views: list[View], frame: Normalisation) -> None:
    """Write prediction | ground truth, one row per view, of some views spread over all; masked parts are dark."""
    rows = []
    for view in (view.to(_CPU) for view in spread(views)):
        truth = view.target(model.options.white_bg)
        if view.mask_HW is not None:
            truth = torch.where(view.mask_HW[..., None], truth, truth * _DIMMED)
        pictures = [
            (tensor.cpu().numpy() * 255).round().astype(np.uint8) for tensor in (predict(model, view, frame), truth)
        ]
        rows.append((pictures[0], pictures[1], view.name))
    write_pairs(path, rows)


@torch.no_grad()
def write_flythrough(
    path: Path, model: SplatModel, views: list[View], frame: Normalisation, points_P3: np.ndarray
) -> None:
    """Write a video along a path past the views (`render_traj_path`), as large as the first of them.

    Args:
        path: the file; not written where there are fewer than two views.
        model: Gaussians in the frame of training.
        views: all views of the scene, in name order.
        frame: from the world to the frame of training.
        points_P3: points of the scene in the world.
    """
    from splatdag.formats.video import write_video
    from splatdag.scene.flythrough import FPS, camera_path  # half a second of imports that most stages don't need

    poses = camera_path([view.world_to_camera for view in views], model.options.render_traj_path, points_P3)
    if len(poses):
        write_video(path, _film(model, views[0], frame, poses), FPS)


def _film(model: SplatModel, like: View, frame: Normalisation, poses: np.ndarray) -> Iterator[np.ndarray]:
    for index, pose in enumerate(poses):
        if index == 0 or not np.array_equal(pose, poses[index - 1]):
            image = predict(model, replace(like, world_to_camera=pose), frame)
            picture = (image * 255).round().to(torch.uint8).cpu().numpy()
        yield picture
