"""LPIPS against torchmetrics, with random weights in files like torchvision's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import torchmetrics.functional.image.lpips as oracle
import torchmetrics.image.lpip
from torch import Tensor, nn

from splatdag.splats import lpips
from splatdag.splats.lpips import Lpips, how_to_get
from splatdag.splats.lpips_weights import WEIGHTS, Net, backbone_path, lpips_weights
from splatdag.workflow.errors import UserError

CPU = torch.device("cpu")


def conv(before: int, after: int, size: int = 3, stride: int = 1, padding: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, size, stride, padding), nn.ReLU()]


def features(net: Net) -> nn.Sequential:
    """The `features` of torchvision's models, with random weights that keep the signal's size."""
    torch.manual_seed(7)
    if net == "alex":
        layers = [
            *conv(3, 64, 11, 4, 2), nn.MaxPool2d(3, 2), *conv(64, 192, 5, 1, 2), nn.MaxPool2d(3, 2), *conv(192, 384),
            *conv(384, 256), *conv(256, 256), nn.MaxPool2d(3, 2),
        ]  # fmt: skip
    else:
        layers, before = [], 3
        for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(depth):
                layers += conv(before, width)
                before = width
            layers.append(nn.MaxPool2d(2, 2))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, std=0.1)
    return nn.Sequential(*layers)


def save(net: Net, monkeypatch: pytest.MonkeyPatch, zipped: bool = True) -> Path:
    """Write random weights where torchvision keeps its own, named after their digest as its files are."""
    state = {f"features.{name}": value for name, value in features(net).state_dict().items()}
    state["classifier.6.bias"] = torch.zeros(1000)
    folder = backbone_path(net).parent
    folder.mkdir(parents=True, exist_ok=True)
    unnamed = folder / "unnamed"
    torch.save(state, unnamed, _use_new_zipfile_serialization=zipped)
    name = f"{net}-{hashlib.sha256(unnamed.read_bytes()).hexdigest()[:8]}.pth"
    monkeypatch.setitem(WEIGHTS, net, name)
    return unnamed.rename(folder / name)


def load(net: Net) -> Lpips:
    found = Lpips.load(net, CPU)
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of torch.hub of our own, and torchmetrics with the backbone of `features`."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    names = {"alexnet": "alex", "vgg16": "vgg"}
    monkeypatch.setattr(oracle, "_get_tv_model_features", lambda net, pretrained: features(names[net]))
    monkeypatch.setattr(torchmetrics.image.lpip, "_TORCHVISION_AVAILABLE", True)


def pair(height: int, width: int, noise: float = 0.2) -> tuple[Tensor, Tensor]:
    """An image of soft blobs, and the same with noise."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand((1, 3, 5, 6), generator=generator)
    image = nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].permute(1, 2, 0).clamp(0, 1)
    return image, (image + noise * torch.randn(image.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(
    ("net", "size"), [("alex", (67, 90)), ("alex", (31, 31)), ("vgg", (50, 37)), ("vgg", (16, 16))]
)
def test_it_equals_torchmetrics(net, size, monkeypatch):
    save(net, monkeypatch)
    image, target = pair(*size)
    metric = torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True)
    expected = float(metric(image.permute(2, 0, 1)[None], target.permute(2, 0, 1)[None]))
    assert expected > 0.01
    assert load(net)(image, target) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_masked_it_is_the_mean_over_the_mask_of_torchmetrics_map_of_masked_images(net, monkeypatch):
    save(net, monkeypatch)
    image, target = pair(45, 70)
    mask = torch.zeros((45, 70), dtype=torch.bool)
    mask[10:40, 20:65] = True
    mask[20, 30] = False
    masked = [(v * mask[..., None]).permute(2, 0, 1)[None] for v in (image, target)]
    where = oracle._NoTrainLpips(net=net, spatial=True)(*masked, normalize=True)[0, 0]
    expected = float((where * mask).sum() / mask.sum())
    assert expected > 0.01
    assert load(net)(image, target, mask) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_equal_images_have_no_distance_and_noise_adds_to_it(net, monkeypatch):
    save(net, monkeypatch)
    measure = load(net)
    values = [measure(*pair(48, 48, noise)) for noise in (0, 0.02, 0.1, 0.4)]
    assert values[0] == 0
    assert values == sorted(set(values))


def test_what_lies_outside_the_mask_does_not_count(monkeypatch):
    save("alex", monkeypatch)
    image, target = pair(64, 64)
    mask = torch.ones((64, 64), dtype=torch.bool)
    mask[:, 40:] = False
    changed = target.clone()
    changed[:, 40:] = 0.5
    assert load("alex")(image, target, mask) == load("alex")(image, changed, mask)


@pytest.mark.parametrize(("net", "size"), [("alex", (30, 64)), ("vgg", (64, 15))])
def test_an_image_too_small_for_the_network_is_refused_where_torchmetrics_fails(net, size, monkeypatch):
    save(net, monkeypatch)
    image, target = pair(*size)
    with pytest.raises(RuntimeError, match="size"):
        oracle._NoTrainLpips(net=net)(image.permute(2, 0, 1)[None], target.permute(2, 0, 1)[None])
    with pytest.raises(ValueError, match=rf"image of {size[1]} x {size[0]} pixels; LPIPS \({net}\) needs"):
        load(net)(image, target)


def test_wrong_values_shapes_and_masks_are_refused(monkeypatch):
    save("alex", monkeypatch)
    measure = load("alex")
    image, target = pair(40, 40)
    with pytest.raises(ValueError, match="expected both"):
        measure(image, target[:39])
    with pytest.raises(ValueError, match=r"target from 0 to 255; expected values in \[0,1\]"):
        measure(image, (target > 0.5).float() * 255)
    with pytest.raises(ValueError, match=r"image from nan"):
        measure(image * torch.nan, target)
    with pytest.raises(ValueError, match="expected bool"):
        measure(image, target, torch.ones((40, 40)))
    with pytest.raises(ValueError, match="empty"):
        measure(image, target, torch.zeros((40, 40), dtype=torch.bool))


def test_without_weights_there_is_no_lpips_and_a_line_says_how_to_get_it(tmp_path):
    assert Lpips.load("vgg", CPU) is None
    line = how_to_get("vgg")
    assert str(tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth") in line
    assert "https://download.pytorch.org/models/vgg16-397923af.pth" in line


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME", "HOME"])
def test_they_lie_where_torchvision_keeps_its_own(variable, monkeypatch, tmp_path):
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert backbone_path("alex").parent == Path(torch.hub.get_dir()) / "checkpoints"
    assert (tmp_path / "elsewhere") in backbone_path("alex").parents


def test_the_weights_say_what_they_are_and_only_measure(monkeypatch):
    path = save("alex", monkeypatch)
    backbone, heads = load("alex").weights
    assert [weights.check()[0] for weights in (backbone, heads)] == ["found", "found"]
    assert (backbone.revision, backbone.commercial, heads.licence) == (path.stem[-8:], None, "BSD-2-Clause")
    assert {backbone.used_for, heads.used_for} == {"metrics"}
    path.write_bytes(b"other")
    assert lpips_weights("alex")[0].check()[0] == "other SHA-256"


def test_weights_in_the_old_format_of_torch_are_read(monkeypatch):
    image, target = pair(40, 40)
    save("alex", monkeypatch)
    expected = load("alex")(image, target)
    save("alex", monkeypatch, zipped=False)
    assert load("alex")(image, target) == expected


@pytest.mark.parametrize("content", ["truncated", "foreign"])
def test_a_damaged_or_foreign_file_is_named(content, monkeypatch):
    path = save("alex", monkeypatch)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "truncated" else b"<html>not found</html>")
    with pytest.raises(UserError, match="SHA-256") as caught:
        Lpips.load("alex", CPU)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_heads_that_can_not_be_read_are_named(monkeypatch, tmp_path):
    save("alex", monkeypatch)
    heads = tmp_path / "alex.pth"
    heads.write_bytes(b"PK damaged")
    monkeypatch.setattr(lpips, "heads_path", lambda net: heads)
    with pytest.raises(UserError, match="can't be read as weights of LPIPS") as caught:
        Lpips.load("alex", CPU)
    assert str(heads) in str(caught.value)


def test_a_file_with_code_in_it_is_not_run(monkeypatch, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = save("alex", monkeypatch)
    torch.save({"features.0.weight": Trap()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    monkeypatch.setitem(WEIGHTS, "alex", f"alex-{digest}.pth")
    path.rename(path.with_name(f"alex-{digest}.pth"))
    with pytest.raises(UserError, match="UnpicklingError"):
        Lpips.load("alex", CPU)
    assert not (tmp_path / "sprung").exists()
