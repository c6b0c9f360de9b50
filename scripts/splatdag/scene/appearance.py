"""Colours that depend on the photo (`app_opt`): a small network, a code per training photo, features per Gaussian.

After Martin-Brualla et al., NeRF in the Wild (2021); sizes and names of the tensors are simple_trainer's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

FEATURES = 32
"""Numbers that a Gaussian has in place of spherical harmonics."""
_WIDTH = 64


class Appearance(nn.Module):
    """Colours of Gaussians as seen from a camera, in the light of a photo."""

    def __init__(self, views: int, embed_dim: int, sh_degree: int, generator: torch.Generator) -> None:
        super().__init__()
        self.sh_degree = sh_degree
        self.embeds = nn.Embedding.from_pretrained(torch.randn((views, embed_dim), generator=generator), freeze=False)
        sizes = [embed_dim + FEATURES + (sh_degree + 1) ** 2, _WIDTH, _WIDTH, 3]
        hidden = [nn.Linear(sizes[0], sizes[1]), nn.Linear(sizes[1], sizes[2])]
        last = nn.Linear(sizes[2], sizes[3])
        for layer in hidden:
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        with torch.no_grad():
            # A degree of the directions adds nothing before it is trained, whatever degree an evaluation asks for.
            hidden[0].weight[:, embed_dim + FEATURES + 1 :] = 0
        nn.init.zeros_(last.weight)  # the network adds nothing at the start
        nn.init.zeros_(last.bias)
        self.color_head = nn.Sequential(hidden[0], nn.ReLU(), hidden[1], nn.ReLU(), last)

    def forward(
        self, features: Tensor, colors: Tensor, directions: Tensor, sh_degree: int, views: Tensor | None
    ) -> Tensor:
        """Compute colours [C, N, 3] in [0, 1].

        Args:
            features: [N, 32] of the Gaussians.
            colors: [N, 3] logits that the network's answer is added to.
            directions: [C, N, 3] from each camera to each Gaussian, of any length; zero is no direction.
            sh_degree: degree of the spherical harmonics of the direction that are used.
            views: [C] indices of the training photos whose codes are used; None is a code of zeros.
        """
        cameras, count = directions.shape[:2]
        width = self.embeds.weight.shape[1]
        code = directions.new_zeros(cameras, width) if views is None else self.embeds(views)
        bases = directions.new_zeros(cameras, count, (self.sh_degree + 1) ** 2)
        bases[..., : (sh_degree + 1) ** 2] = harmonics(normalize(directions, dim=-1), sh_degree)
        inputs = torch.cat([code[:, None].expand(-1, count, -1), features[None].expand(cameras, -1, -1), bases], dim=-1)
        return torch.sigmoid(self.color_head(inputs) + colors)


def harmonics(directions: Tensor, degree: int) -> Tensor:
    """Return real spherical harmonics [..., (degree + 1)²] of unit vectors [..., 3]; signs of 3D Gaussian splatting."""
    x, y, z = directions.unbind(dim=-1)
    values = [torch.full_like(x, 0.28209479177387814)]
    if degree > 0:
        values += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        values += [
            1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (3 * z * z - 1),
            -1.0925484305920792 * x * z, 0.5462742152960396 * (x * x - y * y),
        ]  # fmt: skip
    if degree > 2:
        values += [
            -0.5900435899266435 * y * (3 * x * x - y * y), 2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5 * z * z - 1), 0.3731763325901154 * z * (5 * z * z - 3),
            -0.4570457994644658 * x * (5 * z * z - 1), 1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]  # fmt: skip
    return torch.stack(values, dim=-1)
