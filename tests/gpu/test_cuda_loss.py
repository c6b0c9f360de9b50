"""The training loss: the same on the CPU and CUDA, and of views together the mean of each alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.both import CPU, CUDA, NEEDS_CUDA
from support.trainings import Training, options

from splatdag.scene.batches import Batch
from splatdag.scene.training import SplatTraining, TrainingData, _draw, _loss
from splatdag.splats.losses import photometric_loss
from splatdag.splats.strategies.densify import DefaultStrategy

pytestmark = NEEDS_CUDA


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("cameras", "width", "height", "ssim_lambda"),
    [(1, 80, 60, 0.2), (3, 333, 83, 0.2), (1, 11, 11, 1.0), (2, 9, 8, 0.0)],
)
def test_the_loss_is_the_same_on_both(cameras: int, width: int, height: int, ssim_lambda: float, masked: bool) -> None:
    generator = torch.Generator().manual_seed(width)
    image, target = (torch.rand((cameras, height, width, 3), generator=generator) for _ in range(2))
    mask = torch.rand((cameras, height, width), generator=generator) > 0.3 if masked else None
    values, gradients = [], []
    for device in (CPU, CUDA):
        leaf = image.clone().to(device).requires_grad_()
        loss = photometric_loss(leaf, target.to(device), ssim_lambda, None if mask is None else mask.to(device))
        (1.7 * loss).backward()
        values.append(loss.item())
        gradients.append(leaf.grad.cpu())
    assert values[0] == pytest.approx(values[1], abs=1e-5)
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 1e-4


@pytest.mark.parametrize(
    "changes", [{}, {"packed": True}, {"pose_opt": True, "pose_noise": 0.01, "app_opt": True}, {"antialiased": True}]
)
def test_views_in_one_batch_have_the_loss_and_the_gradients_of_each_alone(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """As the training loop draws them; what densification collects is the same, too."""
    training = Training(tmp_path)
    chosen = options(batch_size=4, **changes)

    def after(alone: bool) -> tuple[float, dict[str, torch.Tensor]]:
        start = training.start(chosen)
        start["scales"] += torch.tensor([0.5, 0.0, -0.5])  # turning a ball changes nothing
        run = SplatTraining(TrainingData(training.views, training.frame, start, chosen), CUDA)
        (batch,) = run.views.next(0)
        batches = each_alone(batch) if alone else [batch]
        background = torch.tensor([0.2, 0.5, 0.9], device=CUDA)
        drawn = [_draw(run.model, one, 1, background) for one in batches]
        loss = sum(
            _loss(image, one, background, chosen, training.frame.extent) / len(batches)
            for one, (image, _) in zip(batches, drawn, strict=True)
        )
        infos = [info for _, info in drawn]
        run.strategy.before_backward(infos)
        loss.backward()
        assert isinstance(run.strategy, DefaultStrategy)
        run.strategy.after_step(1, run.model.parameters, {}, infos, 0.0)
        found = {name: tensor.grad for name, tensor in run.model.parameters.items() if tensor.grad is not None}
        for part, module in run.model.modules().items():
            found.update({f"{part}.{name}": tensor.grad for name, tensor in module.named_parameters()})
        collected = {"collected": run.strategy.gradient_N, "seen": run.strategy.seen_N}
        return loss.item(), {**found, **collected}

    together, alone = after(alone=False), after(alone=True)
    assert together[0] == pytest.approx(alone[0], rel=1e-5)
    assert together[1].keys() == alone[1].keys()
    for name, expected in alone[1].items():
        error = float((together[1][name] - expected).norm() / expected.norm().clamp_min(1e-30))
        assert error < 1e-3, f"{name}: {error:.1e}"


def each_alone(batch: Batch) -> list[Batch]:
    parts = zip(*(part.split(1) for part in (batch.views, batch.viewmats, batch.Ks, batch.images_CHW3)), strict=True)
    return [Batch(*part, None, None, [], len(batch.views)) for part in parts]
