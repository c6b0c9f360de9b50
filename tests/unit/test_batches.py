"""Views halved for the first steps: pixels are means, cameras see the same, masks and points follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.trainings import Training, options

from splatdag.scene.batches import Batch, TrainingViews, halved
from splatdag.scene.options import SplatOptions


def batch(width: int = 131, height: int = 70, **parts: torch.Tensor) -> Batch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.tensor([[10.0, 20.0], [130.5, 3.0], [129.0, 69.0]])
    return Batch(
        torch.tensor([0, 1]),
        torch.eye(4).repeat(2, 1, 1),
        torch.tensor([[100.0, 0, 60], [0, 90.0, 33], [0, 0, 1]]).repeat(2, 1, 1),
        torch.rand((2, height, width, 3), generator=generator),
        parts.get("alphas"),
        parts.get("masks"),
        [(pixels, torch.ones(3))] * 2,
        2,
    )


def test_a_pixel_is_the_mean_of_those_it_covers() -> None:
    whole, half = batch(), halved(batch(), 1)
    assert half.size == (65, 35)
    expected = whole.images_CHW3[:, :70, :130].reshape(2, 35, 2, 65, 2, 3).mean(dim=(2, 4))
    torch.testing.assert_close(half.images_CHW3, expected)


def test_a_point_lands_on_the_same_place_of_the_picture() -> None:
    """Pixel coordinates count from the corner, so they are halved as they are."""
    whole, half = batch(), halved(batch(), 1)
    point = torch.tensor([0.3, -0.1, 2.0])
    one, other = (made.Ks[0] @ point / point[2] for made in (whole, half))
    torch.testing.assert_close(other[:2], one[:2] / 2)
    pixels, depths = half.depths[0]
    torch.testing.assert_close(pixels, torch.tensor([[5.0, 10.0], [64.5, 34.5]]))  # one lay on the border cut off
    assert len(depths) == 2


def test_a_pixel_counts_where_all_that_it_covers_does() -> None:
    masks = torch.ones((2, 70, 131), dtype=torch.bool)
    masks[0, 4, 7] = False
    counted = halved(batch(masks=masks), 1).masks_CHW
    assert counted is not None
    assert (~counted).nonzero().tolist() == [[0, 2, 3]]


def test_transparent_pixels_lend_no_colour() -> None:
    alphas = torch.ones((2, 70, 131, 1))
    alphas[:, :, 1::2] = 0
    made = batch(alphas=alphas)
    made.images_CHW3[:, :, 1::2] = 9
    half = halved(made, 1)
    assert half.alphas_CHW1 is not None
    torch.testing.assert_close(half.alphas_CHW1, torch.full_like(half.alphas_CHW1, 0.5))
    expected = made.images_CHW3[:, :70, :130:2].reshape(2, 35, 2, 65, 3).mean(dim=2)
    torch.testing.assert_close(half.images_CHW3, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("times", "size"), [(0, (131, 70)), (1, (65, 35)), (2, (65, 35)), (4, (65, 35))])
def test_views_are_not_halved_to_less_than_32_pixels(times: int, size: tuple[int, int]) -> None:
    assert halved(batch(), times).size == size


def test_views_grow_by_the_schedule() -> None:
    training = Training(Path("unused"))
    for view in training.views:
        view.image_HW3 = torch.from_numpy(np.zeros((256, 300, 3), np.uint8))
    chosen = SplatOptions(num_downscales=2, resolution_schedule=10)
    views = TrainingViews(training.views, training.frame, chosen, torch.device("cpu"))
    assert [views.next(step)[0].size for step in (0, 9, 10, 19, 20, 500)] == [
        (75, 64), (75, 64), (150, 128), (150, 128), (300, 256), (300, 256),
    ]  # fmt: skip


def test_a_training_from_coarse_to_fine_learns(tmp_path: Path) -> None:
    training = Training(tmp_path)
    for view in training.views:
        image = view.image_HW3.repeat_interleave(3, 0).repeat_interleave(3, 1)
        view.image_HW3, view.K = image, np.diag([3.0, 3.0, 1.0]) @ view.K
    result = training.run(options(max_steps=150, num_downscales=1, resolution_schedule=80))
    figures = result.evaluations[-1]
    assert figures["mean"]["psnr"] > figures["baseline"]["psnr"] + 5
