"""Flux4D: a network that sees the Gaussians a clip begins with, corrects them and tells how they move.

After arXiv 2512.03210: a sparse U-Net over voxels (base model), then steps that see the gradient of the loss on the
input frames (iterative refinement). All heads begin at zero, so that an untrained network returns what it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from splatdag.driving.gaussians import Gaussians
from splatdag.driving.network.sparse import SparseUNet
from splatdag.driving.network.voxels import Grid, Voxels, voxelised
from splatdag.driving.network_options import ModelOptions

NUMBERS = 14
"""Count of the numbers that describe a Gaussian: mean, quaternion, scale, opacity, colour."""
KNOWN = NUMBERS + 2
"""Count of the network's inputs of a Gaussian: its numbers, its time, and whether it is of the backdrop."""
_METRES = 10.0
"""Unit of the velocity head: metres per clip time."""
_SIZES = (3, 4, 3, 1, 3)


@dataclass(frozen=True)
class Moving:
    """Gaussians and their motion."""

    gaussians: Gaussians
    velocities: Tensor
    """[N, D, 3] metres per clip time: v(t) = Σ v_j t^j."""


Feedback = Callable[[Moving], Tensor]
"""[N, NUMBERS]: gradient of the loss on the input frames with respect to `numbers` of the Gaussians."""


def numbers(gaussians: Gaussians) -> Tensor:
    """[N, NUMBERS]: what a Gaussian is stored as."""
    g = gaussians
    return torch.cat([g.means, g.quats, g.scales, g.opacities[:, None], g.colors], dim=1)


def with_numbers(gaussians: Gaussians, given: Tensor) -> Gaussians:
    """Gaussians that are stored as `given` [N, NUMBERS]; times and backdrop stay."""
    means, quats, scales, opacities, colors = given.split(_SIZES, dim=1)
    return replace(gaussians, means=means, quats=quats, scales=scales, opacities=opacities[:, 0], colors=colors)


class Flux4D(nn.Module):
    """The base network and, with more than one iteration, the refining one."""

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        self.grid = Grid.of(options.point_cloud_range, options.voxel_size)
        self.terms = options.motion_degree + 1
        self.base = _Network(KNOWN, NUMBERS + 3 * self.terms, options)
        self.refining = _Network(KNOWN + NUMBERS, NUMBERS, options) if options.iterations > 1 else None

    def voxels(self, start: Gaussians) -> Voxels:
        """Sort a clip's initial Gaussians into the grid's voxels, which are the same for all steps."""
        return voxelised(start.means, self.grid, len(self.options.channels))

    def forward(self, start: Gaussians, feedback: Feedback | None = None, voxels: Voxels | None = None) -> list[Moving]:
        """Correct a clip's initial Gaussians and predict their motion: a result after each step, the last is the best.

        Args:
            start: of the clip.
            feedback: gradients for the later steps; without, only the base model runs.
            voxels: of the first Gaussians, if they are known already.
        """
        voxels = voxels or self.voxels(start)
        found = self.base(self._known(start), voxels)
        still = start.backdrop[:, None, None]
        velocities = _METRES * found[:, NUMBERS:].reshape(-1, self.terms, 3).masked_fill(still, 0.0)
        results = [Moving(self._corrected(start, found[:, :NUMBERS]), velocities)]
        for _ in range(self.options.iterations - 1 if feedback else 0):
            assert feedback is not None
            assert self.refining is not None
            gaussians = results[-1].gaussians
            known = torch.cat([self._known(gaussians), _compressed(feedback(results[-1]))], dim=1)
            results.append(Moving(self._corrected(gaussians, self.refining(known, voxels)), velocities))
        return results

    def _known(self, gaussians: Gaussians) -> Tensor:
        """[N, KNOWN] for the network, of about unit size; the backdrop's place tells its direction."""
        extent = max(abs(value) for value in self.options.point_cloud_range)
        means = gaussians.means / extent
        means = means / means.norm(dim=1, keepdim=True).clamp_min(1)
        scales = torch.where(gaussians.backdrop[:, None], torch.zeros_like(gaussians.scales), gaussians.scales / 4)
        own = torch.cat([means, gaussians.quats, scales, gaussians.opacities[:, None] / 4, gaussians.colors / 4], dim=1)
        return torch.cat([own, gaussians.times[:, None], gaussians.backdrop[:, None].to(own.dtype)], dim=1)

    def _corrected(self, gaussians: Gaussians, change: Tensor) -> Gaussians:
        """A change [N, NUMBERS] applied; a mean moves by less than a voxel, and the backdrop stays where it is."""
        shift, rest = torch.tanh(change[:, :3]) * self.grid.size, change[:, 3:]
        shift = shift.masked_fill(gaussians.backdrop[:, None], 0.0)
        moved = with_numbers(gaussians, numbers(gaussians) + torch.cat([shift, rest], dim=1))
        return replace(moved, quats=functional.normalize(moved.quats, dim=1))


class _Network(nn.Module):
    """Means over voxels through a U-Net, back to the points, and a head that also sees the point itself."""

    def __init__(self, channels_in: int, channels_out: int, options: ModelOptions) -> None:
        super().__init__()
        self.unet = SparseUNet(channels_in, options.features, options.channels, options.blocks)
        self.hidden = nn.Linear(options.features + channels_in, options.features)
        self.head = nn.Linear(options.features, channels_out)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, known: Tensor, voxels: Voxels) -> Tensor:
        around = voxels.spread(self.unet(voxels.mean(known), voxels.pyramid), len(known))
        out: Tensor = self.head(functional.leaky_relu(self.hidden(torch.cat([around, known], dim=1)), 0.1))
        return out


def _compressed(gradient: Tensor) -> Tensor:
    """Gradients of any size to about unit size, channel by channel; no gradient flows through them."""
    gradient = gradient.detach()
    typical = gradient.square().mean(dim=0, keepdim=True).sqrt().clamp_min(1e-12)
    return torch.sign(gradient) * torch.log1p(gradient.abs() / typical)
