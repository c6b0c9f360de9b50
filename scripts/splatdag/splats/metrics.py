"""Image metrics of one view: PSNR and SSIM, with an optional mask of the pixels that count."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from splatdag.splats.cpu.photometric import C1, C2, SIGMA, WINDOW

MIN_COVERAGE = 0.5
"""Weight of a window that must lie on the mask for the window to count."""


def psnr(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB for values in [0,1]; images [H,W,3], mask [H,W] bool.

    Equals torchmetrics' PeakSignalNoiseRatio(data_range=1); masked, the mean squared error is over the mask.
    Infinite for equal images. Raises ValueError where shapes differ or the mask is empty.
    """
    _check(image, target, mask)
    squared = (image.double() - target.double()) ** 2
    error = squared.mean() if mask is None else squared[mask].mean()
    return float(-10 * torch.log10(error))


def ssim(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Mean structural similarity for values in [0,1]; images [H,W,3] of at least 6×6, mask [H,W] bool.

    Equals torchmetrics' StructuralSimilarityIndexMeasure(data_range=1): an 11×11 window, σ 1.5, around every
    pixel, reflected at the borders. Masked, a window's moments are those of its pixels on the mask, and
    windows less than half on it are left out, after Gao et al., Monocular Dynamic View Synthesis: A Reality
    Check (2022). Raises ValueError where shapes differ or no window counts.
    """
    _check(image, target, mask)
    half = WINDOW // 2
    if min(image.shape[:2]) <= half:
        raise ValueError(f"image of {image.shape[1]} x {image.shape[0]} pixels; SSIM needs {half + 1} x {half + 1}")
    x, y = (v.double().permute(2, 0, 1)[:, None] for v in (image, target))
    weight = torch.ones_like(x[:1]) if mask is None else mask.to(x.dtype)[None, None]
    coverage = _blur(weight)
    mx, my, xx, yy, xy = (_blur(v * weight) / coverage for v in (x, y, x * x, y * y, x * y))
    value = (2 * mx * my + C1) * (2 * (xy - mx * my) + C2)
    value = value / ((mx * mx + my * my + C1) * (xx - mx * mx + yy - my * my + C2))
    if mask is None:
        return float(value.mean())
    counts = (coverage >= MIN_COVERAGE).expand_as(value)
    if not counts.any():
        raise ValueError(f"no window of the image is at least {MIN_COVERAGE:.0%} on the mask")
    return float(value[counts].mean())


def is_measurable(mask: Tensor) -> bool:
    """Tell whether a mask [H,W] bool leaves enough for SSIM: one window that lies on it."""
    return bool((_blur(mask.double()[None, None]) >= MIN_COVERAGE).any())


def _blur(v: Tensor) -> Tensor:
    """Gaussian means [B,1,H,W] around every pixel, float64."""
    half = WINDOW // 2
    steps = torch.arange(WINDOW, dtype=v.dtype, device=v.device) - half
    taps = torch.exp(-0.5 * (steps / SIGMA) ** 2)
    taps = taps / taps.sum()
    padded = pad(v, (half, half, half, half), mode="reflect")
    return conv2d(conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))


def _check(image: Tensor, target: Tensor, mask: Tensor | None) -> None:
    if image.dim() != 3 or image.shape != target.shape:
        raise ValueError(f"image {tuple(image.shape)} and target {tuple(target.shape)}; expected both [H,W,3]")
    if mask is not None and (mask.shape != image.shape[:2] or mask.dtype != torch.bool):
        raise ValueError(f"mask {tuple(mask.shape)} {mask.dtype}; expected bool {tuple(image.shape[:2])}")
    if mask is not None and not mask.any():
        raise ValueError("the mask is empty")
