"""A second implementation of `splatdag.splats.render`: dense, float64, plain torch, gradients by autograd.

Every Gaussian meets every pixel; no tiles, no bounds. Written from the papers and gsplat's documented
conventions, not from the code under test: covariance matrices and their inverses, explicit products,
associated Legendre polynomials for the harmonics.
"""

import math

import torch
from torch import Tensor


def rotation_matrices(quats: Tensor) -> Tensor:
    """[N,3,3] of quaternions [N,4] wxyz, by rotating the three unit vectors: v + 2w(a×v) + 2a×(a×v)."""
    unit = quats / quats.norm(dim=-1, keepdim=True)
    w, a = unit[:, :1, None], unit[:, None, 1:]
    basis = torch.eye(3, dtype=quats.dtype).expand(len(quats), 3, 3)
    cross = torch.linalg.cross(a.expand_as(basis), basis)
    rotated = basis + 2 * w * cross + 2 * torch.linalg.cross(a.expand_as(basis), cross)
    return rotated.transpose(1, 2)


def harmonics(degree: int, directions: Tensor) -> Tensor:
    """[N,(degree+1)²] real harmonics, from Legendre polynomials and the Condon-Shortley phase."""
    x, y, z = (directions / directions.norm(dim=-1, keepdim=True)).unbind(-1)
    columns = []
    for level in range(degree + 1):
        for m in range(-level, level + 1):
            k = abs(m)
            factor = math.sqrt((2 * level + 1) / (4 * math.pi) * math.factorial(level - k) / math.factorial(level + k))
            planar = (x + 1j * y) ** k  # sinθ^k e^{ikφ}
            trig = planar.real if m >= 0 else planar.imag
            columns.append(factor * (1 if m == 0 else math.sqrt(2)) * trig * _legendre_over_sine(level, k, z))
    return torch.stack(columns, -1)


def _legendre_over_sine(level: int, m: int, z: Tensor) -> Tensor:
    """P_level^m(z) / (1-z²)^(m/2), with the phase (-1)^m, by the upward recurrence in level."""
    previous, current = torch.zeros_like(z), torch.full_like(z, (-1.0) ** m * math.prod(range(1, 2 * m, 2)))
    for n in range(m + 1, level + 1):
        previous, current = current, ((2 * n - 1) * z * current - (n + m - 1) * previous) / (n - m)
    return current


def project(means, quats, scales, viewmat, K, width, height):
    """Camera-space means [N,3], pixel means [N,2] and screen-space covariances [N,2,2] without blur."""
    R, t = viewmat[:3, :3], viewmat[:3, 3]
    points = means @ R.T + t
    frame = rotation_matrices(quats)
    covariance = R @ (frame * scales[:, None, :] ** 2) @ frame.transpose(1, 2) @ R.T
    x, y, z = points.unbind(-1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x, margin_y = 0.3 * width / (2 * fx), 0.3 * height / (2 * fy)
    tx = z * torch.clamp(x / z, -(cx / fx + margin_x), (width - cx) / fx + margin_x)
    ty = z * torch.clamp(y / z, -(cy / fy + margin_y), (height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack((fx / z, zero, -fx * tx / z**2, zero, fy / z, -fy * ty / z**2), -1).view(-1, 2, 3)
    pixels = torch.stack((fx * x / z + cx, fy * y / z + cy), -1)
    return points, pixels, jacobian @ covariance @ jacobian.transpose(1, 2)


def render_dense(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, *,
    sh_degree=None, near_plane=0.01, far_plane=1e10, render_mode="RGB", backgrounds=None, antialiased=False,
):  # fmt: skip
    """As `render`; the third result holds means2d (a list), exponent gradients' inputs and `settled` [C,H,W].

    `settled` is False where a rounding error could decide: an alpha near 1/255 or a transmittance near 1e-4.
    """
    images, alphas, settled, pixels_of = [], [], [], []
    for c in range(len(viewmats)):
        points, pixels, sharp = project(means, quats, scales, viewmats[c], Ks[c], width, height)
        pixels_of.append(pixels)
        blurred = sharp + 0.3 * torch.eye(2, dtype=means.dtype)
        strength = opacities
        if antialiased:
            strength = strength * (torch.linalg.det(sharp) / torch.linalg.det(blurred)).clamp_min(0).sqrt()
        with torch.no_grad():
            extent = (2 * torch.log((strength * 255).clamp_min(1))).sqrt().clamp_max(3.33)
            radii = torch.ceil(extent[:, None] * blurred.diagonal(dim1=1, dim2=2).sqrt())
            size = torch.tensor([width, height])
            inside = ((pixels + radii > 0) & (pixels - radii < size)).all(-1)
            z = points[:, 2]
            visible = inside & (strength >= 1 / 255) & (z >= near_plane) & (z <= far_plane)
            index = torch.nonzero(visible)[:, 0]
            index = index[torch.argsort(z[index], stable=True)]
        features = []
        if render_mode.startswith("RGB"):
            if sh_degree is None:
                features.append(colors[index])
            else:
                centre = torch.linalg.inv(viewmats[c])[:3, 3]
                basis = harmonics(sh_degree, means[index] - centre)
                value = torch.einsum("nk,nkd->nd", basis, colors[index, : basis.shape[1]])
                features.append((value + 0.5).clamp_min(0))
        if render_mode.endswith("D"):
            features.append(points[index, 2:])
        feature = torch.cat(features, -1)

        v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        grid = torch.stack((u, v), -1).to(means.dtype)
        offset = pixels[index] - grid[:, :, None]
        exponent = 0.5 * torch.einsum("hwni,nij,hwnj->hwn", offset, torch.linalg.inv(blurred[index]), offset)
        raw = strength[index] * torch.exp(-exponent)
        alpha = torch.where(raw >= 1 / 255, raw.clamp_max(0.999), torch.zeros_like(raw))
        behind = torch.cumprod(1 - alpha, -1)
        drawn = behind > 1e-4  # the product never grows, so this also ends a pixel for good
        alpha = torch.where(drawn, alpha, torch.zeros_like(alpha))
        after = torch.cumprod(1 - alpha, -1)
        before = torch.cat((torch.ones_like(after[..., :1]), after[..., :-1]), -1)
        image = torch.einsum("hwn,nd->hwd", alpha * before, feature)
        total = 1 - (after[..., -1:] if len(index) else torch.ones(height, width, 1, dtype=means.dtype))
        if backgrounds is not None and render_mode.startswith("RGB"):
            extra = feature.shape[1] - backgrounds.shape[1]
            image = image + (1 - total) * torch.nn.functional.pad(backgrounds[c], (0, extra))
        if render_mode.endswith("ED"):
            image = torch.cat((image[..., :-1], image[..., -1:] / total.clamp_min(1e-10)), -1)
        images.append(image)
        alphas.append(total)
        near_cut = ((raw * 255 - 1).abs() < 1e-3) & (before > 0)
        near_end = (behind / 1e-4 - 1).abs() < 1e-2
        settled.append(~(near_cut | near_end).any(-1))
    info = {"means2d": pixels_of, "settled": torch.stack(settled)}
    return torch.stack(images), torch.stack(alphas), info
