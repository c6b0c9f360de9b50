"""Depth order and tile lists for the CPU rasteriser: the Gaussians that touch each tile, front to back."""

# mypy: ignore-errors

import math

import numpy as np
from numba import njit

from splatdag.splats.cpu.threads import share

TILE_WIDTH = 8
"""Pixels; one AVX2 register of float32."""
TILE_HEIGHT = 16
TILE_PIXELS = TILE_WIDTH * TILE_HEIGHT
MIN_ALPHA = 1.0 / 255.0
"""Contributions below this are skipped, as in gsplat."""

SPLAT = 6
"""Columns of `splats` before the channels: x, y, three factors, opacity."""

_MAX_CHUNKS = 16
_CHUNK = 1024  # Gaussians
_RADIX_BITS = 11
_EXPONENT_SLACK = 1e-3  # keeps pixels whose alpha rounding puts on the other side of MIN_ALPHA


@njit(cache=True)
def depth_order(depths, radii):
    """Indices (int32) of the Gaussians with a positive radius, nearest first, ties in index order.

    A least-significant-digit radix sort of the float32 bits; depths must not be negative.
    """
    count = 0
    for i in range(depths.shape[0]):
        if radii[i, 0] > 0:
            count += 1
    keys = np.empty(count, np.uint32)
    order = np.empty(count, np.int32)
    k = 0
    bits = depths.view(np.uint32)
    for i in range(depths.shape[0]):
        if radii[i, 0] > 0:
            keys[k] = bits[i]
            order[k] = i
            k += 1
    next_keys = np.empty(count, np.uint32)
    next_order = np.empty(count, np.int32)
    buckets = 1 << _RADIX_BITS
    starts = np.empty(buckets, np.int64)
    for shift in range(0, 32, _RADIX_BITS):
        starts[:] = 0
        for k in range(count):
            starts[(keys[k] >> shift) & (buckets - 1)] += 1
        total = 0
        for b in range(buckets):
            size = starts[b]
            starts[b] = total
            total += size
        for k in range(count):
            b = (keys[k] >> shift) & (buckets - 1)
            next_keys[starts[b]] = keys[k]
            next_order[starts[b]] = order[k]
            starts[b] += 1
        keys, next_keys = next_keys, keys
        order, next_order = next_order, order
    return order


@njit(cache=True)
def _reserve(order, means2d, radii, width):
    """First and last tile column that each Gaussian can touch [V,2], and room for its columns [V+1]."""
    columns = np.empty((order.shape[0], 2), np.int32)
    room = np.zeros(order.shape[0] + 1, np.int64)
    for k in range(order.shape[0]):
        i = order[k]
        columns[k, 0] = int(max(means2d[i, 0] - radii[i, 0], 0.0)) // TILE_WIDTH
        columns[k, 1] = int(min(means2d[i, 0] + radii[i, 0], width - 1.0)) // TILE_WIDTH
        room[k + 1] = room[k] + columns[k, 1] - columns[k, 0] + 1
    return columns, room


@njit(cache=True, error_model="numpy")
def _ellipse(mean, factors, opacity):
    """The ellipse where alpha >= MIN_ALPHA, as `_column_rows` needs it."""
    x, y = float(mean[0]), float(mean[1])
    f0, f1, f2 = float(factors[0]), float(factors[1]), float(factors[2])
    exponent = math.log(max(opacity / MIN_ALPHA, 1.0)) + _EXPONENT_SLACK
    inverse = 1.0 / (f1 * f1 + f2 * f2)
    half_width = math.sqrt(exponent / inverse) / (f0 * f2)
    x_at_top = -f1 * math.sqrt(inverse) * half_width
    return x, y, f0 * f1 * inverse, (f0 * f2 * inverse) ** 2, exponent * inverse, half_width, x_at_top


@njit(cache=True, error_model="numpy")
def _column_rows(column, ellipse, height):
    """First and last pixel row of the ellipse within one column of tiles; TILE_HEIGHT and -1 for none."""
    x, y, tilt, det, reach, half_width, x_at_top = ellipse
    left = max(column * TILE_WIDTH + 0.5 - x, -half_width)
    right = min(column * TILE_WIDTH + TILE_WIDTH - 0.5 - x, half_width)
    at_bottom = min(max(x_at_top, left), right)
    at_top = min(max(-x_at_top, left), right)
    bottom = y - tilt * at_bottom + math.sqrt(max(reach - det * at_bottom * at_bottom, 0.0))
    top = y - tilt * at_top - math.sqrt(max(reach - det * at_top * at_top, 0.0))
    first = int(max(top + 0.5, 0.0))
    last = int(min(bottom + 0.5, float(height))) - 1
    if left > right or bottom < 0.5 or first > last:
        return TILE_HEIGHT, -1
    return first, last


@njit(nogil=True, cache=True)
def _count(
    begin, end, chunks, order, means2d, factors, opacities, columns, room, width, height, rows, per_tile, per_splat
):  # fmt: skip
    """Pixel rows [·,2] of each Gaussian by column, and pairs of each tile [chunks,T] and of each Gaussian."""
    across = (width + TILE_WIDTH - 1) // TILE_WIDTH
    for c in range(begin, end):
        for k in range(order.shape[0] * c // chunks, order.shape[0] * (c + 1) // chunks):
            i = order[k]
            ellipse = _ellipse(means2d[i], factors[i], opacities[i])
            pairs = 0
            for column in range(columns[k, 0], columns[k, 1] + 1):
                top, bottom = _column_rows(column, ellipse, height)
                at = room[k] + column - columns[k, 0]
                rows[at, 0], rows[at, 1] = top, bottom
                for row in range(top // TILE_HEIGHT, bottom // TILE_HEIGHT + 1):
                    per_tile[c, row * across + column] += 1
                    pairs += 1
            per_splat[k + 1] = pairs


@njit(cache=True)
def _layout(per_tile, per_splat):
    """Turn counts into positions in place, and return where each tile starts [T+1]."""
    chunks, tiles = per_tile.shape
    starts = np.empty(tiles + 1, np.int64)
    total = 0
    for tile in range(tiles):
        starts[tile] = total
        for c in range(chunks):
            size = per_tile[c, tile]
            per_tile[c, tile] = total
            total += size
    starts[tiles] = total
    for k in range(1, per_splat.shape[0]):
        per_splat[k] += per_splat[k - 1]
    return starts


@njit(nogil=True, cache=True)
def _place(begin, end, chunks, columns, room, width, rows, next_pair, slots, pairs):
    """Write the pairs of the chunks begin to end."""
    across = (width + TILE_WIDTH - 1) // TILE_WIDTH
    count = columns.shape[0]
    for c in range(begin, end):
        for k in range(count * c // chunks, count * (c + 1) // chunks):
            slot = slots[k]
            for column in range(columns[k, 0], columns[k, 1] + 1):
                at = room[k] + column - columns[k, 0]
                top, bottom = rows[at, 0], rows[at, 1]
                for row in range(top // TILE_HEIGHT, bottom // TILE_HEIGHT + 1):
                    pair = next_pair[c, row * across + column]
                    next_pair[c, row * across + column] += 1
                    pairs[pair, 0] = k
                    pairs[pair, 1] = slot
                    pairs[pair, 2] = max(top - row * TILE_HEIGHT, 0)
                    pairs[pair, 3] = min(bottom - row * TILE_HEIGHT, TILE_HEIGHT - 1)
                    slot += 1


@njit(cache=True)
def gather(order, means2d, factors, opacities, colors):
    """Gather what compositing reads of each visible Gaussian, front to back and side by side in memory.

    splats [V,6+D]: x, y, three factors, opacity, channels.
    """
    splats = np.empty((order.shape[0], SPLAT + colors.shape[1]), np.float32)
    for k in range(order.shape[0]):
        i = order[k]
        splats[k, 0], splats[k, 1] = means2d[i, 0], means2d[i, 1]
        splats[k, 2], splats[k, 3], splats[k, 4] = factors[i, 0], factors[i, 1], factors[i, 2]
        splats[k, 5] = opacities[i]
        for channel in range(colors.shape[1]):
            splats[k, SPLAT + channel] = colors[i, channel]
    return splats


def list_pairs(order, radii, means2d, factors, opacities, width, height):
    """List every (Gaussian, tile) pair that can show, by tile and front to back within a tile, by a counting sort.

    `order` has V Gaussians. Returns tile starts [T+1]; slots [V+1] (the pairs of the k-th Gaussian own
    the gradient slots slots[k] to slots[k+1]); pairs [P,4]: k, slot, first and last pixel row in the tile.
    """
    chunks = min(max(len(order) // _CHUNK, 1), _MAX_CHUNKS)
    tiles = -(-width // TILE_WIDTH) * -(-height // TILE_HEIGHT)
    columns, room = _reserve(order, means2d, radii, width)
    rows = np.empty((room[-1], 2), np.int32)
    per_tile = np.zeros((chunks, tiles), np.int64)
    slots = np.zeros(len(order) + 1, np.int64)
    share(
        _count, chunks, 1, chunks, order, means2d, factors, opacities, columns, room, width, height, rows,
        per_tile, slots,
    )  # fmt: skip
    starts = _layout(per_tile, slots)
    pairs = np.empty((starts[-1], 4), np.int32)
    share(_place, chunks, 1, chunks, columns, room, width, rows, per_tile, slots, pairs)
    return starts, slots, pairs
