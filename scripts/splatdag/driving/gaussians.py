"""Gaussians of a driving clip, with what they were measured as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

LARGEST_SCALE = 1.0
"""Largest standard deviation (m) of a Gaussian that is not of the backdrop."""


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians of a clip, as the network takes and changes them (14 numbers each), with their times."""

    means: Tensor
    """[N, 3] metres."""
    quats: Tensor
    """[N, 4] wxyz, of any length."""
    scales: Tensor
    """[N, 3]: softplus of it is the standard deviation in metres; begins as the logarithm of the spacing."""
    opacities: Tensor
    """[N]: sigmoid of it."""
    colors: Tensor
    """[N, 3]: sigmoid of it is RGB."""
    times: Tensor
    """[N] clip time at which the point was measured, where the mean is its place."""
    backdrop: Tensor
    """[N] bool: not measured, but the input images far behind; it does not move, and its scale has no upper bound."""
    frames: Tensor
    """[N] int16: frame of the clip that it was seen in; -1 for the backdrop."""

    def __len__(self) -> int:
        return len(self.means)

    def activated(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return quats [N, 4] of length one, scales [N, 3] in metres, opacities [N] and colours [N, 3] in 0 to 1."""
        scales = functional.softplus(self.scales)
        scales = torch.where(self.backdrop[:, None], scales, scales.clamp_max(LARGEST_SCALE))
        return (
            functional.normalize(self.quats, dim=1),
            scales,
            torch.sigmoid(self.opacities),
            torch.sigmoid(self.colors),
        )

    def each(self, change: Callable[[Tensor], Tensor]) -> Gaussians:
        """Return a copy with every tensor changed."""
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})
