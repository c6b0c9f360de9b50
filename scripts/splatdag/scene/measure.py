"""Figures of predictions beside photos, wherever the predictions come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splatdag.splats.lpips import NoLpips
from splatdag.splats.metrics import is_measurable, psnr, ssim
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete

_LEAST_SIDE = 11
"""Least side of a photo (pixels): the window of SSIM."""
_WRITERS = 4
"""Pictures that are compressed at a time, beside the making of the next."""

Distance = Callable[[Tensor, Tensor, Tensor | None], float | None]
"""Function that measures LPIPS of image, target and mask; None where it can't."""


@dataclass(frozen=True)
class Pair:
    """A prediction and the photo that it should equal, [H, W, 3] in [0, 1] on one device."""

    name: str
    """Name of the photo."""
    prediction: Tensor
    truth: Tensor
    mask: Tensor | None = None
    """[H, W] bool mask of the pixels that count; None is all."""


def measure(pairs: Iterable[Pair], mean_color: Tensor, lpips: Distance | None = None) -> dict[str, Any]:
    """Measure every pair, inside its mask where it has one, and an image of one colour in place of the prediction.

    Args:
        pairs: at least one.
        mean_color: [3] in [0, 1], the trivial baseline.
        lpips: None leaves LPIPS out.

    Returns:
        `mean` and `baseline` with psnr (dB), ssim and lpips, if that is given; `views` with the same for each pair.
        Where LPIPS can't be measured, it is None, and `lpips_left_out` says why.
    """
    rows, baseline = [], []
    for pair in pairs:
        flat = mean_color.to(pair.truth.device).expand_as(pair.truth).contiguous()
        rows.append({"name": pair.name, **_scores(pair.prediction, pair.truth, pair.mask, lpips)})
        baseline.append(_scores(flat, pair.truth, pair.mask, lpips))
    why = {"lpips_left_out": lpips.reason} if isinstance(lpips, NoLpips) else {}
    return {"mean": _means(rows), "baseline": _means(baseline), **why, "views": rows}


def _scores(image: Tensor, target: Tensor, mask: Tensor | None, lpips: Distance | None) -> dict[str, Any]:
    """Measure PSNR (100 dB where images are equal, since JSON has no infinity), SSIM, and LPIPS where it can be."""
    scores: dict[str, float | None] = {
        "psnr": round(min(float(psnr(image, target, mask)), 100.0), 4),
        "ssim": round(float(ssim(image, target, mask)), 5),
    }
    if lpips is not None:
        distance = lpips(image, target, mask)
        scores["lpips"] = None if distance is None else round(distance, 5)
    return scores


def _means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    columns = {key: [row[key] for row in rows] for key in rows[0] if key != "name"}
    return {key: None if None in values else float(np.mean(values)) for key, values in columns.items()}


def check_size(name: str, width: int, height: int) -> None:
    """Stop at a photo that is smaller than the window of SSIM.

    Raises:
        UserError: its size.
    """
    if min(width, height) < _LEAST_SIDE:
        raise UserError(
            f"{name}: only {width}×{height} pixels as it is used, at least {_LEAST_SIDE} each way are needed; leave out"
            " such photos, lower data_factor or raise max_image_size"
        )


def check_mask(name: str, mask_HW: Tensor | None) -> None:
    """Stop at a mask that leaves too little to measure.

    Raises:
        UserError: how much it leaves.
    """
    if mask_HW is not None and not is_measurable(mask_HW):
        raise UserError(
            f"{name}: after scaling, its mask leaves {int(mask_HW.sum())} pixels, too few to measure SSIM"
            " on (half a window of 11 × 11); enlarge the white part, or leave the photo out"
        )


def with_pictures(pairs: Iterable[Pair], path_of: Callable[[int], Path]) -> Iterator[Pair]:
    """Give pairs on, and write each as a PNG, ground truth | prediction, to `path_of` its number."""
    with ThreadPoolExecutor(_WRITERS) as writers:
        written = []
        for index, pair in enumerate(pairs):
            both = (torch.cat([pair.truth, pair.prediction], dim=1) * 255).round().to(torch.uint8).cpu()
            written.append(writers.submit(_write_picture, path_of(index), both.numpy()))
            if len(written) > 2 * _WRITERS:  # pictures are compressed more slowly than drawn, and are large
                written.pop(0).result()
            yield pair
        for writing in written:
            writing.result()


def _write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write an image [H, W, 3] uint8 as PNG."""
    with complete(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png")
