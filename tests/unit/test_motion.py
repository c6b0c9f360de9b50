"""Motion of Gaussians and what an image shows of it."""

from __future__ import annotations

import pytest
import torch

from splatdag.driving.rendering.motion import LARGEST_PIXELS, image_velocity, moved, velocity

K = torch.tensor([[100.0, 0, 50], [0, 120.0, 40], [0, 0, 1]])
POINTS = torch.tensor([[1.0, -0.5, 8.0], [0.0, 0.0, 20.0], [-3.0, 1.0, 5.0]])


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_the_velocity_is_the_derivative_of_the_place(degree):
    generator = torch.Generator().manual_seed(degree)
    coefficients = torch.randn((3, degree + 1, 3), generator=generator, dtype=torch.float64)
    means, times = POINTS.double(), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    torch.testing.assert_close(moved(means, coefficients, times[:1].expand(3), 0.1), means)
    after, before = (moved(means, coefficients, times, 0.6 + sign * 1e-5) for sign in (1, -1))
    torch.testing.assert_close((after - before) / 2e-5, velocity(coefficients, 0.6), rtol=1e-7, atol=1e-8)
    own = velocity(coefficients, times)
    torch.testing.assert_close(own[2], velocity(coefficients, 0.9)[2])


def pixels(points: torch.Tensor, viewmat: torch.Tensor) -> torch.Tensor:
    seen = (points @ viewmat[:3, :3].T + viewmat[:3, 3]) @ K.double().T
    return seen[:, :2] / seen[:, 2:]


def test_image_velocity_is_how_far_the_pixel_goes():
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3] = torch.linalg.matrix_exp(torch.tensor([[0, -0.1, 0.2], [0.1, 0, 0.05], [-0.2, -0.05, 0]]).double())
    viewmat[:3, 3] = torch.tensor([0.3, -0.2, 0.5])
    speeds = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0], [-1.0, 0.0, 0.5]], dtype=torch.float64)
    points, step = POINTS.double(), 0.1
    found = image_velocity(points, speeds, viewmat, K.double(), step)
    tiny = 1e-6
    expected = (pixels(points + tiny * speeds, viewmat) - pixels(points, viewmat)) / tiny * step
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_image_velocity_is_cut_and_nothing_behind_the_camera_has_one():
    speeds = torch.tensor([[1000.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    points = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 5.0], [0.0, 0.0, -5.0]], requires_grad=True)
    found = image_velocity(points, speeds, torch.eye(4), K, 0.1)
    assert found.norm(dim=1).tolist() == pytest.approx([LARGEST_PIXELS, 0, 0])
    (gradient,) = torch.autograd.grad(found.sum(), points)
    assert torch.isfinite(gradient).all()
