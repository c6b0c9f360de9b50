"""Projection of 3-D Gaussians to the image plane (EWA splatting) on the CPU, forward and backward.

The screen-space covariance S, with EPS2D added to its diagonal, is handed on as three factors with exponent =
(f0·dx + f1·dy)² + (f2·dy)² = ½ dᵀ S⁻¹ d. Unlike the entries of S⁻¹ they lose nothing in float32 for thin
Gaussians. Zwicker et al., EWA Splatting (2002), eq. 26–31; bounds from Radl et al., StopThePop (2024),
appendix B.2.
"""

# mypy: ignore-errors

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from splatdag.splats.cpu.linear import (
    combine,
    dot,
    matrix_matrix,
    matrix_vector,
    rotation,
    rotation_gradient,
    scale_columns,
    transpose,
)
from splatdag.splats.cpu.threads import share
from splatdag.splats.cpu.tiles import MIN_ALPHA

EPS2D = 0.3
"""Pixels², added to the diagonal of the screen-space covariance."""
_MAX_EXTENT = 3.33  # standard deviations
_MAX_RADIUS = 1e9  # pixels; int32 holds it
_BLOCKS = 64  # partial sums of the viewmat gradient; fixed, so that it does not depend on the number of threads


@njit(cache=True, error_model="numpy")
def _read_camera(viewmat, K):
    r = (
        (float(viewmat[0, 0]), float(viewmat[0, 1]), float(viewmat[0, 2])),
        (float(viewmat[1, 0]), float(viewmat[1, 1]), float(viewmat[1, 2])),
        (float(viewmat[2, 0]), float(viewmat[2, 1]), float(viewmat[2, 2])),
    )
    t = (float(viewmat[0, 3]), float(viewmat[1, 3]), float(viewmat[2, 3]))
    return r, t, (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))


@njit(cache=True, error_model="numpy")
def _slope(ratio, focal, centre, size):
    """x/z limited to 0.3 tan(fov) beyond the image border, for the Jacobian; and whether it was within."""
    margin = 0.15 * size / focal
    low, high = -centre / focal - margin, (size - centre) / focal + margin
    return min(max(ratio, low), high), low <= ratio <= high


@njit(cache=True, error_model="numpy")
def _footprint(mean, quat, scale, r, t, intrinsics, width, height):
    """Camera-space mean, the two rows of J·R·Q·diag(scale) and what the backward pass needs again."""
    fx, fy, cx, cy = intrinsics
    x, y, z = matrix_vector(r, mean)
    x, y, z = x + t[0], y + t[1], z + t[2]
    norm = math.sqrt(quat[0] ** 2 + quat[1] ** 2 + quat[2] ** 2 + quat[3] ** 2)
    unit = (quat[0] / norm, quat[1] / norm, quat[2] / norm, quat[3] / norm)
    q = rotation(unit[0], unit[1], unit[2], unit[3])
    m = scale_columns(matrix_matrix(r, q), scale)
    slope_x, free_x = _slope(x / z, fx, cx, width)
    slope_y, free_y = _slope(y / z, fy, cy, height)
    row_x = combine(fx / z, m[0], -fx / z * slope_x, m[2])
    row_y = combine(fy / z, m[1], -fy / z * slope_y, m[2])
    return (x, y, z), row_x, row_y, m, q, unit, norm, (slope_x, free_x, slope_y, free_y)


@njit(cache=True, error_model="numpy")
def _determinants(row_x, row_y):
    """Determinant of the covariance without and with EPS2D, free of cancellation (Lagrange's identity)."""
    a = row_x[1] * row_y[2] - row_x[2] * row_y[1]
    b = row_x[2] * row_y[0] - row_x[0] * row_y[2]
    c = row_x[0] * row_y[1] - row_x[1] * row_y[0]
    sharp = a * a + b * b + c * c
    return sharp, sharp + EPS2D * (dot(row_x, row_x) + dot(row_y, row_y)) + EPS2D * EPS2D


@njit(nogil=True, cache=True, error_model="numpy")
def forward(
    begin, end, means, quats, scales, opacities, viewmat, K, width, height, near, far, antialiased,
    means2d, depths, factors, compensations, radii,
):  # fmt: skip
    """Fill the outputs [N,...] of one camera; a culled Gaussian gets radius 0 and zeros."""
    r, t, intrinsics = _read_camera(viewmat, K)
    for i in range(begin, end):
        mean = (float(means[i, 0]), float(means[i, 1]), float(means[i, 2]))
        quat = (float(quats[i, 0]), float(quats[i, 1]), float(quats[i, 2]), float(quats[i, 3]))
        scale = (float(scales[i, 0]), float(scales[i, 1]), float(scales[i, 2]))
        point, row_x, row_y, _, _, _, _, _ = _footprint(mean, quat, scale, r, t, intrinsics, width, height)
        fx, fy, cx, cy = intrinsics
        x, y, z = point
        u, v = fx * x / z + cx, fy * y / z + cy
        xx, xy, yy = dot(row_x, row_x) + EPS2D, dot(row_x, row_y), dot(row_y, row_y) + EPS2D
        sharp, det = _determinants(row_x, row_y)
        compensation = math.sqrt(sharp / det)
        opacity = opacities[i] * compensation if antialiased else float(opacities[i])
        extent = min(_MAX_EXTENT, math.sqrt(2.0 * math.log(max(opacity / MIN_ALPHA, 1.0))))
        radius_x = min(np.ceil(extent * math.sqrt(xx)), _MAX_RADIUS)
        radius_y = min(np.ceil(extent * math.sqrt(yy)), _MAX_RADIUS)
        # Written so that a NaN anywhere culls the Gaussian.
        seen = (
            z >= near and z <= far and radius_x > 0.0 and radius_y > 0.0
            and u + radius_x > 0.0 and u - radius_x < width and v + radius_y > 0.0 and v - radius_y < height
        )  # fmt: skip
        means2d[i, 0] = u if seen else 0.0
        means2d[i, 1] = v if seen else 0.0
        depths[i] = z if seen else 0.0
        factors[i, 0] = math.sqrt(yy / (2.0 * det)) if seen else 0.0
        factors[i, 1] = -xy / math.sqrt(2.0 * det * yy) if seen else 0.0
        factors[i, 2] = math.sqrt(0.5 / yy) if seen else 0.0
        compensations[i] = compensation if seen else 0.0
        radii[i, 0] = int(radius_x) if seen else 0
        radii[i, 1] = int(radius_y) if seen else 0


@njit(cache=True, error_model="numpy")
def _covariance_gradient(row_x, row_y, d_factors, d_compensation):
    """Gradients of the covariance (xx, xy, yy) from those of the three factors and the compensation."""
    xx, xy, yy = dot(row_x, row_x), dot(row_x, row_y), dot(row_y, row_y)
    sharp, det = _determinants(row_x, row_y)
    blurred = yy + EPS2D
    compensation = math.sqrt(sharp / det)
    d_f0 = d_factors[0] * math.sqrt(blurred / (2.0 * det))
    d_f1 = d_factors[1] * -xy / math.sqrt(2.0 * det * blurred)
    d_f2 = d_factors[2] * math.sqrt(0.5 / blurred)
    d_compensation = d_compensation * compensation
    d_det = -(d_f0 + d_f1 + d_compensation) / (2.0 * det)
    d_sharp = d_det + (d_compensation / (2.0 * sharp) if sharp > 0.0 else 0.0)
    d_xx = EPS2D * d_det + yy * d_sharp
    d_yy = EPS2D * d_det + xx * d_sharp + (d_f0 - d_f1 - d_f2) / (2.0 * blurred)
    d_xy = -2.0 * xy * d_sharp - d_factors[1] / math.sqrt(2.0 * det * blurred)
    return d_xx, d_xy, d_yy


@njit(cache=True, error_model="numpy")
def _backward_one(mean, quat, scale, r, t, intrinsics, width, height, d_mean2d, d_depth, d_factors, d_compensation):
    fx, fy, _, _ = intrinsics
    point, row_x, row_y, m, q, unit, norm, slopes = _footprint(mean, quat, scale, r, t, intrinsics, width, height)
    x, y, z = point
    slope_x, free_x, slope_y, free_y = slopes
    d_xx, d_xy, d_yy = _covariance_gradient(row_x, row_y, d_factors, d_compensation)
    d_row_x = combine(2.0 * d_xx, row_x, d_xy, row_y)
    d_row_y = combine(2.0 * d_yy, row_y, d_xy, row_x)
    # row_x = fx/z (m0 - slope_x m2)
    d_slope_x = -fx / z * dot(d_row_x, m[2]) if free_x else 0.0
    d_slope_y = -fy / z * dot(d_row_y, m[2]) if free_y else 0.0
    d_m0 = combine(fx / z, d_row_x, 0.0, d_row_x)
    d_m1 = combine(fy / z, d_row_y, 0.0, d_row_y)
    d_m2 = combine(-fx / z * slope_x, d_row_x, -fy / z * slope_y, d_row_y)
    d_x = (fx * d_mean2d[0] + d_slope_x) / z
    d_y = (fy * d_mean2d[1] + d_slope_y) / z
    d_z = d_depth - (d_x * x + d_y * y + dot(d_row_x, row_x) + dot(d_row_y, row_y)) / z
    d_point = (d_x, d_y, d_z)
    d_m = (d_m0, d_m1, d_m2)
    # m = r b with b = q diag(scale)
    inverse = transpose(r)
    d_b = matrix_matrix(inverse, d_m)
    d_mean = matrix_vector(inverse, d_point)
    d_r = matrix_matrix(d_m, transpose(scale_columns(q, scale)))
    columns_b, columns_q = transpose(d_b), transpose(q)
    d_scale = (
        dot(columns_b[0], columns_q[0]),
        dot(columns_b[1], columns_q[1]),
        dot(columns_b[2], columns_q[2]),
    )
    w, i, j, k = unit
    d_unit = rotation_gradient(w, i, j, k, scale_columns(d_b, scale))
    along = w * d_unit[0] + i * d_unit[1] + j * d_unit[2] + k * d_unit[3]
    d_quat = (
        (d_unit[0] - along * w) / norm,
        (d_unit[1] - along * i) / norm,
        (d_unit[2] - along * j) / norm,
        (d_unit[3] - along * k) / norm,
    )
    return d_mean, d_quat, d_scale, d_r, d_point


@njit(nogil=True, cache=True, error_model="numpy")
def backward(
    begin, end, means, quats, scales, radii, viewmat, K, width, height,
    d_means2d, d_depths, d_factors, d_compensations, d_means, d_quats, d_scales, d_viewmats,
):  # fmt: skip
    """Add one camera's gradients to d_means, d_quats, d_scales, and by block to d_viewmats [blocks,4,4]."""
    count = means.shape[0]
    r, t, intrinsics = _read_camera(viewmat, K)
    for block in range(begin, end):
        for i in range(count * block // _BLOCKS, count * (block + 1) // _BLOCKS):
            if radii[i, 0] == 0:
                continue
            mean = (float(means[i, 0]), float(means[i, 1]), float(means[i, 2]))
            d_mean, d_quat, d_scale, d_r, d_t = _backward_one(
                mean,
                (float(quats[i, 0]), float(quats[i, 1]), float(quats[i, 2]), float(quats[i, 3])),
                (float(scales[i, 0]), float(scales[i, 1]), float(scales[i, 2])),
                r, t, intrinsics, width, height,
                (float(d_means2d[i, 0]), float(d_means2d[i, 1])),
                float(d_depths[i]),
                (float(d_factors[i, 0]), float(d_factors[i, 1]), float(d_factors[i, 2])),
                float(d_compensations[i]),
            )  # fmt: skip
            for a in range(3):
                d_means[i, a] += d_mean[a]
                d_scales[i, a] += d_scale[a]
                for b in range(3):
                    d_viewmats[block, a, b] += d_r[a][b] + d_t[a] * mean[b]
                d_viewmats[block, a, 3] += d_t[a]
            for a in range(4):
                d_quats[i, a] += d_quat[a]


class Project(torch.autograd.Function):
    """Gaussians [N,...] and cameras [C,...] to means2d, depths, factors, compensations, radii [C,N,...]."""

    @staticmethod
    def forward(ctx, means, quats, scales, opacities, viewmats, Ks, width, height, near, far, antialiased) -> Any:
        cameras, count = viewmats.shape[0], means.shape[0]
        means2d = torch.empty(cameras, count, 2)
        depths = torch.empty(cameras, count)
        factors = torch.empty(cameras, count, 3)
        compensations = torch.empty(cameras, count)
        radii = torch.empty(cameras, count, 2, dtype=torch.int32)
        inputs = [x.numpy() for x in (means, quats, scales, opacities)]
        outputs = [x.numpy() for x in (means2d, depths, factors, compensations, radii)]
        views, intrinsics = viewmats.numpy(), Ks.numpy()
        for c in range(cameras):
            share(
                forward, count, 2048, *inputs, views[c], intrinsics[c], float(width), float(height),
                float(near), float(far), antialiased, *(x[c] for x in outputs),
            )  # fmt: skip
        ctx.save_for_backward(means, quats, scales, viewmats, Ks, radii)
        ctx.size = float(width), float(height)
        ctx.mark_non_differentiable(radii)
        return means2d, depths, factors, compensations, radii

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Any:
        means, quats, scales, viewmats, Ks, radii = ctx.saved_tensors
        results = [torch.zeros_like(x) for x in (means, quats, scales)]
        d_viewmats = torch.zeros_like(viewmats)
        inputs = [x.numpy() for x in (means, quats, scales)]
        d_outputs = [x.contiguous().numpy() for x in grads[:4]]
        d_inputs = [x.numpy() for x in results]
        for c in range(viewmats.shape[0]):
            partial = np.zeros((_BLOCKS, 4, 4))
            share(
                backward, _BLOCKS, 1 + _BLOCKS * 1024 // max(len(means), 1), *inputs, radii[c].numpy(),
                viewmats[c].numpy(), Ks[c].numpy(), *ctx.size, *(x[c] for x in d_outputs), *d_inputs, partial,
            )  # fmt: skip
            d_viewmats[c] = torch.from_numpy(partial.sum(0))
        return *results, None, d_viewmats, None, None, None, None, None, None
