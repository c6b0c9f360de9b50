"""Loss and image metrics against torch autograd in float64, torchmetrics and brute force."""

import math

import numba
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from splatdag.splats.losses import photometric_loss
from splatdag.splats.metrics import psnr, ssim


def make_images(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A smooth image and a noisy, shifted copy."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(shape[0], 3, 6, 5, generator=generator)
    target = torch.nn.functional.interpolate(coarse, size=shape[1:3], mode="bilinear").permute(0, 2, 3, 1)
    noise = 0.1 * torch.randn(target.shape, generator=generator)
    return (target.roll(1, 2) + noise).clamp(0, 1).contiguous(), target.contiguous()


def make_mask(*shape: int) -> Tensor:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(2)) > 0.2
    mask[..., : shape[-1] // 3] = False
    return mask


def window() -> Tensor:
    steps = torch.arange(11, dtype=torch.float64) - 5
    line = torch.exp(-(steps**2) / (2 * 1.5**2))
    return torch.outer(line, line) / line.sum() ** 2


def similarity_map(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of every 11x11 window inside images [C,H,W,3], by one dense 2-D convolution per moment."""
    x, y = (v.permute(0, 3, 1, 2).flatten(0, 1)[:, None] for v in (x, y))

    def mean(v: Tensor) -> Tensor:
        return conv2d(v, window()[None, None])

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    return (2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))


def reference_loss(image: Tensor, target: Tensor, ssim_lambda: float, mask: Tensor | None) -> Tensor:
    keep = torch.ones(image.shape[:3], dtype=torch.bool) if mask is None else mask
    l1 = (image - target)[keep].abs().mean()
    if ssim_lambda == 0:
        return l1
    value = similarity_map(image * keep[..., None], target * keep[..., None]).mean()
    return (1 - ssim_lambda) * l1 + ssim_lambda * (1 - value)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "ssim_lambda"), [((1, 11, 11), 0.2), ((2, 40, 33), 0.2), ((1, 75, 150), 1.0), ((2, 9, 7), 0.0)]
)
def test_loss_and_gradient_equal_autograd_in_float64(shape, ssim_lambda, masked):
    image, target = make_images(*shape)
    mask = make_mask(*shape) if masked else None
    ours, theirs = image.clone().requires_grad_(), image.double().requires_grad_()
    loss = photometric_loss(ours, target, ssim_lambda, mask)
    expected = reference_loss(theirs, target.double(), ssim_lambda, mask)
    (3 * loss).backward()
    (3 * expected).backward()
    assert loss.item() == pytest.approx(expected.item(), abs=2e-6)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert (ours.grad - theirs.grad).norm() < 1e-4 * theirs.grad.norm()
    if mask is not None:
        assert not ours.grad[~mask].any()


def test_loss_of_equal_images_is_zero() -> None:
    image, _ = make_images(1, 30, 30)
    assert photometric_loss(image, image.clone(), 0.2).item() == pytest.approx(0, abs=1e-6)


def test_loss_is_bit_identical_for_one_and_two_threads() -> None:
    image, target = make_images(2, 100, 140)
    results = []
    threads = numba.get_num_threads()
    try:
        for count in {1, min(2, numba.config.NUMBA_NUM_THREADS)}:
            numba.set_num_threads(count)
            leaf = image.clone().requires_grad_()
            loss = photometric_loss(leaf, target, 0.2)
            loss.backward()
            results.append((loss.detach(), leaf.grad))
    finally:
        numba.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[-1], strict=True))


def test_a_mask_without_pixels_leaves_no_l1() -> None:
    image, target = make_images(1, 20, 20)
    leaf = image.requires_grad_()
    loss = photometric_loss(leaf, target, 0.2, torch.zeros(1, 20, 20, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert leaf.grad is not None
    assert not leaf.grad.any()


def test_an_image_smaller_than_the_window_is_refused() -> None:
    image, target = make_images(1, 10, 40)
    with pytest.raises(ValueError, match="image of 40 x 10 pixels; SSIM needs 11 x 11"):
        photometric_loss(image, target, 0.2)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected both \[C,H,W,3\]"):
        photometric_loss(torch.zeros(1, 20, 20, 3), torch.zeros(1, 20, 21, 3), 0.2)
    with pytest.raises(ValueError, match="expected bool"):
        photometric_loss(torch.zeros(1, 20, 20, 3), torch.zeros(1, 20, 20, 3), 0.2, torch.ones(1, 20, 20))


@pytest.mark.parametrize("size", [(12, 40), (61, 47)])
def test_metrics_equal_torchmetrics(size: tuple[int, int]) -> None:
    image, target = (v[0] for v in make_images(1, *size))
    batch = [v.permute(2, 0, 1)[None].double() for v in (image, target)]
    assert psnr(image, target) == pytest.approx(PeakSignalNoiseRatio(data_range=1.0)(*batch).item(), abs=1e-5)
    expected = StructuralSimilarityIndexMeasure(data_range=1.0)(*batch).item()
    assert ssim(image, target) == pytest.approx(expected, abs=1e-6)


def test_a_full_mask_changes_nothing() -> None:
    image, target = (v[0] for v in make_images(1, 30, 25))
    full = torch.ones(30, 25, dtype=torch.bool)
    assert psnr(image, target, full) == pytest.approx(psnr(image, target), abs=1e-9)
    assert ssim(image, target, full) == pytest.approx(ssim(image, target), abs=1e-9)


def test_masked_metrics_ignore_what_the_mask_leaves_out() -> None:
    image, target = (v[0] for v in make_images(1, 40, 36))
    mask = make_mask(40, 36)
    spoiled = torch.where(mask[..., None], image, torch.rand_like(image))
    assert psnr(spoiled, target, mask) == psnr(image, target, mask)
    assert ssim(spoiled, target, mask) == pytest.approx(ssim(image, target, mask), abs=1e-12)
    error = (image - target)[mask].double().square().mean()
    assert psnr(image, target, mask) == pytest.approx(-10 * math.log10(error), abs=1e-6)


def test_masked_ssim_renormalises_each_window_and_drops_those_hardly_covered() -> None:
    image, target = (v[0].double() for v in make_images(1, 17, 15))
    mask = make_mask(17, 15)
    # By brute force over the windows around each pixel, with the borders reflected.
    rows = torch.tensor([abs(i) if i < 17 else 32 - i for i in range(-5, 22)])
    columns = torch.tensor([abs(i) if i < 15 else 28 - i for i in range(-5, 20)])
    values = []
    for i in range(17):
        for j in range(15):
            where = (rows[i : i + 11, None], columns[None, j : j + 11])
            weight = window() * mask[where]
            if weight.sum() >= 0.5:
                weight = (weight / weight.sum())[..., None]
                x, y = image[where], target[where]
                mx, my = (weight * x).sum((0, 1)), (weight * y).sum((0, 1))
                vx, vy = (weight * (x - mx) ** 2).sum((0, 1)), (weight * (y - my) ** 2).sum((0, 1))
                vxy = (weight * (x - mx) * (y - my)).sum((0, 1))
                values.append((2 * mx * my + 1e-4) * (2 * vxy + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert 0 < len(values) < 17 * 15
    assert ssim(image.float(), target.float(), mask) == pytest.approx(torch.stack(values).mean().item(), abs=1e-6)


def test_metrics_refuse_an_empty_mask_and_different_shapes() -> None:
    image, target = (v[0] for v in make_images(1, 20, 20))
    with pytest.raises(ValueError, match="mask is empty"):
        psnr(image, target, torch.zeros(20, 20, dtype=torch.bool))
    with pytest.raises(ValueError, match="expected both"):
        ssim(image, target[:-1])
    sparse = torch.zeros(20, 20, dtype=torch.bool)
    sparse[0, 0] = True
    with pytest.raises(ValueError, match="no window"):
        ssim(image, target, sparse)
