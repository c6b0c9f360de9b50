"""Sparse 3D convolutions in plain torch: a U-Net over the voxels that hold something.

Which voxels are neighbours is found once for all layers of a level (`Level`), by binary search in sorted keys. A
convolution then gathers rows, multiplies them with the weight of each offset and adds them up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

OFFSETS = tuple(product((-1, 0, 1), repeat=3))
"""Neighbours of a 3×3×3 kernel, in the order of its weights."""
_CENTER = OFFSETS.index((0, 0, 0))


@dataclass(frozen=True)
class Level:
    """Occupied voxels of one size, and who is next to whom."""

    coordinates: Tensor
    """[N, 3] int64, sorted by `_keys`, at least 0."""
    shape: tuple[int, int, int]
    """Voxels of the grid along each axis."""
    neighbours: list[tuple[Tensor, Tensor]]
    """For each of OFFSETS: rows that have such a neighbour, and the neighbours' rows."""
    parents: Tensor | None
    """[N] int64: row in the next level, whose voxels are twice as long; None at the last."""
    corners: list[Tensor] | None
    """For each of the 8 places in a parent: the rows that are there."""


def levels(coordinates: Tensor, shape: tuple[int, int, int], count: int) -> list[Level]:
    """The pyramid of a set of voxels.

    Args:
        coordinates: [N, 3] int64, distinct, in any order; `Level.coordinates` of the first level has them sorted.
        shape: voxels of the grid along each axis.
        count: levels, each of half as many voxels along an axis.
    """
    found: list[Level] = []
    coordinates = coordinates[torch.argsort(_keys(coordinates, shape))]
    for number in range(count):
        half = ((shape[0] + 1) // 2, (shape[1] + 1) // 2, (shape[2] + 1) // 2)
        parents = corners = above = None
        if number + 1 < count:
            upper = _keys(coordinates // 2, half)
            keys, parents = torch.unique(upper, return_inverse=True)
            above = _coordinates(keys, half)
            place = (coordinates % 2 * torch.tensor([4, 2, 1], device=coordinates.device)).sum(1)
            corners = [torch.nonzero(place == corner)[:, 0] for corner in range(8)]
        found.append(Level(coordinates, shape, _neighbours(coordinates, shape), parents, corners))
        if above is not None:
            coordinates, shape = above, half
    return found


def _keys(coordinates: Tensor, shape: tuple[int, ...]) -> Tensor:
    x, y, z = coordinates.unbind(1)
    return (x * shape[1] + y) * shape[2] + z


def _coordinates(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    z, rest = keys % shape[2], keys // shape[2]
    return torch.stack([rest // shape[1], rest % shape[1], z], dim=1)


def _neighbours(coordinates: Tensor, shape: tuple[int, int, int]) -> list[tuple[Tensor, Tensor]]:
    keys = _keys(coordinates, shape)
    size = torch.tensor(shape, device=keys.device)
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for number, offset in enumerate(OFFSETS[:_CENTER]):
        there = coordinates + torch.tensor(offset, device=keys.device)
        inside = ((there >= 0) & (there < size)).all(dim=1)
        wanted = _keys(there, shape)
        at = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
        rows = torch.nonzero(inside & (keys[at] == wanted))[:, 0]
        found[number] = rows, at[rows]
        found[len(OFFSETS) - 1 - number] = at[rows], rows  # the opposite neighbour
    everywhere = torch.arange(len(keys), device=keys.device)
    found[_CENTER] = everywhere, everywhere
    return [found[number] for number in range(len(OFFSETS))]


class SubmanifoldConv(nn.Module):
    """3×3×3 convolution whose output lies where the input does (Graham and van der Maaten 2017)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = _weight(len(OFFSETS), channels_in, channels_out)

    def forward(self, features: Tensor, level: Level) -> Tensor:
        """[N, channels_in] to [N, channels_out]."""
        out = features @ self.weight[_CENTER]
        for number, (rows, neighbours) in enumerate(level.neighbours):
            if number != _CENTER and len(rows):
                out = out.index_add(0, rows, features[neighbours] @ self.weight[number])
        return out


class Down(nn.Module):
    """2×2×2 convolution of stride 2."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = _weight(8, channels_in, channels_out)

    def forward(self, features: Tensor, level: Level, count: int) -> Tensor:
        """[N, channels_in] of a level to [count, channels_out] of the next."""
        assert level.parents is not None
        assert level.corners is not None
        out = features.new_zeros((count, self.weight.shape[2]))
        for corner, rows in enumerate(level.corners):
            out = out.index_add(0, level.parents[rows], features[rows] @ self.weight[corner])
        return out


class Up(nn.Module):
    """The transpose of `Down`, back to the voxels that were there."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = _weight(8, channels_in, channels_out)

    def forward(self, features: Tensor, level: Level) -> Tensor:
        """[M, channels_in] of the next level to [N, channels_out] of a level."""
        assert level.parents is not None
        assert level.corners is not None
        out = features.new_zeros((len(level.parents), self.weight.shape[2]))
        for corner, rows in enumerate(level.corners):
            out = out.index_copy(0, rows, features[level.parents[rows]] @ self.weight[corner])
        return out


def _weight(places: int, channels_in: int, channels_out: int) -> nn.Parameter:
    """[places, channels_in, channels_out], as wide as He et al. 2015 have it for all places occupied."""
    bound = math.sqrt(6 / (places * channels_in))
    return nn.Parameter(torch.empty((places, channels_in, channels_out)).uniform_(-bound, bound))


class _Norm(nn.Module):
    """Batch normalisation over the voxels of the clip at hand, in use as in training: one clip is a batch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        variance, mean = torch.var_mean(features, dim=0, correction=0)
        return (features - mean) * torch.rsqrt(variance + 1e-5) * self.scale + self.shift


class _Block(nn.Module):
    """Convolution, normalisation, LeakyReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolution = SubmanifoldConv(channels_in, channels_out)
        self.norm = _Norm(channels_out)

    def forward(self, features: Tensor, level: Level) -> Tensor:
        return nn.functional.leaky_relu(self.norm(self.convolution(features, level)), 0.1)


class SparseUNet(nn.Module):
    """Encoder and decoder over the levels of a pyramid, with skips by concatenation.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        channels: of each level, finest first.
        blocks: convolutions of each level, on the way down and on the way up.
    """

    def __init__(self, channels_in: int, channels_out: int, channels: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.channels = channels
        above = list(channels[1:])
        first = [channels_in, *above]
        self.encoder = nn.ModuleList(_blocks(given, own, blocks) for given, own in zip(first, channels, strict=True))
        self.down = nn.ModuleList(Down(own, upper) for own, upper in zip(channels, above, strict=False))
        self.up = nn.ModuleList(Up(upper, own) for own, upper in zip(channels, above, strict=False))
        self.decoder = nn.ModuleList(_blocks(2 * own, own, blocks) for own in channels[:-1])
        self.last = nn.Linear(channels[0], channels_out)

    def forward(self, features: Tensor, pyramid: list[Level]) -> Tensor:
        """[N, channels_in] of the voxels of the first level, in its order, to [N, channels_out]."""
        skips = []
        for number, level in enumerate(pyramid):
            features = _through(self.encoder[number], features, level)
            if number + 1 < len(pyramid):
                skips.append(features)
                features = self.down[number](features, level, len(pyramid[number + 1].coordinates))
        for number in reversed(range(len(pyramid) - 1)):
            raised = self.up[number](features, pyramid[number])
            features = _through(self.decoder[number], torch.cat([raised, skips[number]], dim=1), pyramid[number])
        out: Tensor = self.last(features)
        return out


def _blocks(channels_in: int, channels_out: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(_Block(channels_in if number == 0 else channels_out, channels_out) for number in range(count))


def _through(blocks: nn.Module, features: Tensor, level: Level) -> Tensor:
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        features = block(features, level)
    return features
