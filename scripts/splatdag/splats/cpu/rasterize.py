"""Rasterisation of projected Gaussians on the CPU as a differentiable function."""

# mypy: ignore-errors
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from splatdag.splats.cpu.compositing import (
    CHANNELS,
    GEOMETRY,
    PLANE,
    PLANES,
    REST,
    SIMD,
    draw,
    draw_rgb,
    is_done,
    read_splat,
    start_tile,
    sum_absolute,
    undraw,
    undraw_rgb,
)
from splatdag.splats.cpu.threads import share
from splatdag.splats.cpu.tiles import SPLAT, TILE_HEIGHT, TILE_PIXELS, TILE_WIDTH, depth_order, gather, list_pairs

LANES = 251
"""Tiles are dealt to this many lanes: prime, so that threads share dense and empty regions."""

_f, _index = np.float32, np.uintp
_ZERO, _ONE = _f(0.0), _f(1.0)


@njit(**SIMD)
def _draw_tile(tile, starts, pairs, splats, background, colors, alphas, s):
    height, width, channels = colors.shape
    across = (width + TILE_WIDTH - 1) // TILE_WIDTH
    left, top = tile % across * TILE_WIDTH, tile // across * TILE_HEIGHT
    start_tile(s, left, top, width, height)
    for j in range(_index(channels) * PLANE):
        s[CHANNELS + j] = _ZERO
    for p in range(starts[tile], starts[tile + 1]):
        k = pairs[p, 0]
        first, last, splat = read_splat(splats, k, pairs[p], left, top)
        if channels == 3:
            draw_rgb(s, first, last, splat, splats[k, 6], splats[k, 7], splats[k, 8])
        else:
            draw(s, first, last, splat, splats[k, SPLAT:])
        if p % 8 == 7 and is_done(s):
            break
    for y in range(min(TILE_HEIGHT, height - top)):
        for x in range(min(TILE_WIDTH, width - left)):
            j = _index(y * TILE_WIDTH + x)
            t = abs(s[j])
            alphas[top + y, left + x] = _ONE - t
            for c in range(channels):
                colors[top + y, left + x, c] = s[CHANNELS + _index(c) * PLANE + j] + t * background[c]


@njit(**SIMD)
def _undraw_tile(tile, starts, pairs, splats, colors, alphas, d_colors, d_alphas, absgrad, sums, s):
    height, width, channels = colors.shape
    across = (width + TILE_WIDTH - 1) // TILE_WIDTH
    left, top = tile % across * TILE_WIDTH, tile // across * TILE_HEIGHT
    start_tile(s, left, top, width, height)
    for j in range(_index(channels) * PLANE):
        s[CHANNELS + j] = _ZERO
    for j in range(PLANE):
        s[REST + j] = _ZERO
    for y in range(min(TILE_HEIGHT, height - top)):
        for x in range(min(TILE_WIDTH, width - left)):
            j = _index(y * TILE_WIDTH + x)
            rest = (alphas[top + y, left + x] - _ONE) * d_alphas[top + y, left + x]
            for c in range(channels):
                d = d_colors[top + y, left + x, c]
                s[CHANNELS + _index(c) * PLANE + j] = d
                rest += colors[top + y, left + x, c] * d
            s[REST + j] = rest
    end = starts[tile + 1]
    for p in range(starts[tile], end):
        k, slot = pairs[p, 0], pairs[p, 1]
        first, last, splat = read_splat(splats, k, pairs[p], left, top)
        if channels == 3:
            undraw_rgb(s, first, last, splat, splats[k, 6], splats[k, 7], splats[k, 8], sums[slot])
        else:
            undraw(s, first, last, splat, splats[k, SPLAT:], sums[slot])
        if absgrad:
            sum_absolute(s, first, last, splat, sums[slot, GEOMETRY + channels :])
        if p % 8 == 7 and is_done(s):
            for unseen in range(p + 1, end):
                sums[pairs[unseen, 1]] = _ZERO
            break


@njit(nogil=True, **SIMD)
def draw_lanes(begin, end, starts, pairs, splats, background, colors, alphas):
    """Draw `splats` [V,6+D] over `background` [D] into colors [H,W,D] and alphas [H,W]."""
    s = np.empty((PLANES + colors.shape[2]) * TILE_PIXELS, np.float32)
    for lane in range(begin, end):
        for tile in range(lane, starts.shape[0] - 1, LANES):
            _draw_tile(tile, starts, pairs, splats, background, colors, alphas, s)


@njit(nogil=True, **SIMD)
def undraw_lanes(begin, end, starts, pairs, splats, colors, alphas, d_colors, d_alphas, absgrad, sums):
    """Fill `sums` [P,6+D] ([P,8+D] with absgrad), one row per (Gaussian, tile) pair at the pair's slot."""
    s = np.empty((PLANES + colors.shape[2]) * TILE_PIXELS, np.float32)
    for lane in range(begin, end):
        for tile in range(lane, starts.shape[0] - 1, LANES):
            _undraw_tile(tile, starts, pairs, splats, colors, alphas, d_colors, d_alphas, absgrad, sums, s)


@njit(nogil=True, cache=True, error_model="numpy")
def collect(begin, end, order, slots, splats, sums, d_means2d, d_factors, d_opacities, d_colors, d_absolute):
    """Add up the slots of every Gaussian, always in the same order, and apply the chain rule to them."""
    channels = d_colors.shape[1]
    for k in range(begin, end):
        i = order[k]
        g, gu, gv, gux, guy, gvy = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
        for slot in range(slots[k], slots[k + 1]):
            g += sums[slot, 0]
            gu += sums[slot, 1]
            gv += sums[slot, 2]
            gux += sums[slot, 3]
            guy += sums[slot, 4]
            gvy += sums[slot, 5]
            for c in range(channels):
                d_colors[i, c] += sums[slot, GEOMETRY + c]
            for a in range(d_absolute.shape[1]):
                d_absolute[i, a] += sums[slot, GEOMETRY + channels + a]
        f0, f1, f2, opacity = splats[k, 2], splats[k, 3], splats[k, 4], splats[k, 5]
        d_means2d[i, 0] = 2.0 * f0 * gu
        d_means2d[i, 1] = 2.0 * (f1 * gu + f2 * gv)
        d_factors[i, 0] = 2.0 * gux
        d_factors[i, 1] = 2.0 * guy
        d_factors[i, 2] = 2.0 * gvy
        d_opacities[i] = -g / opacity


class Rasterize(torch.autograd.Function):
    """means2d, depths, factors, opacities, radii and colors [C,N,...] to colors [C,H,W,D] and alphas [C,H,W].

    Depths and radii only order and select. With absgrad, `means2d.absgrad` [C,N,2] is set in the backward
    pass.
    """

    @staticmethod
    def forward(ctx, means2d, depths, factors, opacities, radii, colors, backgrounds, width, height, absgrad) -> Any:
        cameras, count, channels = colors.shape
        images = torch.empty(cameras, height, width, channels)
        alphas = torch.empty(cameras, height, width)
        ctx.lists = []
        for c in range(cameras):
            order = depth_order(depths[c].numpy(), radii[c].numpy())
            parts = [x[c].numpy() for x in (means2d, factors, opacities)]
            starts, slots, pairs = list_pairs(order, radii[c].numpy(), *parts, width, height)
            splats = gather(order, *parts, colors[c].numpy())
            outputs = backgrounds[c].numpy(), images[c].numpy(), alphas[c].numpy()
            share(draw_lanes, LANES, 1, starts, pairs, splats, *outputs)
            ctx.lists.append((order, starts, slots, pairs, splats))
        ctx.save_for_backward(means2d, images, alphas)
        ctx.absgrad, ctx.count = absgrad, count
        return images, alphas

    @staticmethod
    def backward(ctx, d_images: Tensor, d_alphas: Tensor) -> Any:
        means2d, images, alphas = ctx.saved_tensors
        cameras, channels = images.shape[0], images.shape[3]
        d_images, d_alphas = d_images.contiguous(), d_alphas.contiguous()
        shapes = ((2,), (3,), (), (channels,), (2 if ctx.absgrad else 0,))
        results = [torch.zeros(cameras, ctx.count, *shape) for shape in shapes]
        for c, (order, starts, slots, pairs, splats) in enumerate(ctx.lists):
            sums = np.empty((len(pairs), GEOMETRY + channels + 2 * ctx.absgrad), np.float32)
            parts = [x[c].numpy() for x in (images, alphas, d_images, d_alphas)]
            share(undraw_lanes, LANES, 1, starts, pairs, splats, *parts, ctx.absgrad, sums)
            share(collect, len(order), 4096, order, slots, splats, sums, *(x[c].numpy() for x in results))
        d_means2d, d_factors, d_opacities, d_colors, d_absolute = results
        if ctx.absgrad:
            means2d.absgrad = d_absolute
        d_backgrounds = None
        if ctx.needs_input_grad[6]:
            d_backgrounds = torch.einsum("chw,chwd->cd", 1.0 - alphas, d_images)
        return d_means2d, None, d_factors, d_opacities, None, d_colors, d_backgrounds, None, None, None
