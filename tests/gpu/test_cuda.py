"""The CUDA path against the CPU path: rendering with all gradients, the loss, and a training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from splatdag.splats.checkpoint import Checkpoint
from splatdag.splats.cuda.extension import ensure_extension
from splatdag.splats.densify import DefaultStrategy
from splatdag.splats.gaussians import from_points
from splatdag.splats.losses import photometric_loss
from splatdag.splats.mcmc import McmcStrategy, shared_look
from splatdag.splats.metrics import psnr, ssim
from splatdag.splats.model import SplatModel
from splatdag.splats.optimizers import visible_rows
from splatdag.splats.options import SplatOptions, StrategyOptions
from splatdag.splats.records import RunFiles
from splatdag.splats.render import render
from splatdag.splats.trainer import train
from splatdag.splats.views import View, camera_tensors, normalisation

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SIZES = [(64, 48), (135, 240), (333, 251)]


@pytest.fixture(autouse=True, scope="module")
def gsplat_compiled():
    ensure_extension()


def gaussians(count: int, sh_degree: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    return {
        "means": torch.randn((count, 3), generator=generator) * 0.7 + torch.tensor([0.0, 0.0, 4.0]),
        "quats": torch.randn((count, 4), generator=generator),
        "scales": 0.02 + 0.2 * torch.rand((count, 3), generator=generator) ** 2,
        "opacities": torch.rand((count,), generator=generator) * 0.95 + 0.02,
        "colors": torch.randn((count, (sh_degree + 1) ** 2, 3), generator=generator) * 0.3,
        "viewmats": torch.eye(4)[None],
    }


def rendered(inputs, width, height, device, **kwargs):
    leaves = {name: value.detach().clone().to(device).requires_grad_() for name, value in inputs.items()}
    Ks = torch.tensor([[[0.9 * width, 0, width / 2 + 3], [0, 0.9 * width, height / 2 - 2], [0, 0, 1]]], device=device)
    viewmats = leaves.pop("viewmats")
    image, alpha, info = render(**leaves, viewmats=viewmats, Ks=Ks, width=width, height=height, **kwargs)
    info["means2d"].retain_grad()
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(device)
    ((image * weights).sum() + alpha.square().sum()).backward()
    gradients = {name: leaf.grad.cpu() for name, leaf in {**leaves, "viewmats": viewmats}.items()}
    gradients["means2d"] = info["means2d"].grad.cpu()
    if kwargs.get("absgrad"):
        gradients["absgrad"] = info["means2d"].absgrad.cpu()
    return image.detach().cpu(), alpha.detach().cpu(), gradients


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("antialiased", [False, True])
def test_cpu_and_gsplat_render_the_same_and_have_the_same_gradients(width, height, sh_degree, antialiased):
    inputs = gaussians(800, sh_degree)
    kwargs = {"sh_degree": sh_degree, "antialiased": antialiased, "render_mode": "RGB+ED", "absgrad": True}
    ours, theirs = (rendered(inputs, width, height, device, **kwargs) for device in (CPU, CUDA))
    # A pixel where rounding decides on a threshold may differ by the contribution of one Gaussian.
    for name, mine, other in zip(("image", "alpha"), ours[:2], theirs[:2], strict=True):
        assert ((mine - other).abs() > 1e-3).float().mean() < 2e-3, name
    for name, mine in ours[2].items():
        other = theirs[2][name]
        error = float((mine - other).norm() / other.norm())
        print(f"{width}x{height} SH {sh_degree} antialiased {antialiased} {name}: {error:.1e}")
        assert error < 1e-2, name


def test_packed_rendering_and_its_statistics_are_those_of_unpacked():
    """Image, visible Gaussians and what densification collects; two cameras, absolute gradients."""
    inputs = gaussians(800, 1)
    inputs["viewmats"] = torch.eye(4).repeat(2, 1, 1)
    inputs["viewmats"][1, 0, 3] = 0.3
    found = {}
    for packed in (False, True):
        leaves = {name: value.clone().to(CUDA).requires_grad_() for name, value in inputs.items()}
        viewmats = leaves.pop("viewmats")
        Ks = torch.tensor([[80.0, 0, 48], [0, 80.0, 32], [0, 0, 1]], device=CUDA).repeat(2, 1, 1)
        image, _, info = render(
            **leaves, viewmats=viewmats, Ks=Ks, width=96, height=64, sh_degree=1, absgrad=True, packed=packed
        )
        chosen = StrategyOptions(absgrad=True, refine_start_iter=10)
        strategy = DefaultStrategy(chosen, 1.0, torch.Generator(CUDA))
        strategy.before_backward([info])
        image.square().mean().backward()
        strategy.after_step(1, {"means": leaves["means"]}, {}, [info], 0.0)
        found[packed] = (image, visible_rows([info]), strategy.gradient_N, strategy.seen_N, strategy.radius_N)
    for name, one, other in zip(("image", "visible", "gradient", "seen", "radius"), *found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_copies_share_opacity_and_size_as_in_gsplat_s_kernel():
    from gsplat.relocation import compute_relocation

    generator = torch.Generator().manual_seed(0)
    opacity = torch.rand(1000, generator=generator).clamp(0.005, 0.999)
    copies = torch.randint(1, 30, (1000,), generator=generator)
    table = torch.tensor([[math.comb(n, k) for k in range(51)] for n in range(51)], dtype=torch.float32)
    theirs = compute_relocation(opacity.to(CUDA), torch.ones((1000, 3), device=CUDA), copies.to(CUDA), table.to(CUDA))
    ours = shared_look(opacity, copies)
    torch.testing.assert_close(ours[0], theirs[0].cpu(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours[1], theirs[1][:, 0].cpu(), rtol=2e-3, atol=1e-5)


def test_noise_has_the_spread_of_gsplat_s():
    from gsplat.strategy.ops import inject_noise_to_position

    count = 100_000
    shape = {
        "means": torch.zeros((count, 3)),
        "scales": torch.tensor([0.5, 1.0, 0.2]).log().repeat(count, 1),
        "quats": torch.tensor([0.4, -0.2, 0.8, 0.3]).repeat(count, 1),
        "opacities": torch.logit(torch.tensor(0.01)).repeat(count),
    }
    spread = []
    ours = {name: value.clone().to(CUDA) for name, value in shape.items()}
    chosen = StrategyOptions(kind="mcmc", cap_max=count, noise_lr=10.0)
    McmcStrategy(chosen, torch.Generator(CUDA).manual_seed(1)).after_step(1, ours, {}, [], 0.2)
    theirs = {name: value.clone().to(CUDA) for name, value in shape.items()}
    inject_noise_to_position(params=theirs, optimizers={}, state={}, scaler=2.0)
    spread = [torch.cov(parameters["means"].T).cpu() for parameters in (ours, theirs)]
    torch.testing.assert_close(spread[0], spread[1], rtol=0.05, atol=2e-3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("cameras", "width", "height", "ssim_lambda"),
    [(1, 80, 60, 0.2), (3, 333, 83, 0.2), (1, 11, 11, 1.0), (2, 9, 8, 0.0)],
)
def test_the_loss_is_the_same_on_both(cameras, width, height, ssim_lambda, masked):
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


def scene(views: int = 12, size: tuple[int, int] = (96, 64)) -> tuple[list[View], np.ndarray]:
    """Photos of a textured ball of known Gaussians, rendered on the CPU."""
    generator = torch.Generator().manual_seed(5)
    points = torch.nn.functional.normalize(torch.randn((600, 3), generator=generator), dim=1)
    truth = from_points(
        points.numpy(), torch.rand((600, 3), generator=generator).numpy(),
        sh_degree=0, init_opacity=0.9, init_scale=1.0, generator=generator,
    )  # fmt: skip
    made = []
    for index, angle in enumerate(np.linspace(0, 2 * np.pi, views, endpoint=False)):
        eye = 3 * np.array([np.sin(angle), 0.2 * (-1) ** index, np.cos(angle)])
        forward = -eye / np.linalg.norm(eye)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = right, np.cross(forward, right), forward
        pose[:3, 3] = -pose[:3, :3] @ eye
        K = np.array([[90.0, 0, size[0] / 2], [0, 90.0, size[1] / 2], [0, 0, 1.0]])
        view = View(f"{index}.png", torch.zeros((size[1], size[0], 3), dtype=torch.uint8), pose, K)
        world = normalisation(np.zeros((1, 3)), np.ones((1, 3)))
        world = type(world)(np.zeros(3), 1.0, 1.0)
        with torch.no_grad():
            image = SplatModel(truth, SplatOptions(sh_degree=0)).draw(*camera_tensors(view, world, CPU), *size)[0][0]
        view.image_HW3 = (image.clamp(0, 1) * 255).round().to(torch.uint8)
        made.append(view)
    return made, points.double().numpy()


def trained(device, folder, steps=300, **changes):
    views, points = scene()
    held_out, kept = views[::6], [view for index, view in enumerate(views) if index % 6]
    frame = normalisation(np.array([view.center for view in views]), points)
    options = SplatOptions(preset="small", max_steps=steps, eval_steps=[steps], checkpoint_every=100, **changes)
    start = from_points(
        frame.points(points[::2]), np.full((300, 3), 0.5), sh_degree=1, init_opacity=0.1, init_scale=1.0,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip

    def evaluate(model, step):
        with torch.no_grad():
            scores = []
            for view in held_out:
                image = model.draw(*camera_tensors(view, frame, device), 96, 64)[0][0].clamp(0, 1)
                target = view.image_HW3.to(device).float() / 255
                scores.append((float(psnr(image, target)), float(ssim(image, target))))
        return {"mean": dict(zip(("psnr", "ssim"), np.mean(scores, axis=0).tolist(), strict=True))}

    files = RunFiles(folder, options, frame, {})
    return train(kept, frame, start, options, Checkpoint(folder / "state", {}), evaluate, files, device)


VARIANTS = {
    "plain": {},
    "mcmc": {"strategy": {"kind": "mcmc", "cap_max": 1_000, "refine_start_iter": 50, "noise_lr": 1e4}},
    "batches, cameras and appearance": {"batch_size": 4, "pose_opt": True, "app_opt": True},
    "packed, sparse": {"packed": True, "sparse_grad": True},
    "visible Adam, depth": {"visible_adam": True, "depth_loss": True, "random_bkgd": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_training_on_cuda_is_as_good_as_on_the_cpu(tmp_path, name):
    quality = {
        device.type: trained(device, tmp_path / device.type, **VARIANTS[name]).evaluations[-1]["mean"]
        for device in (CPU, CUDA)
    }
    print(name, quality)
    assert quality["cuda"]["psnr"] == pytest.approx(quality["cpu"]["psnr"], abs=0.7)
    assert quality["cuda"]["psnr"] > 18
