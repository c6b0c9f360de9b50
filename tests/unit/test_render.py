"""`splatdag.splats.render` on the CPU against a dense renderer, finite differences and closed forms."""

import math

import numba
import pytest
import torch
from support.dense_reference import render_dense
from torch import Tensor

from splatdag.splats.render import render

NAMES = ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds")


@pytest.fixture(autouse=True)
def _one_torch_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_scene(count, cameras, width, height, *, harmonics=None, channels=3, seed=0):
    """A cloud of Gaussians of many shapes, some behind or beside the cameras; float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    views = torch.eye(4, dtype=torch.float64).repeat(cameras, 1, 1)
    for view in views:
        view[:3, :3] = torch.matrix_exp(torch.linalg.cross(0.15 * normal(3).expand(3, 3), torch.eye(3).double()))
        view[:3, 3] = 0.2 * normal(3)
    K = torch.tensor([[0.9 * width, 0, 0.55 * width], [0, 0.95 * width, 0.45 * height], [0, 0, 1]])
    inputs = {
        "means": normal(count, 3) * torch.tensor([1.4, 1.1, 1.2]) + torch.tensor([0, 0, 4.0]),
        "quats": normal(count, 4),
        "scales": torch.exp(0.7 * normal(count, 3) - 2.2),
        "opacities": torch.sigmoid(2 * normal(count)),
        "colors": 0.4 * normal(count, harmonics, 3) if harmonics else normal(count, channels).sigmoid(),
        "viewmats": views,
        "Ks": K.double().expand(cameras, 3, 3).clone(),
        "backgrounds": normal(cameras, 3 if harmonics else channels).sigmoid(),
    }
    if count > 1:
        # An opaque wall close to the camera, so that pixels end early, and a thin sliver beyond the border.
        inputs["means"][:2] = torch.tensor([[-0.3, 0.1, 1.5], [2.0, 0.4, 2.5]])
        inputs["scales"][:2] = torch.tensor([[0.2, 0.2, 0.2], [1.0, 0.005, 0.005]])
        inputs["opacities"][0] = 0.9999
    return inputs


def run(renderer, inputs, width, height, upstream=None, **options):
    """Render and, with `upstream`, differentiate; returns image, alpha, info and the gradients by name."""
    leaves = {k: v.clone().requires_grad_(k in NAMES) for k, v in inputs.items()}
    image, alpha, info = renderer(**leaves, width=width, height=height, **options)
    if upstream is not None:
        ((image * upstream[0].to(image)).sum() + (alpha * upstream[1].to(alpha)).sum()).backward()
    return image.detach(), alpha.detach(), info, {k: leaves[k].grad for k in NAMES if k in leaves}


def single(inputs):
    return {k: v.float() for k, v in inputs.items()}


CASES = [
    pytest.param(1, 33, 50, {"channels": 1}, {}, id="one channel"),
    pytest.param(2, 48, 32, {}, {}, id="three channels, whole tiles"),
    pytest.param(2, 61, 47, {}, {"antialiased": True}, id="antialiased"),
    pytest.param(1, 5, 7, {"channels": 8}, {}, id="eight channels, less than a tile"),
    pytest.param(1, 45, 37, {}, {"render_mode": "D"}, id="D"),
    pytest.param(2, 45, 37, {}, {"render_mode": "ED"}, id="ED"),
    pytest.param(2, 45, 37, {}, {"render_mode": "RGB+D"}, id="RGB+D"),
    pytest.param(1, 45, 37, {}, {"render_mode": "RGB+ED", "antialiased": True}, id="RGB+ED, antialiased"),
    pytest.param(1, 41, 30, {"harmonics": 1}, {"sh_degree": 0}, id="SH 0"),
    pytest.param(2, 41, 30, {"harmonics": 16}, {"sh_degree": 1}, id="SH 1 of 3"),
    pytest.param(2, 41, 30, {"harmonics": 9}, {"sh_degree": 2}, id="SH 2"),
    pytest.param(2, 41, 30, {"harmonics": 16}, {"sh_degree": 3, "render_mode": "RGB+ED"}, id="SH 3, RGB+ED"),
]


@pytest.mark.parametrize(("cameras", "width", "height", "kind", "options"), CASES)
def test_image_and_every_gradient_equal_the_dense_reference(cameras, width, height, kind, options):
    inputs = make_scene(120, cameras, width, height, **kind)
    image, alpha, info, _ = run(render_dense, inputs, width, height, **options)
    settled = info["settled"][..., None]
    assert settled.double().mean() > 0.97
    if "ED" in options.get("render_mode", ""):
        settled = settled & (alpha > 0.02)  # depth divided by next to nothing is noise
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(x.shape, generator=generator, dtype=torch.float64) * settled for x in (image, alpha)]

    *_, expected = run(render_dense, inputs, width, height, upstream, **options)
    ours, our_alpha, _, gradients = run(render, single(inputs), width, height, upstream, **options)

    assert ours.dtype == torch.float32
    assert ((ours - image) * settled).abs().max() < 1e-4
    assert ((our_alpha - alpha) * settled).abs().max() < 1e-5
    for name, want in expected.items():
        got = gradients[name]
        if want is None or not want.any():
            assert got is None or not got.any(), name
        else:
            assert (got - want).norm() < 1e-4 * want.norm(), name


def test_gradients_agree_with_finite_differences_where_the_image_is_smooth() -> None:
    width, height = 24, 20
    inputs = make_scene(6, 1, width, height, seed=3)
    # So large that alpha stays above 1/255 all over the image: no cut, no step.
    inputs["scales"] = torch.tensor([2.0, 3.0, 5.0]).expand(6, 3).contiguous().double()
    inputs["means"] = 0.3 * inputs["means"] + torch.tensor([0, 0, 3.0])
    inputs["opacities"] = inputs["opacities"].clamp(0.2, 0.6)
    weight = torch.randn(1, height, width, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    *_, gradients = run(render, single(inputs), width, height, (weight, torch.zeros(1, height, width, 1)))

    def value(name: str, index: int, step: float) -> float:
        moved = {k: v.clone() for k, v in inputs.items()}
        moved[name].view(-1)[index] += step
        return float((render(**single(moved), width=width, height=height)[0].double() * weight).sum())

    for name in ("means", "quats", "scales", "opacities", "colors", "viewmats", "backgrounds"):
        count = inputs[name].numel()
        numeric = [(value(name, i, 0.02) - value(name, i, -0.02)) / 0.04 for i in range(count)]
        error = (torch.tensor(numeric) - gradients[name].reshape(-1)).norm() / gradients[name].norm()
        assert error < 2e-3, name


def test_one_round_gaussian_has_the_closed_form() -> None:
    focal, depth, scale, opacity = 50.0, 2.0, 0.1, 0.8
    image, alpha, info = render(
        torch.tensor([[0.0, 0.0, depth]]), torch.tensor([[2.0, 0, 0, 0]]), torch.full((1, 3), scale),
        torch.tensor([opacity]), torch.tensor([[0.2, 0.4, 0.6]]), torch.eye(4)[None],
        torch.tensor([[[focal, 0, 16.5], [0, focal, 16.5], [0, 0, 1]]]), 33, 33,
    )  # fmt: skip
    variance = (focal * scale / depth) ** 2 + 0.3
    expected = opacity * math.exp(-0.5 * 3**2 / variance)
    assert alpha[0, 16, 19, 0] == pytest.approx(expected, rel=1e-5)
    assert image[0, 16, 16].tolist() == pytest.approx([0.2 * opacity, 0.4 * opacity, 0.6 * opacity], rel=1e-5)
    radius = math.ceil(math.sqrt(2 * math.log(255 * opacity) * variance))
    assert info["radii"].tolist() == [[[radius, radius]]]
    assert info["depths"].tolist() == [[depth]]


def test_results_are_bit_identical_for_one_and_two_threads() -> None:
    width, height = 90, 70
    inputs = single(make_scene(5000, 2, width, height, harmonics=4))
    upstream = torch.randn(2, height, width, 4), torch.randn(2, height, width, 1)
    results = []
    threads = numba.get_num_threads()
    try:
        for count in {1, min(2, numba.config.NUMBA_NUM_THREADS)}:
            numba.set_num_threads(count)
            image, alpha, _, gradients = run(
                render, inputs, width, height, upstream, sh_degree=1, render_mode="RGB+D", antialiased=True
            )
            results.append([image, alpha, *gradients.values()])
    finally:
        numba.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[-1], strict=True))


@pytest.mark.parametrize("count", [0, 5])
def test_nothing_to_see_renders_the_background_and_zero_gradients(count: int) -> None:
    inputs = single(make_scene(count, 2, 20, 12))
    inputs["means"][:, 2] = -4.0
    upstream = torch.ones(2, 12, 20, 3), torch.ones(2, 12, 20, 1)
    image, alpha, info, gradients = run(render, inputs, 20, 12, upstream)
    assert torch.equal(image, inputs["backgrounds"][:, None, None].expand(2, 12, 20, 3))
    assert not alpha.any()
    assert not info["radii"].any()
    assert all(not gradients[name].any() for name in NAMES[:-1])
    assert gradients["backgrounds"].tolist() == [[240.0] * 3] * 2


def test_screen_space_gradient_and_its_absolute_sum_are_left_on_means2d() -> None:
    width, height = 30, 26
    inputs = make_scene(40, 1, width, height)
    *_, dense, _ = run(render_dense, inputs, width, height)
    weight = torch.randn(1, height, width, 3, generator=torch.Generator().manual_seed(0)).double()
    weight *= dense["settled"][..., None]

    image, _, reference = render_dense(**{k: v.requires_grad_() for k, v in inputs.items()}, width=width, height=height)
    means2d = reference["means2d"][0]
    loss = (image * weight).sum((0, 3))
    (expected,) = torch.autograd.grad(loss.sum(), means2d, retain_graph=True)
    absolute = sum(torch.autograd.grad(v, means2d, retain_graph=True)[0].abs() for v in loss.flatten())

    leaves = {k: v.detach().float().requires_grad_() for k, v in inputs.items()}
    image, _, info = render(**leaves, width=width, height=height, absgrad=True)
    info["means2d"].retain_grad()
    (image * weight.float()).sum().backward()
    assert (info["means2d"].grad[0] - expected).norm() < 1e-4 * expected.norm()
    assert (info["means2d"].absgrad[0] - absolute).norm() < 1e-4 * absolute.norm()


def test_doubles_and_strided_tensors_give_what_contiguous_floats_give() -> None:
    inputs = make_scene(30, 1, 20, 20)
    strided = {k: torch.stack((v, v), -1)[..., 0] for k, v in inputs.items()}
    expected = render(**single(inputs), width=20, height=20)[0]
    assert torch.equal(render(**strided, width=20, height=20)[0], expected)


def test_a_gaussian_with_a_nan_is_culled() -> None:
    inputs = single(make_scene(10, 1, 20, 20))
    without = {k: v if k in ("viewmats", "Ks", "backgrounds") else v[1:] for k, v in inputs.items()}
    inputs["quats"][0] = 0.0  # no rotation at all
    image, _, info = render(**inputs, width=20, height=20)
    assert info["radii"][0, 0].tolist() == [0, 0]
    assert torch.equal(image, render(**without, width=20, height=20)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quats": torch.zeros(4, 3)}, r"quats has shape \(4, 3\); expected \(4, 4\)"),
        ({"render_mode": "RGBD"}, "render_mode 'RGBD'; expected one of RGB, D"),
        ({"sh_degree": 2, "colors": torch.zeros(4, 4, 3)}, "colors has 4 harmonics; degree 2 needs 9"),
        ({"sh_degree": 4, "colors": torch.zeros(4, 25, 3)}, "sh_degree 4; expected 0 to 3"),
        ({"opacities": torch.zeros(4, dtype=torch.int32)}, "opacities is torch.int32"),
        ({"backgrounds": torch.zeros(1, 2)}, "backgrounds has 2 channels, colors 3"),
        ({"width": 0}, "image size 0 x 10"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, object], message: str) -> None:
    arguments = {**single(make_scene(4, 1, 10, 10)), "width": 10, "height": 10, **change}
    with pytest.raises(ValueError, match=message):
        render(**arguments)
