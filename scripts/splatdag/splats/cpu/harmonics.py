"""View-dependent colour from spherical harmonics on the CPU, forward and backward.

Real harmonics up to degree 3 in the order and with the signs of gsplat and 3D Gaussian Splatting; constants
from Sloan, Efficient Spherical Harmonic Evaluation, JCGT 2 (2013).
"""

# mypy: ignore-errors

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from splatdag.splats.cpu.threads import share

_BLOCKS = 64  # partial sums of the camera gradient; fixed, so that it does not depend on the number of threads
_0 = 0.28209479177387814
_1 = 0.4886025119029199
_2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
_3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


@njit(cache=True, error_model="numpy")
def _basis(degree, x, y, z, basis):
    basis[0] = _0
    if degree >= 1:
        basis[1] = -_1 * y
        basis[2] = _1 * z
        basis[3] = -_1 * x
    if degree >= 2:
        basis[4] = _2[0] * x * y
        basis[5] = -_2[0] * y * z
        basis[6] = _2[1] * (3.0 * z * z - 1.0)
        basis[7] = -_2[0] * x * z
        basis[8] = _2[2] * (x * x - y * y)
    if degree >= 3:
        basis[9] = -_3[0] * y * (3.0 * x * x - y * y)
        basis[10] = _3[1] * x * y * z
        basis[11] = -_3[2] * y * (5.0 * z * z - 1.0)
        basis[12] = _3[3] * z * (5.0 * z * z - 3.0)
        basis[13] = -_3[2] * x * (5.0 * z * z - 1.0)
        basis[14] = _3[4] * z * (x * x - y * y)
        basis[15] = -_3[0] * x * (x * x - 3.0 * y * y)


@njit(cache=True, error_model="numpy")
def _basis_gradient(degree, x, y, z, d):
    """Gradient of sum(d·basis) by the direction, whose length is treated as free."""
    gx, gy, gz = 0.0, 0.0, 0.0
    if degree >= 1:
        gx -= _1 * d[3]
        gy -= _1 * d[1]
        gz += _1 * d[2]
    if degree >= 2:
        gx += _2[0] * (y * d[4] - z * d[7]) + 2.0 * _2[2] * x * d[8]
        gy += _2[0] * (x * d[4] - z * d[5]) - 2.0 * _2[2] * y * d[8]
        gz += -_2[0] * (y * d[5] + x * d[7]) + 6.0 * _2[1] * z * d[6]
    if degree >= 3:
        gx += -6.0 * _3[0] * x * y * d[9] + _3[1] * y * z * d[10] - _3[2] * (5.0 * z * z - 1.0) * d[13]
        gx += 2.0 * _3[4] * x * z * d[14] - 3.0 * _3[0] * (x * x - y * y) * d[15]
        gy += -3.0 * _3[0] * (x * x - y * y) * d[9] + _3[1] * x * z * d[10] - _3[2] * (5.0 * z * z - 1.0) * d[11]
        gy += -2.0 * _3[4] * y * z * d[14] + 6.0 * _3[0] * x * y * d[15]
        gz += _3[1] * x * y * d[10] - 10.0 * _3[2] * z * (y * d[11] + x * d[13])
        gz += _3[3] * (15.0 * z * z - 3.0) * d[12] + _3[4] * (x * x - y * y) * d[14]
    return gx, gy, gz


@njit(cache=True, error_model="numpy")
def _direction(means, centre, i):
    x, y, z = means[i, 0] - centre[0], means[i, 1] - centre[1], means[i, 2] - centre[2]
    distance = math.sqrt(x * x + y * y + z * z)
    inverse = 1.0 / distance if distance > 0.0 else 0.0
    return x * inverse, y * inverse, z * inverse, inverse


@njit(nogil=True, cache=True, error_model="numpy")
def forward(begin, end, degree, means, coefficients, centre, radii, colors):
    """colors [N,3] = max(0, ½ + basis(direction)·coefficients); ½ where culled."""
    basis = np.empty(16, np.float32)
    for i in range(begin, end):
        red, green, blue = np.float32(0.5), np.float32(0.5), np.float32(0.5)
        if radii[i, 0] > 0:
            x, y, z, _ = _direction(means, centre, i)
            _basis(degree, x, y, z, basis)
            for k in range((degree + 1) * (degree + 1)):
                red += basis[k] * coefficients[i, k, 0]
                green += basis[k] * coefficients[i, k, 1]
                blue += basis[k] * coefficients[i, k, 2]
        colors[i, 0] = max(red, np.float32(0.0))
        colors[i, 1] = max(green, np.float32(0.0))
        colors[i, 2] = max(blue, np.float32(0.0))


@njit(nogil=True, cache=True, error_model="numpy")
def backward(
    begin,
    end,
    degree,
    means,
    coefficients,
    centre,
    radii,
    colors,
    d_colors,
    d_means,
    d_coefficients,
    d_centres,
):
    """Add one camera's gradients to d_means and d_coefficients, and by block to d_centres [blocks,3]."""
    count = means.shape[0]
    basis = np.empty(16, np.float32)
    d_basis = np.empty(16, np.float32)
    for block in range(begin, end):
        for i in range(count * block // _BLOCKS, count * (block + 1) // _BLOCKS):
            if radii[i, 0] == 0:
                continue
            x, y, z, inverse = _direction(means, centre, i)
            _basis(degree, x, y, z, basis)
            red = d_colors[i, 0] if colors[i, 0] > 0.0 else np.float32(0.0)
            green = d_colors[i, 1] if colors[i, 1] > 0.0 else np.float32(0.0)
            blue = d_colors[i, 2] if colors[i, 2] > 0.0 else np.float32(0.0)
            for k in range((degree + 1) * (degree + 1)):
                d_coefficients[i, k, 0] += basis[k] * red
                d_coefficients[i, k, 1] += basis[k] * green
                d_coefficients[i, k, 2] += basis[k] * blue
                d_basis[k] = coefficients[i, k, 0] * red + coefficients[i, k, 1] * green + coefficients[i, k, 2] * blue
            if degree > 0:
                gx, gy, gz = _basis_gradient(degree, x, y, z, d_basis)
                along = gx * x + gy * y + gz * z
                gx, gy, gz = (
                    (gx - along * x) * inverse,
                    (gy - along * y) * inverse,
                    (gz - along * z) * inverse,
                )
                d_means[i, 0] += gx
                d_means[i, 1] += gy
                d_means[i, 2] += gz
                d_centres[block, 0] -= gx
                d_centres[block, 1] -= gy
                d_centres[block, 2] -= gz


class Harmonics(torch.autograd.Function):
    """means [N,3], coefficients [N,K,3], camera centres [C,3], radii [C,N,2] to colors [C,N,3]."""

    @staticmethod
    def forward(ctx, degree, means, coefficients, centres, radii) -> Tensor:
        colors = torch.empty(*radii.shape[:2], 3)
        for c in range(radii.shape[0]):
            share(
                forward, len(means), 4096, degree, means.numpy(), coefficients.numpy(), centres[c].numpy(),
                radii[c].numpy(), colors[c].numpy(),
            )  # fmt: skip
        ctx.degree = degree
        ctx.save_for_backward(means, coefficients, centres, radii, colors)
        return colors

    @staticmethod
    def backward(ctx, d_colors: Tensor) -> Any:
        means, coefficients, centres, radii, colors = ctx.saved_tensors
        d_means, d_coefficients, d_centres = (torch.zeros_like(x) for x in (means, coefficients, centres))
        d_colors = d_colors.contiguous()
        for c in range(radii.shape[0]):
            partial = np.zeros((_BLOCKS, 3))
            share(
                backward, _BLOCKS, 1 + _BLOCKS * 4096 // max(len(means), 1), ctx.degree,
                means.numpy(), coefficients.numpy(), centres[c].numpy(), radii[c].numpy(), colors[c].numpy(),
                d_colors[c].numpy(), d_means.numpy(), d_coefficients.numpy(), partial,
            )  # fmt: skip
            d_centres[c] = torch.from_numpy(partial.sum(0))
        return None, d_means, d_coefficients, d_centres, None
