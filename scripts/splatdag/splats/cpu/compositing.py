"""Kernels that composite projected Gaussians front to back on the CPU, forward and backward.

Within a tile the Gaussians are the outer loop and the pixels they reach the inner one, without branches, so
that LLVM turns it into SIMD. A pixel that is done keeps its transmittance with a negative sign. The backward
pass runs front to back as well: what lies behind a Gaussian is the rendered total minus what has been passed.
"""

# mypy: ignore-errors

import numpy as np
from numba import njit

from splatdag.splats.cpu.tiles import MIN_ALPHA, TILE_HEIGHT, TILE_PIXELS, TILE_WIDTH

MAX_ALPHA = 0.999
MIN_TRANSMITTANCE = 1e-4
"""A pixel stops before the Gaussian that would bring its transmittance to this."""
GEOMETRY = 6
"""Columns of `sums` before the channels: s, s·u, s·v, s·u·dx, s·u·dy, s·v·dy with s = dL/d(exponent)."""

_f, _index = np.float32, np.uintp
_ZERO, _ONE = _f(0.0), _f(1.0)
_MAX_ALPHA, _MIN_ALPHA, _MIN_T = _f(MAX_ALPHA), _f(MIN_ALPHA), _f(MIN_TRANSMITTANCE)
_MAX_EXPONENT = _f(5.6)  # exp(-5.6) < MIN_ALPHA: nothing beyond is drawn

# Planes of one scratch array. A single array, constant offsets and unsigned indices (which numba does not
# wrap) let LLVM see that nothing overlaps.
PLANE = _index(TILE_PIXELS)
_T, _X, _Y = _index(0), PLANE, _index(2) * PLANE
_WEIGHT, _GRAD = _index(3) * PLANE, _index(4) * PLANE
REST, _DOT = _index(5) * PLANE, _index(6) * PLANE
CHANNELS, _C1, _C2 = _index(7) * PLANE, _index(8) * PLANE, _index(9) * PLANE
PLANES = 7

SIMD = {"cache": True, "fastmath": True, "error_model": "numpy"}


@njit(**SIMD)
def _exp_negative(q):
    """exp(-q) for 0 <= q <= 5.6 to 2e-6: the 8th power of a minimax polynomial of exp(-q/8)."""
    v = q * _f(0.125)
    p = _f(0.03984831) - _f(0.00588525) * v
    p = _f(-0.16602841) + p * v
    p = _f(0.49989978) + p * v
    p = _f(-0.99999476) + p * v
    p = _ONE + p * v
    p = p * p
    p = p * p
    return p * p


@njit(**SIMD)
def _offsets(s, j, splat):
    """Pixel to mean (dx, dy) and the two squared terms' roots (u, v) of the exponent."""
    x, y, f0, f1, f2, _ = splat
    dx, dy = x - s[_X + j], y - s[_Y + j]
    return dx, dy, f0 * dx + f1 * dy, f2 * dy


@njit(**SIMD)
def _step(s, j, u, v, opacity):
    """Advance pixel j's transmittance past a Gaussian: unclamped alpha, alpha, weight and if it is drawn."""
    raw = opacity * _exp_negative(min(u * u + v * v, _MAX_EXPONENT))
    alpha = min(raw, _MAX_ALPHA)
    alpha = alpha if alpha >= _MIN_ALPHA else _ZERO
    t = s[_T + j]
    weight = alpha * t
    behind = t - weight
    drawn = behind > _MIN_T
    s[_T + j] = behind if drawn else -abs(t)
    return raw, alpha, weight if drawn else _ZERO, drawn


@njit(**SIMD)
def _behind(raw, alpha, weight, drawn, rest, dot):
    """dL/d(exponent) of one pixel, from the gradient-weighted colours of the Gaussian and all behind it."""
    grad = rest * alpha / (_ONE - alpha) - weight * dot
    return grad if drawn and raw < _MAX_ALPHA else _ZERO


@njit(**SIMD)
def draw_rgb(s, first, last, splat, red, green, blue):
    for j in range(first, last):
        _, _, u, v = _offsets(s, j, splat)
        _, _, weight, _ = _step(s, j, u, v, splat[5])
        s[CHANNELS + j] += weight * red
        s[_C1 + j] += weight * green
        s[_C2 + j] += weight * blue


@njit(**SIMD)
def draw(s, first, last, splat, values):
    for j in range(first, last):
        _, _, u, v = _offsets(s, j, splat)
        _, _, weight, _ = _step(s, j, u, v, splat[5])
        s[_WEIGHT + j] = weight
    for c in range(values.shape[0]):
        value, plane = values[c], CHANNELS + _index(c) * PLANE
        for j in range(first, last):
            s[plane + j] += s[_WEIGHT + j] * value


@njit(**SIMD)
def undraw_rgb(s, first, last, splat, red, green, blue, sums):
    g, gu, gv, gux, guy, gvy = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    d_red, d_green, d_blue = _ZERO, _ZERO, _ZERO
    for j in range(first, last):
        dx, dy, u, v = _offsets(s, j, splat)
        raw, alpha, weight, drawn = _step(s, j, u, v, splat[5])
        dot = red * s[CHANNELS + j] + green * s[_C1 + j] + blue * s[_C2 + j]
        rest = s[REST + j] - weight * dot
        s[REST + j] = rest
        grad = _behind(raw, alpha, weight, drawn, rest, dot)
        s[_GRAD + j] = grad
        g += grad
        gu += grad * u
        gv += grad * v
        gux += grad * u * dx
        guy += grad * u * dy
        gvy += grad * v * dy
        d_red += weight * s[CHANNELS + j]
        d_green += weight * s[_C1 + j]
        d_blue += weight * s[_C2 + j]
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = g, gu, gv, gux, guy, gvy
    sums[6], sums[7], sums[8] = d_red, d_green, d_blue


@njit(**SIMD)
def undraw(s, first, last, splat, values, sums):
    for j in range(first, last):
        s[_DOT + j] = _ZERO
    for c in range(values.shape[0]):
        value, plane = values[c], CHANNELS + _index(c) * PLANE
        for j in range(first, last):
            s[_DOT + j] += value * s[plane + j]
    g, gu, gv, gux, guy, gvy = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    for j in range(first, last):
        dx, dy, u, v = _offsets(s, j, splat)
        raw, alpha, weight, drawn = _step(s, j, u, v, splat[5])
        dot = s[_DOT + j]
        rest = s[REST + j] - weight * dot
        s[REST + j] = rest
        s[_WEIGHT + j] = weight
        grad = _behind(raw, alpha, weight, drawn, rest, dot)
        s[_GRAD + j] = grad
        g += grad
        gu += grad * u
        gv += grad * v
        gux += grad * u * dx
        guy += grad * u * dy
        gvy += grad * v * dy
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = g, gu, gv, gux, guy, gvy
    for c in range(values.shape[0]):
        total, plane = _ZERO, CHANNELS + _index(c) * PLANE
        for j in range(first, last):
            total += s[_WEIGHT + j] * s[plane + j]
        sums[GEOMETRY + c] = total


@njit(**SIMD)
def sum_absolute(s, first, last, splat, sums):
    """Sums over pixels of |dL/dx| and |dL/dy| of the mean, from the gradients `undraw` left."""
    f0, f1, f2 = splat[2], splat[3], splat[4]
    across, down = _ZERO, _ZERO
    for j in range(first, last):
        _, _, u, v = _offsets(s, j, splat)
        across += abs(s[_GRAD + j] * f0 * u)
        down += abs(s[_GRAD + j] * (f1 * u + f2 * v))
    sums[0], sums[1] = _f(2.0) * across, _f(2.0) * down


@njit(**SIMD)
def start_tile(s, left, top, width, height):
    for y in range(TILE_HEIGHT):
        for x in range(TILE_WIDTH):
            j = _index(y * TILE_WIDTH + x)
            s[_T + j] = _ONE if left + x < width and top + y < height else -_ONE
            s[_X + j] = _f(x) + _f(0.5)
            s[_Y + j] = _f(y) + _f(0.5)


@njit(**SIMD)
def is_done(s):
    most = -_ONE
    for j in range(PLANE):
        most = max(most, s[_T + j])
    return most <= _ZERO


@njit(**SIMD)
def read_splat(splats, k, pair, left, top):
    first, last = _index(pair[2] * TILE_WIDTH), _index((pair[3] + 1) * TILE_WIDTH)
    x, y = splats[k, 0] - _f(left), splats[k, 1] - _f(top)
    return first, last, (x, y, splats[k, 2], splats[k, 3], splats[k, 4], splats[k, 5])
