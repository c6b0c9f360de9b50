"""Flux4D on CUDA against the CPU: many times in one call, sparse convolutions, a step's loss and gradients, a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.both import CPU, CUDA, NEEDS_CUDA, assert_alike, gaussians, rendered
from support.flux4d import INDEX, TINY, scene, street, tiny

from splatdag.driving.clips.clip_loader import Lesson, OnDevice
from splatdag.driving.network.model import Flux4D
from splatdag.driving.network.sparse import SparseUNet, levels
from splatdag.driving.training.step import training_step
from splatdag.driving.training_options import OverfitOptions
from splatdag.workflow.options import flags

pytestmark = NEEDS_CUDA
BOUND = 1e-3
CAMERAS = 3


def moving(channels: int | None) -> dict[str, torch.Tensor]:
    """Gaussians that are somewhere else for each of three cameras; colours of each camera, or shared harmonics."""
    generator = torch.Generator().manual_seed(5)
    inputs = gaussians(800, 1, cameras=CAMERAS)
    inputs["means"] = inputs["means"] + 0.2 * torch.randn((CAMERAS, 800, 3), generator=generator)
    if channels is not None:
        inputs["colors"] = torch.rand((CAMERAS, 800, channels), generator=generator)
    return inputs


@pytest.mark.parametrize("channels", [None, 3, 7])
def test_three_times_in_one_call_are_the_same_on_both_devices(channels: int | None) -> None:
    options = {"sh_degree": 1 if channels is None else None, "antialiased": True}
    inputs = moving(channels)
    ours, theirs = (rendered(inputs, 135, 96, device, **options) for device in (CPU, CUDA))
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        assert mine.shape == other.shape
        assert ((mine - other).abs() > 1e-3).float().mean() < 2e-3
    assert_alike(ours[2], theirs[2], BOUND)


def test_three_times_in_one_call_are_what_one_after_the_other_is() -> None:
    inputs = moving(7)
    together = rendered(inputs, 135, 96, CUDA, antialiased=True)[0]
    for number in range(CAMERAS):
        own = inputs | {name: inputs[name][number] for name in ("means", "colors")}
        own["viewmats"] = inputs["viewmats"][number : number + 1]
        torch.testing.assert_close(
            rendered(own, 135, 96, CUDA, antialiased=True)[0][0], together[number], atol=1e-5, rtol=1e-4
        )


def test_a_sparse_u_net_has_the_same_values_and_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 24, (4000, 3), generator=generator).unique(dim=0)
    features = torch.randn((len(cells), 6), generator=generator)
    found = {}
    for device in (CPU, CUDA):
        torch.manual_seed(0)
        net = SparseUNet(6, 5, (16, 24, 32), 2).to(device)
        given = features.clone().to(device).requires_grad_()
        out = net(given, levels(cells.to(device), (24, 24, 24), 3))
        out.square().mean().backward()
        gradients = torch.cat([parameter.grad.cpu().flatten() for parameter in net.parameters()])
        found[device] = {"U-Net": out.detach().cpu(), "its input's": given.grad.cpu(), "its weights'": gradients}
    assert_alike(found[CPU], found[CUDA], BOUND)


@pytest.mark.parametrize("iterations", [1, 3])
def test_a_steps_loss_and_gradients_are_the_same(iterations: int) -> None:
    """Of a network that has learnt nothing but noise, whose Gaussians move."""
    options = tiny(iterations=iterations, camera="front_camera")
    given = scene()
    torch.manual_seed(0)
    model = Flux4D(options)
    for name, parameter in model.named_parameters():
        if "head" in name:
            torch.nn.init.normal_(parameter, std=1e-3)
    found = {}
    for device in (CPU, CUDA):
        model = model.to(device)
        model.zero_grad()
        loss, _, weights, views = training_step(
            model, OnDevice(model, device).of(Lesson.of(given)), 0, options, tuple(range(16))
        )
        loss.backward()
        assert weights.min() >= 1
        assert all(view.image.device.type == device.type for view in views)
        base = [p.grad.cpu().flatten() for name, p in model.named_parameters() if name.startswith("base.")]
        found[device] = {"loss": loss.detach().cpu(), "gradient of the base": torch.cat(base)}
    assert_alike(found[CPU], found[CUDA], 2e-2)


def test_a_run_on_one_clip_learns_and_leaves_the_same_files(tmp_path: Path) -> None:
    figures = {}
    for device in (CPU, CUDA):
        run = tmp_path / device.type
        places = ["--index-path", str(street() / INDEX), "--data-root", str(street()), "--output-dir", str(run)]
        words = [*places, "--cache-dir", str(tmp_path / "lift"), f"--device-count={int(device.type == 'cuda')}"]
        options = OverfitOptions(**TINY | {"iters": 60})  # the process keeps its GPU to itself until it ends
        subprocess.run([sys.executable, "-m", "splatdag.driving.training.overfit", *words, *flags(options)], check=True)
        metrics = json.loads((run / "metrics.json").read_text())
        first = metrics["baselines"]["init_only"]["nvs"]["full"]["psnr_mean"]
        figures[device] = (first, metrics["nvs"]["full"]["psnr_mean"], sorted(p.name for p in run.rglob("*")))
    assert figures[CPU][0] == pytest.approx(figures[CUDA][0], abs=0.02), "before any training"
    assert figures[CUDA][1] > figures[CUDA][0]
    assert figures[CPU][1] == pytest.approx(figures[CUDA][1], abs=0.5)
    assert figures[CPU][2] == figures[CUDA][2]
