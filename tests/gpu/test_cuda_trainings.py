"""Trainings on CUDA: as good as on the CPU, and continued from their state as if never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.both import CPU, CUDA, NEEDS_CUDA
from support.scenes import look_at
from support.trainings import Trained, Training, options

from splatdag.scene.evaluation import evaluate, mean_color
from splatdag.scene.options import SplatOptions
from splatdag.scene.simple_trainer_files import RunFiles
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.training import SplatTraining, TrainingData, _draw, _loss, train
from splatdag.scene.views import View, camera_tensors
from splatdag.splats.gaussians import from_points
from splatdag.splats.normalisation import Normalisation, normalisation
from splatdag.training.checkpoint import StateFile

pytestmark = NEEDS_CUDA


def scene(views: int = 12, size: tuple[int, int] = (96, 64)) -> tuple[list[View], np.ndarray]:
    """Photos of a textured ball of known Gaussians, rendered on the CPU."""
    generator = torch.Generator().manual_seed(5)
    points = torch.nn.functional.normalize(torch.randn((600, 3), generator=generator), dim=1)
    truth = from_points(
        points.numpy(), torch.rand((600, 3), generator=generator).numpy(),
        sh_degree=0, init_opacity=0.9, init_scale=1.0, generator=generator,
    )  # fmt: skip
    K = np.array([[90.0, 0, size[0] / 2], [0, 90.0, size[1] / 2], [0, 0, 1.0]])
    world = Normalisation(np.zeros(3), 1.0, 1.0)
    made = []
    for index, angle in enumerate(np.linspace(0, 2 * np.pi, views, endpoint=False)):
        pose = look_at(3 * np.array([np.sin(angle), 0.2 * (-1) ** index, np.cos(angle)]))
        view = View(f"{index}.png", torch.zeros((size[1], size[0], 3), dtype=torch.uint8), pose, K)
        with torch.no_grad():
            image = SplatModel(truth, SplatOptions(sh_degree=0)).draw(*camera_tensors(view, world, CPU), *size)[0][0]
        view.image_HW3 = (image.clamp(0, 1) * 255).round().to(torch.uint8)
        made.append(view)
    return made, points.double().numpy()


def trained(device: torch.device, folder: Path, steps: int = 300, **changes: Any) -> Trained:
    views, points = scene()
    held_out, kept = views[::6], [view for index, view in enumerate(views) if index % 6]
    frame = normalisation(np.array([view.center for view in views]), points)
    chosen = SplatOptions(preset="small", max_steps=steps, eval_steps=[steps], checkpoint_every=100, **changes)
    start = from_points(
        frame.points(points[::2]), np.full((300, 3), 0.5), sh_degree=1, init_opacity=0.1, init_scale=1.0,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip

    def measure(model: SplatModel, step: int) -> dict[str, Any]:
        return evaluate(model, held_out, frame, mean_color(kept)).figures

    files = RunFiles(folder, chosen, frame, {})
    return Trained(train(kept, frame, start, chosen, StateFile(folder / "state", {}), measure, files, device))


VARIANTS = {
    "plain": {},
    "mcmc": {"strategy": {"kind": "mcmc", "cap_max": 1_000, "refine_start_iter": 50, "noise_lr": 1e4}},
    "batches, cameras and appearance": {"batch_size": 4, "pose_opt": True, "app_opt": True},
    "packed, sparse": {"packed": True, "sparse_grad": True},
    "visible Adam, depth": {"visible_adam": True, "depth_loss": True, "random_bkgd": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_training_on_cuda_is_as_good_as_on_the_cpu(tmp_path: Path, name: str) -> None:
    quality = {
        device.type: trained(device, tmp_path / device.type, **VARIANTS[name]).evaluations[-1]["mean"]
        for device in (CPU, CUDA)
    }
    print(name, quality)
    assert quality[CUDA.type]["psnr"] == pytest.approx(quality["cpu"]["psnr"], abs=0.7)
    assert quality[CUDA.type]["psnr"] > 18


STATES = {
    "plain": {},
    "mcmc": {"strategy": {"kind": "mcmc", "cap_max": 400, "refine_start_iter": 4, "refine_every": 5}},
    "batches, cameras and appearance": {"batch_size": 2, "pose_opt": True, "app_opt": True},
    "packed, sparse": {"packed": True, "sparse_grad": True},
    "visible Adam": {"visible_adam": True},
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_loaded_on_cuda_goes_on_as_the_run_that_saved_it(tmp_path: Path, name: str) -> None:
    """Bit by bit the same when loaded; then four steps with a refinement among them, whose sums CUDA may reorder."""
    training, chosen = Training(tmp_path), options(**STATES[name])

    def begun() -> SplatTraining:
        return SplatTraining(TrainingData(training.views, training.frame, training.start(chosen), chosen), CUDA)

    first, second = begun(), begun()
    for step in range(12):
        advance(first, step)
    first.step = 12
    training.state_file.save(first.state())
    saved = training.state_file.load(CUDA)
    assert saved is not None
    second.load(saved)
    assert_equal(second.state(), first.state())
    losses = [(advance(first, step), advance(second, step)) for step in range(12, 16)]
    assert losses[0][0] == pytest.approx(losses[0][1], rel=1e-6)
    for one, other in losses:
        assert one == pytest.approx(other, rel=1e-3)
    counts = [len(run.model.parameters["means"]) for run in (first, second)]
    assert counts[0] == pytest.approx(counts[1], abs=2)  # one may lie on a threshold
    assert counts[0] > len(training.points)


def advance(run: SplatTraining, step: int) -> float:
    """One step of the training loop; its loss."""
    (batch,) = run.views.next(step)
    image, info = _draw(run.model, batch, 1, None)
    loss = _loss(image, batch, None, run.options, 1.0)
    run.strategy.before_backward([info])
    loss.backward()
    run.optimise(step, [info])
    return loss.item()


def assert_equal(one: Any, other: Any, at: str = "state") -> None:
    """The same keys, numbers and bits."""
    assert type(one) is type(other), at
    if isinstance(one, dict):
        assert one.keys() == other.keys(), at
        for key in one:
            assert_equal(one[key], other[key], f"{at}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), at
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{at}[{index}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one.cpu(), other.cpu()), at
    else:
        assert one == other, at
