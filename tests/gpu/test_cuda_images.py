"""Photos on the GPU, in host memory or in a file reach the training with the same bits, and in time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from splatdag.scene.batches import TrainingViews
from splatdag.scene.evaluation import mean_color
from splatdag.scene.image_cache import ImageCache, bytes_of, device_memory_left
from splatdag.scene.options import SplatOptions
from splatdag.scene.views import View
from splatdag.splats.normalisation import normalisation

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA = torch.device("cuda")


def views(count: int = 24, height: int = 600, width: int = 800) -> list[View]:
    """Noise of two sizes, some with opacity, some with a mask."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(count):
        rows = height - 40 * (index % 5 == 4)
        planes = torch.randint(0, 256, (rows, width, 5), dtype=torch.uint8, generator=generator)
        view = View(f"{index}.png", planes[..., :3].contiguous(), np.eye(4), np.diag([500.0, 500.0, 1.0]))
        alpha = planes[..., 3].contiguous() if index % 3 == 0 else None
        made.append(replace(view, alpha_HW=alpha, mask_HW=planes[..., 4] > 20 if index % 2 else None))
    return made


def kept(views: list[View], tier: str) -> list[View]:
    size = sum(bytes_of(v.image_HW3[..., 0].numel(), v.alpha_HW is not None, v.mask_HW is not None) for v in views)
    cache = ImageCache(size, tier, CUDA)
    return [cache.keep(view) for view in views]


@pytest.mark.parametrize("changes", [{}, {"batch_size": 5}, {"patch_size": 100, "batch_size": 3}])
def test_batches_are_the_same_wherever_photos_are_kept(changes):
    """With work on the GPU meanwhile, so that a copy that comes too late or a buffer used again too early shows."""
    given = views()
    frame = normalisation(np.random.default_rng(0).normal(size=(8, 3)), np.ones((1, 3)))
    expected: list[torch.Tensor] = []
    for tier in ("device", "host", "disk"):
        training = TrainingViews(kept(given, tier), frame, SplatOptions(**changes), CUDA)
        busy = torch.rand((2000, 2000), device=CUDA)
        found = []
        for step in range(100):
            for batch in training.next(step):
                busy = (busy @ busy).clamp(0, 1)
                found.append(batch.targets(torch.ones(3, device=CUDA)).double().sum(dim=(1, 2, 3)))
                found += [] if batch.masks_CHW is None else [batch.masks_CHW.sum(dim=(1, 2))]
        found = [value.cpu() for value in found]
        expected = expected or found
        assert len(found) == len(expected)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True)), tier


def test_the_mean_colour_is_the_same_wherever_photos_are_kept():
    given = views(6)
    means = [mean_color(kept(given, tier), device=CUDA) for tier in ("device", "host", "disk")]
    assert torch.equal(means[0], means[1])
    assert torch.equal(means[0], means[2])


def test_photos_take_their_size_on_the_gpu_and_no_more():
    given = views(100)
    size = sum(plane.numel() for v in given for plane in (v.image_HW3, v.alpha_HW, v.mask_HW) if plane is not None)
    before, free = torch.cuda.memory_allocated(), device_memory_left(CUDA)
    there = kept(given, "device")
    torch.cuda.reset_peak_memory_stats()
    TrainingViews(
        there, normalisation(np.random.default_rng(0).normal(size=(8, 3)), np.ones((1, 3))), SplatOptions(), CUDA
    )
    assert size <= torch.cuda.max_memory_allocated() - before < 1.02 * size
    assert free - device_memory_left(CUDA) < 1.02 * size + 2**26
