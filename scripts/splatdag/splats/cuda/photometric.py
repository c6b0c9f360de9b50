"""L1 and structural similarity on CUDA in Triton: value and gradient in four passes over the image."""

# mypy: ignore-errors
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from splatdag.splats.cpu.photometric import C1, C2, TAPS, WINDOW

_BLOCK = 256
_REACH = WINDOW - 1

# Images [C, H, W, 3] are read as C·H lines of W·3 numbers, in which the next pixel is 3 numbers away. "Valid" windows
# lie inside the image, so that blurred lines are 10 pixels shorter and there are 10 fewer of them.


class Photometric(torch.autograd.Function):
    """The loss of `losses.photometric_loss`; its gradient is worked out in the forward pass."""

    @staticmethod
    def forward(ctx, image: Tensor, target: Tensor, ssim_lambda: float, mask: Tensor | None) -> Tensor:
        x, y = image.contiguous(), target.contiguous()
        cameras, height, width, _ = x.shape
        lines, line = cameras * height, width * 3
        counted = None if mask is None else mask.contiguous().view(torch.uint8)
        pixels = cameras * height * width if mask is None else counted.sum(dtype=torch.int64).clamp_min(1)
        gradient = torch.empty_like(x)
        l1 = x.new_empty((lines, triton.cdiv(line, _BLOCK)))
        similarity, derived = x.new_zeros(()), x
        blurred_line = line - 3 * _REACH
        windows = cameras * (height - _REACH) * blurred_line
        if ssim_lambda:
            taps = torch.from_numpy(TAPS).to(x.device)
            moments = x.new_empty((5, lines, blurred_line))
            _blur_lines[lines, triton.cdiv(blurred_line, _BLOCK)](
                x, y, counted, taps, moments, lines, line, counted is not None, _REACH, _BLOCK
            )
            values = x.new_empty((cameras * (height - _REACH), triton.cdiv(blurred_line, _BLOCK)))
            slopes = x.new_empty((3, cameras * (height - _REACH), blurred_line))
            _similarity[values.shape](
                moments, taps, slopes, values, lines, height, blurred_line, C1, C2, _REACH, _BLOCK
            )
            similarity = values.sum() / windows
            derived = x.new_empty((3, lines, blurred_line))
            _spread_columns[lines, triton.cdiv(blurred_line, _BLOCK)](
                slopes, taps, derived, lines, height, blurred_line, _REACH, _BLOCK
            )
        l1_weight = (1 - ssim_lambda) / (3 * pixels)
        weight = torch.as_tensor(l1_weight, device=x.device, dtype=torch.float32)
        _gradient[l1.shape](
            x, y, counted, derived, taps if ssim_lambda else x, weight, ssim_lambda / windows if ssim_lambda else 0.0,
            gradient, l1, lines, line, counted is not None, bool(ssim_lambda), _REACH, _BLOCK,
        )  # fmt: skip
        ctx.save_for_backward(gradient)
        return weight * l1.sum() + ssim_lambda * (1 - similarity)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None


@triton.jit
def _blur_lines(x, y, mask, taps, moments, lines, line, masked: tl.constexpr, reach: tl.constexpr, block: tl.constexpr):
    """Blur x, y, x², y² and x·y along lines."""
    row = tl.program_id(0)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < line - 3 * reach
    mx = tl.zeros((block,), tl.float32)
    my, xx, yy, xy = mx, mx, mx, mx
    for k in tl.static_range(reach + 1):
        tap = tl.load(taps + k)
        source = row.to(tl.int64) * line + at + 3 * k
        a = tl.load(x + source, mask=inside, other=0.0)
        b = tl.load(y + source, mask=inside, other=0.0)
        if masked:
            counts = tl.load(mask + source // 3, mask=inside, other=0).to(tl.float32)
            a, b = a * counts, b * counts
        mx += tap * a
        my += tap * b
        xx += tap * a * a
        yy += tap * b * b
        xy += tap * a * b
    plane = lines.to(tl.int64) * (line - 3 * reach)
    out = moments + row.to(tl.int64) * (line - 3 * reach) + at
    tl.store(out, mx, mask=inside)
    tl.store(out + plane, my, mask=inside)
    tl.store(out + 2 * plane, xx, mask=inside)
    tl.store(out + 3 * plane, yy, mask=inside)
    tl.store(out + 4 * plane, xy, mask=inside)


@triton.jit
def _similarity(
    moments, taps, slopes, values, lines, height, line, c1, c2, reach: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """Finish the blur along columns; sums of SSIM, and its slopes by the blurred x, x² and x·y."""
    window_row = tl.program_id(0)
    camera = window_row // (height - reach)
    row = (camera * height + window_row % (height - reach)).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < line
    plane = lines.to(tl.int64) * line
    mx = tl.zeros((block,), tl.float32)
    my, xx, yy, xy = mx, mx, mx, mx
    for k in tl.static_range(reach + 1):
        tap = tl.load(taps + k)
        source = moments + (row + k) * line + at
        mx += tap * tl.load(source, mask=inside, other=0.0)
        my += tap * tl.load(source + plane, mask=inside, other=0.0)
        xx += tap * tl.load(source + 2 * plane, mask=inside, other=0.0)
        yy += tap * tl.load(source + 3 * plane, mask=inside, other=0.0)
        xy += tap * tl.load(source + 4 * plane, mask=inside, other=0.0)
    means, squares = 2 * mx * my + c1, mx * mx + my * my + c1
    covariance, variances = 2 * (xy - mx * my) + c2, (xx - mx * mx) + (yy - my * my) + c2
    scale = 1.0 / (squares * variances)
    ssim = means * covariance * scale
    by_mean = 2 * my * (covariance - means) * scale - 2 * mx * ssim * (1.0 / squares - 1.0 / variances)
    out = slopes + window_row.to(tl.int64) * line + at
    plane = (lines // height).to(tl.int64) * (height - reach) * line
    tl.store(out, by_mean, mask=inside)
    tl.store(out + plane, -ssim / variances, mask=inside)
    tl.store(out + 2 * plane, 2 * means * scale, mask=inside)
    tl.store(values + window_row * tl.num_programs(1) + tl.program_id(1), tl.sum(tl.where(inside, ssim, 0.0)))


@triton.jit
def _spread_columns(slopes, taps, derived, lines, height, line, reach: tl.constexpr, block: tl.constexpr):
    """Blur backwards along columns: every line gets what the windows over it have."""
    row = tl.program_id(0)
    camera, within = row // height, row % height
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < line
    plane = (lines // height).to(tl.int64) * (height - reach) * line
    a = tl.zeros((block,), tl.float32)
    b, c = a, a
    for k in tl.static_range(reach + 1):
        window = within - k
        there = inside & (window >= 0) & (window < height - reach)
        tap = tl.load(taps + k)
        source = slopes + (camera.to(tl.int64) * (height - reach) + window) * line + at
        a += tap * tl.load(source, mask=there, other=0.0)
        b += tap * tl.load(source + plane, mask=there, other=0.0)
        c += tap * tl.load(source + 2 * plane, mask=there, other=0.0)
    out = derived + row.to(tl.int64) * line + at
    plane = lines.to(tl.int64) * line
    tl.store(out, a, mask=inside)
    tl.store(out + plane, b, mask=inside)
    tl.store(out + 2 * plane, c, mask=inside)


@triton.jit
def _gradient(
    x, y, mask, derived, taps, l1_weight, ssim_weight, gradient, l1, lines, line,
    masked: tl.constexpr, similar: tl.constexpr, reach: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Blur backwards along lines, and put both terms together; sums of L1."""
    row = tl.program_id(0)
    at = tl.program_id(1) * block + tl.arange(0, block)
    inside = at < line
    here = row.to(tl.int64) * line + at
    a = tl.load(x + here, mask=inside, other=0.0)
    b = tl.load(y + here, mask=inside, other=0.0)
    counts = tl.full((block,), 1.0, tl.float32)
    if masked:
        counts = tl.load(mask + here // 3, mask=inside, other=0).to(tl.float32)
    difference = (a - b) * counts
    slope = tl.load(l1_weight) * tl.where(difference > 0, 1.0, tl.where(difference < 0, -1.0, 0.0))
    if similar:
        short = line - 3 * reach
        plane = lines.to(tl.int64) * short
        by_mean = tl.zeros((block,), tl.float32)
        by_square, by_product = by_mean, by_mean
        for k in tl.static_range(reach + 1):
            window = at - 3 * k
            there = inside & (window >= 0) & (window < short)
            tap = tl.load(taps + k)
            source = derived + row.to(tl.int64) * short + window
            by_mean += tap * tl.load(source, mask=there, other=0.0)
            by_square += tap * tl.load(source + plane, mask=there, other=0.0)
            by_product += tap * tl.load(source + 2 * plane, mask=there, other=0.0)
        slope -= ssim_weight * (by_mean + 2 * a * counts * by_square + b * counts * by_product) * counts
    tl.store(gradient + here, slope, mask=inside)
    total = tl.sum(tl.where(inside, tl.abs(difference), 0.0))
    tl.store(l1 + row * tl.num_programs(1) + tl.program_id(1), total)
