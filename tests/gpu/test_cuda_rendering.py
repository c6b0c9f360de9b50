"""Our CPU rasteriser against gsplat on CUDA: image, alpha, depth and every gradient; and many cameras at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.both import CPU, CUDA, NEEDS_CUDA, assert_alike, gaussians, intrinsics, rendered

from splatdag.scene.optimizers import visible_rows
from splatdag.splats.render import RENDER_MODES, render
from splatdag.splats.strategies.densify import DefaultStrategy
from splatdag.splats.strategies.options import StrategyOptions

pytestmark = NEEDS_CUDA
SIZES = [(64, 48), (135, 240), (333, 251)]
BOUND = 1e-3
"""Of the relative L2 difference of gradients; about 5e-5 was found on an H200 (docs/benchmarks)."""


def assert_renderings_alike(inputs: dict[str, torch.Tensor], width: int, height: int, **options: Any) -> None:
    ours, theirs = (rendered(inputs, width, height, device, **options) for device in (CPU, CUDA))
    # A pixel where rounding decides on a threshold may differ by the contribution of one Gaussian.
    for name, mine, other in zip(("image", "alpha"), ours[:2], theirs[:2], strict=True):
        assert mine.shape == other.shape
        assert ((mine - other).abs() > 1e-3).float().mean() < 2e-3, name
    assert_alike(ours[2], theirs[2], BOUND)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("antialiased", [False, True])
def test_cpu_and_gsplat_render_the_same_and_have_the_same_gradients(
    width: int, height: int, sh_degree: int, antialiased: bool
) -> None:
    """Colour and expected depth; gradients absolute, too."""
    inputs = gaussians(800, sh_degree)
    options = {"sh_degree": sh_degree, "antialiased": antialiased, "render_mode": "RGB+ED", "absgrad": True}
    assert_renderings_alike(inputs, width, height, **options)


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("colors", ["harmonics", "channels", "of each camera"])
@pytest.mark.parametrize("mode", RENDER_MODES)
def test_every_mode_is_the_same_for_three_cameras_before_their_own_backgrounds(
    mode: str, colors: str, antialiased: bool
) -> None:
    """With a near and a far plane that cull some; the gradient of the backgrounds, too."""
    generator = torch.Generator().manual_seed(3)
    inputs = gaussians(800, 1, cameras=3)
    if colors == "channels":
        inputs["colors"] = torch.rand((800, 3), generator=generator)
    if colors == "of each camera":
        inputs["colors"] = torch.rand((3, 800, 3), generator=generator)
    inputs["backgrounds"] = torch.rand((3, 3), generator=generator)
    sh_degree = 1 if colors == "harmonics" else None
    options = {"sh_degree": sh_degree, "antialiased": antialiased, "near_plane": 3.0, "far_plane": 5.0}
    assert_renderings_alike(inputs, 135, 96, render_mode=mode, **options)


def test_fewer_harmonics_than_there_are_count_where_the_degree_is_lower() -> None:
    """As in the first steps of a training: what is not used gets no gradient."""
    assert_renderings_alike(gaussians(800, 3), 64, 48, sh_degree=1)


@pytest.mark.parametrize("options", [{}, {"packed": True}, {"antialiased": True, "render_mode": "RGB+ED"}])
def test_cameras_rendered_together_are_as_each_alone(options: dict[str, Any]) -> None:
    """Images and alphas; gradients add up, those of a camera and on its screen are its own."""
    width, height, cameras = 135, 96, 4
    inputs = gaussians(800, 2, cameras)
    inputs["backgrounds"] = torch.rand((cameras, 3), generator=torch.Generator().manual_seed(2))
    weights = torch.randn((cameras, height, width, 4), generator=torch.Generator().manual_seed(1)).to(CUDA)

    def drawn(chosen: list[slice]) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        leaves = {name: value.clone().to(CUDA).requires_grad_() for name, value in inputs.items()}
        images, alphas, seen = [], [], []
        for part in chosen:
            own = {**leaves, "viewmats": leaves["viewmats"][part], "backgrounds": leaves["backgrounds"][part]}
            Ks = intrinsics(len(own["viewmats"]), width, height, CUDA)
            image, alpha, info = render(**own, Ks=Ks, width=width, height=height, sh_degree=2, **options)
            info["means2d"].retain_grad()
            ((image * weights[part, ..., : image.shape[-1]]).sum() + alpha.square().sum()).backward()
            images.append(image.detach())
            alphas.append(alpha.detach())
            seen.append(info["means2d"].grad)
        gradients = {name: leaf.grad for name, leaf in leaves.items()}
        return torch.cat(images), torch.cat(alphas), {**gradients, "means2d": torch.cat(seen)}

    together = drawn([slice(0, cameras)])
    alone = drawn([slice(camera, camera + 1) for camera in range(cameras)])
    for one, other in zip(together[:2], alone[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    for name, gradient in alone[2].items():
        error = float((together[2][name] - gradient).norm() / gradient.norm())
        assert error < 1e-4, f"{name}: {error:.1e}"


def test_packed_rendering_and_its_statistics_are_those_of_unpacked() -> None:
    """Image, visible Gaussians and what densification collects; two cameras, absolute gradients."""
    inputs = gaussians(800, 1, cameras=2)
    found = {}
    for packed in (False, True):
        leaves = {name: value.clone().to(CUDA).requires_grad_() for name, value in inputs.items()}
        image, _, info = render(
            **leaves, Ks=intrinsics(2, 96, 64, CUDA), width=96, height=64, sh_degree=1, absgrad=True, packed=packed
        )
        chosen = StrategyOptions(absgrad=True, refine_start_iter=10)
        strategy = DefaultStrategy(chosen, 1.0, torch.Generator(CUDA))
        strategy.before_backward([info])
        image.square().mean().backward()
        strategy.after_step(1, {"means": leaves["means"]}, {}, [info], 0.0)
        found[packed] = (image, visible_rows([info]), strategy.gradient_N, strategy.seen_N, strategy.radius_N)
    for name, one, other in zip(("image", "visible", "gradient", "seen", "radius"), *found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
