"""Sparse 3D convolutions in plain torch: a U-Net over the voxels that hold something.

Which voxels are neighbours is found once for all layers of a level (`Level`), by binary search in sorted keys. A
convolution gathers the rows of all neighbours, zeros where there is none, and is one product of matrices then; so is
its gradient, since whoever is a neighbour has one. Nothing is added up in an order that could change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

OFFSETS = tuple(product((-1, 0, 1), repeat=3))
"""Neighbours of a 3×3×3 kernel, in the order of its weights."""


@dataclass(frozen=True)
class Level:
    """Occupied voxels of one size, and who is next to whom."""

    coordinates: Tensor
    """[N, 3] int64, sorted by `_keys`, at least 0."""
    shape: tuple[int, int, int]
    """Voxels of the grid along each axis."""
    neighbours: Tensor
    """[N, 27] int64: rows of the neighbours in the order of OFFSETS; N where there is none."""
    places: Tensor | None
    """[N] int64: 8 times the row in the next level, whose voxels are twice as long, and which of its eight parts this
    voxel is; None at the last."""


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
        places = above = None
        if number + 1 < count:
            keys, parents = torch.unique(_keys(coordinates // 2, half), return_inverse=True)
            above = _coordinates(keys, half)
            places = 8 * parents + (coordinates % 2 * coordinates.new_tensor([4, 2, 1])).sum(1)
        found.append(Level(coordinates, shape, _neighbours(coordinates, shape), places))
        if above is not None:
            coordinates, shape = above, half
    return found


def _keys(coordinates: Tensor, shape: tuple[int, ...]) -> Tensor:
    x, y, z = coordinates.unbind(1)
    return (x * shape[1] + y) * shape[2] + z


def _coordinates(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    z, rest = keys % shape[2], keys // shape[2]
    return torch.stack([rest // shape[1], rest % shape[1], z], dim=1)


def _neighbours(coordinates: Tensor, shape: tuple[int, int, int]) -> Tensor:
    keys = _keys(coordinates, shape)
    there = (coordinates[:, None] + coordinates.new_tensor(OFFSETS)).flatten(0, 1)
    wanted = _keys(there, shape)
    at = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    inside = ((there >= 0) & (there < coordinates.new_tensor(shape))).all(dim=1)
    return torch.where(inside & (keys[at] == wanted), at, len(keys)).reshape(len(keys), len(OFFSETS))


class _Convolve(torch.autograd.Function):
    """Product of the neighbours' rows [N, 27 C] with a weight [27, C, D]."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight, neighbours)
        return _around(features, neighbours) @ weight.flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight, neighbours = ctx.saved_tensors
        (gradient,) = gradients
        of_features = of_weight = None
        if ctx.needs_input_grad[0]:  # a voxel is to its neighbour what the opposite neighbour is to it
            of_features = _around(gradient, neighbours) @ weight.flip(0).transpose(1, 2).flatten(0, 1)
        if ctx.needs_input_grad[1]:
            of_weight = (_around(features, neighbours).T @ gradient).reshape(weight.shape)
        return of_features, of_weight, None


def _around(features: Tensor, neighbours: Tensor) -> Tensor:
    """[N, 27 C]: of each voxel the rows [N, C] of its neighbours."""
    padded = torch.cat([features, features.new_zeros((1, features.shape[1]))])
    return padded.index_select(0, neighbours.flatten()).reshape(len(features), neighbours.shape[1] * features.shape[1])


class SubmanifoldConv(nn.Module):
    """3×3×3 convolution whose output lies where the input does (Graham and van der Maaten 2017)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = _weight(len(OFFSETS), channels_in, channels_out)

    def forward(self, features: Tensor, level: Level) -> Tensor:
        """[N, channels_in] to [N, channels_out]."""
        out: Tensor = _Convolve.apply(features, self.weight, level.neighbours)
        return out


class Down(nn.Module):
    """2×2×2 convolution of stride 2."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = _weight(8, channels_in, channels_out)

    def forward(self, features: Tensor, level: Level, count: int) -> Tensor:
        """[N, channels_in] of a level to [count, channels_out] of the next."""
        assert level.places is not None
        parts = features.new_zeros((8 * count, features.shape[1])).index_copy(0, level.places, features)
        return parts.reshape(count, 8 * features.shape[1]) @ self.weight.flatten(0, 1)


class Up(nn.Module):
    """The transpose of `Down`, back to the voxels that were there."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = _weight(8, channels_in, channels_out)

    def forward(self, features: Tensor, level: Level) -> Tensor:
        """[M, channels_in] of the next level to [N, channels_out] of a level."""
        assert level.places is not None
        parts = features @ self.weight.transpose(0, 1).flatten(1)
        return parts.reshape(8 * len(features), self.weight.shape[2]).index_select(0, level.places)


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
