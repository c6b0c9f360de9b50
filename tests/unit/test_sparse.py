"""Sparse convolutions against torch's dense ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from splatdag.driving.network.sparse import Down, SparseUNet, SubmanifoldConv, Up, levels

SHAPE = (7, 6, 5)


def scattered(count: int = 60, channels: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct voxels [N, 3] in random order, the corners of the grid among them, and features [N, channels]."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randperm(SHAPE[0] * SHAPE[1] * SHAPE[2], generator=generator)[:count]
    cells = torch.unique(torch.cat([cells, torch.tensor([0, SHAPE[0] * SHAPE[1] * SHAPE[2] - 1])]))
    cells = cells[torch.randperm(len(cells), generator=generator)]
    coordinates = torch.stack([cells // 30, cells // 5 % 6, cells % 5], dim=1)
    return coordinates, torch.randn((len(cells), channels), generator=generator, dtype=torch.float64)


def dense(features: torch.Tensor, coordinates: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """[1, C, X, Y, Z], zero where there is nothing."""
    grid = features.new_zeros((*shape, features.shape[1]))
    grid[tuple(coordinates.T)] = features
    return grid.movedim(-1, 0)[None]


def at(grid: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    return grid[0].movedim(0, -1)[tuple(coordinates.T)]


def kernel(weight: torch.Tensor, size: int) -> torch.Tensor:
    """torch's [out, in, size, size, size]."""
    _, channels_in, channels_out = weight.shape
    return weight.reshape(size, size, size, channels_in, channels_out).permute(4, 3, 0, 1, 2)


@pytest.mark.parametrize("seed", range(3))
def test_a_submanifold_convolution_is_the_dense_one_where_there_are_voxels(seed):
    coordinates, features = scattered(seed=seed)
    (level,) = levels(coordinates, SHAPE, 1)
    layer = SubmanifoldConv(4, 3).double()
    features.requires_grad_()
    ours = layer(features, level)
    expected = functional.conv3d(dense(features, level.coordinates, SHAPE), kernel(layer.weight, 3), padding=1)
    torch.testing.assert_close(ours, at(expected, level.coordinates))
    cotangent = torch.randn(ours.shape, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad(ours, [features, layer.weight], cotangent),
        torch.autograd.grad(at(expected, level.coordinates), [features, layer.weight], cotangent),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_down_and_up_are_the_dense_convolutions_of_stride_two():
    coordinates, features = scattered()
    fine, coarse = levels(coordinates, SHAPE, 2)
    down, up = Down(4, 3).double(), Up(3, 2).double()
    lower = down(features, fine, len(coarse.coordinates))
    padded = functional.pad(dense(features, fine.coordinates, SHAPE), (0, 1, 0, 0, 0, 1))
    torch.testing.assert_close(
        lower, at(functional.conv3d(padded, kernel(down.weight, 2), stride=2), coarse.coordinates)
    )
    raised = functional.conv_transpose3d(
        dense(lower, coarse.coordinates, coarse.shape), kernel(up.weight, 2).transpose(0, 1), stride=2
    )
    torch.testing.assert_close(up(lower, fine), at(raised, fine.coordinates))


def test_the_order_of_the_voxels_does_not_matter():
    coordinates, _ = scattered()
    one, other = (levels(given, SHAPE, 3) for given in (coordinates, coordinates.flip(0)))
    for mine, theirs in zip(one, other, strict=True):
        assert torch.equal(mine.coordinates, theirs.coordinates)
    assert one[1].shape == (4, 3, 3)


def test_a_u_net_reaches_every_parameter_and_one_voxel_is_enough():
    torch.manual_seed(0)
    coordinates, features = scattered()
    net = SparseUNet(4, 6, (8, 12, 16), 2).double()
    out = net(features, levels(coordinates, SHAPE, 3))
    assert out.shape == (len(coordinates), 6)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    alone = net(features[:1], levels(coordinates[:1], SHAPE, 3))
    assert torch.isfinite(alone).all()
