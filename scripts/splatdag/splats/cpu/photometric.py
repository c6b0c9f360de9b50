"""L1 and structural similarity in numba: value and gradient in one pass."""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from splatdag.splats.cpu.threads import share

WINDOW = 11
"""Pixels; side of the Gaussian window of SSIM."""
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2

_HALF = WINDOW // 2
TAPS = np.exp(-0.5 * ((np.arange(WINDOW) - _HALF) / SIGMA) ** 2)
TAPS = (TAPS / TAPS.sum()).astype(np.float32)

_f = np.float32
_index = np.uintp

# The work is cut into tiles of fixed size, so that sums do not depend on the number of threads. One scratch
# array per thread, with constant offsets, holds four lines of input and bands of blurred rows of four moments.
_TILE_HEIGHT, _TILE_WIDTH = 32, 128
_STRIDE = _TILE_WIDTH
_LINE = _index(_TILE_WIDTH + WINDOW - 1)
_BLURRED = _index(4) * _LINE
_BAND = _index((_TILE_HEIGHT + WINDOW - 1) * _STRIDE)
_SCRATCH = 4 * (_TILE_WIDTH + WINDOW - 1) + 4 * (_TILE_HEIGHT + WINDOW - 1) * _STRIDE

_simd = {"cache": True, "fastmath": True, "error_model": "numpy"}


class Photometric(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, target, ssim_lambda, mask) -> Tensor:
        cameras, height, width, channels = image.shape
        x, y = image.contiguous().numpy(), target.contiguous().numpy()
        kept = np.empty((0, 0, 0), np.bool_) if mask is None else mask.contiguous().numpy()
        counted = cameras * height * width if mask is None else int(kept.sum())
        windows = cameras * channels * (height - WINDOW + 1) * (width - WINDOW + 1)
        l1_weight = (1.0 - ssim_lambda) / max(channels * counted, 1)
        ssim_weight = ssim_lambda / windows if ssim_lambda != 0 else 0.0
        down, across = -(-height // _TILE_HEIGHT), -(-width // _TILE_WIDTH)
        tiles = cameras * channels * down * across
        sums = np.zeros((tiles, 2))
        gradient = np.empty_like(x)
        slopes = np.empty((0, 3, 1, 1), np.float32)
        if ssim_weight:
            slopes = np.zeros((cameras * channels, 3, height + WINDOW - 1, width + WINDOW - 1), np.float32)
            share(_similarity, tiles, 1, x, y, kept, down, across, slopes, sums)
        share(_gradient, tiles, 1, x, y, kept, down, across, slopes, l1_weight, ssim_weight, gradient, sums)
        ctx.save_for_backward(torch.from_numpy(gradient))
        l1, similarity = sums.sum(0)
        return image.new_tensor(l1_weight * l1 + ssim_lambda - ssim_weight * similarity)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None


@njit(**_simd)
def _blur_row(s, source, out, width):
    """Valid horizontal blur: s[out + i] from s[source + i] to s[source + i + 10]."""
    for i in range(width):
        total = _f(0.0)
        for k in range(WINDOW):
            total += TAPS[k] * s[source + _index(k) + i]
        s[out + i] = total


@njit(**_simd)
def _blur_column(s, source, i):
    """Valid vertical blur at column i of the rows that start at `source`."""
    total = _f(0.0)
    for k in range(WINDOW):
        total += TAPS[k] * s[source + _index(k * _STRIDE) + i]
    return total


@njit(**_simd)
def _tile(unit, down, across, height, width):
    """Image plane, first row and column and the size of one tile of the (height, width) plane."""
    plane, tile = unit // (down * across), unit % (down * across)
    top, left = tile // across * _TILE_HEIGHT, tile % across * _TILE_WIDTH
    return plane, top, left, min(_TILE_HEIGHT, height - top), min(_TILE_WIDTH, width - left)


@njit(**_simd)
def _similarity_row(s, row, columns, slopes, top, left):
    """SSIM summed over a row of windows; its derivatives by mean, square and product of x into slopes."""
    similarity = _f(0.0)
    mean_slope, square_slope, product_slope = slopes[0, top], slopes[1, top], slopes[2, top]
    for i in range(columns):
        mx = _blur_column(s, _BLURRED + row, i)
        my = _blur_column(s, _BLURRED + _BAND + row, i)
        squares = _blur_column(s, _BLURRED + _index(2) * _BAND + row, i)
        product = _blur_column(s, _BLURRED + _index(3) * _BAND + row, i)
        a1 = _f(2.0) * mx * my + _f(C1)
        a2 = _f(2.0) * (product - mx * my) + _f(C2)
        b1 = mx * mx + my * my + _f(C1)
        b2 = squares - mx * mx - my * my + _f(C2)
        inverse = _f(1.0) / (b1 * b2)
        value = a1 * a2 * inverse
        by_square = -value * b1 * inverse
        by_product = _f(2.0) * a1 * inverse
        similarity += value
        mean_slope[left + i] = (
            _f(2.0) * my * a2 * inverse - _f(2.0) * mx * (value * b2 * inverse + by_square) - my * by_product
        )
        square_slope[left + i] = by_square
        product_slope[left + i] = by_product
    return similarity


@njit(nogil=True, **_simd)
def _similarity(begin, end, x, y, kept, down, across, slopes, sums):
    """SSIM of every window, summed per tile into sums[:,0 + 1], and its derivatives into `slopes`.

    slopes [C·3,3,H+10,W+10] has the window of index (i, j) at (i+10, j+10) and zeros around.
    """
    channels = x.shape[3]
    s = np.empty(_SCRATCH, np.float32)
    for unit in range(begin, end):
        plane, top, left, rows, columns = _tile(unit, down, across, x.shape[1] - WINDOW + 1, x.shape[2] - WINDOW + 1)
        if rows <= 0 or columns <= 0:
            continue
        camera, channel = plane // channels, plane % channels
        for row in range(rows + WINDOW - 1):
            xs, ys = x[camera, top + row], y[camera, top + row]
            for i in range(_index(columns + WINDOW - 1)):
                column = _index(left) + i
                a, b = xs[column, channel], ys[column, channel]
                if kept.shape[0] and not kept[camera, top + row, column]:
                    a, b = _f(0.0), _f(0.0)
                s[i] = a
                s[_LINE + i] = b
                s[_index(2) * _LINE + i] = a * a + b * b
                s[_index(3) * _LINE + i] = a * b
            for moment in range(4):
                blurred = _BLURRED + _index(moment) * _BAND + _index(row * _STRIDE)
                _blur_row(s, _index(moment) * _LINE, blurred, _index(columns))
        total = 0.0
        for row in range(rows):
            total += _similarity_row(
                s, _index(row * _STRIDE), _index(columns), slopes[plane], top + row + WINDOW - 1,
                _index(left + WINDOW - 1),
            )  # fmt: skip
        sums[unit, 1] = total


@njit(nogil=True, **_simd)
def _gradient(begin, end, x, y, kept, down, across, slopes, l1_weight, ssim_weight, gradient, sums):
    """Gradient of the whole loss, and L1 summed per tile into sums[:,0]."""
    channels = x.shape[3]
    s = np.empty(_SCRATCH, np.float32)
    for unit in range(begin, end):
        plane, top, left, rows, columns = _tile(unit, down, across, x.shape[1], x.shape[2])
        camera, channel = plane // channels, plane % channels
        if slopes.shape[0]:
            for row in range(rows + WINDOW - 1):
                for moment in range(3):
                    source = slopes[plane, moment, top + row]
                    for i in range(_index(columns + WINDOW - 1)):
                        s[i] = source[_index(left) + i]
                    blurred = _BLURRED + _index(moment) * _BAND + _index(row * _STRIDE)
                    _blur_row(s, _index(0), blurred, _index(columns))
        total = 0.0
        for row in range(rows):
            at = _BLURRED + _index(row * _STRIDE)
            if slopes.shape[0]:
                for i in range(_index(columns)):
                    s[i] = _blur_column(s, at, i)
                    s[_LINE + i] = _blur_column(s, at + _BAND, i)
                    s[_index(2) * _LINE + i] = _blur_column(s, at + _index(2) * _BAND, i)
            xs, ys, out = x[camera, top + row], y[camera, top + row], gradient[camera, top + row]
            for i in range(_index(columns)):
                column = _index(left) + i
                if kept.shape[0] and not kept[camera, top + row, column]:
                    out[column, channel] = _f(0.0)
                    continue
                difference = xs[column, channel] - ys[column, channel]
                total += abs(difference)
                slope = _f(l1_weight) * np.sign(difference)
                if slopes.shape[0]:
                    by_square, by_product = s[_LINE + i], s[_index(2) * _LINE + i]
                    by_x = s[i] + _f(2.0) * xs[column, channel] * by_square + ys[column, channel] * by_product
                    slope -= _f(ssim_weight) * by_x
                out[column, channel] = slope
        sums[unit, 0] = total
