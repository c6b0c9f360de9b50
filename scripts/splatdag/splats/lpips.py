"""LPIPS of one view, without torchvision, from weights on disk."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d, relu

from splatdag.splats.lpips_weights import DOWNLOADS, Net, backbone_path, heads_path, lpips_weights
from splatdag.workflow.errors import UserError
from splatdag.workflow.fetch import wait_for_fetch
from splatdag.workflow.weights import Weights

logger = logging.getLogger(__name__)


class _Conv(NamedTuple):
    """A convolution, followed by ReLU: its number among torchvision's `features`, stride and padding."""

    number: int
    stride: int = 1
    padding: int = 1


class _Pool(NamedTuple):
    """The largest of size × size pixels, every second pixel."""

    size: int


# Layers up to each feature map that is compared: Krizhevsky, One weird trick for parallelizing convolutional
# neural networks (2014), and Simonyan & Zisserman, Very Deep Convolutional Networks (2015), table 1 D.
_STAGES: dict[Net, tuple[tuple[_Conv | _Pool, ...], ...]] = {
    "alex": (
        (_Conv(0, stride=4, padding=2),),
        (_Pool(3), _Conv(3, padding=2)),
        (_Pool(3), _Conv(6)),
        (_Conv(8),),
        (_Conv(10),),
    ),
    "vgg": (
        (_Conv(0), _Conv(2)),
        (_Pool(2), _Conv(5), _Conv(7)),
        (_Pool(2), _Conv(10), _Conv(12), _Conv(14)),
        (_Pool(2), _Conv(17), _Conv(19), _Conv(21)),
        (_Pool(2), _Conv(24), _Conv(26), _Conv(28)),
    ),
}
_SMALLEST = {"alex": 31, "vgg": 16}  # pixels; below, nothing is left for the last pooling
_MEAN = (-0.030, -0.088, -0.188)  # of ImageNet's colours, in [-1, 1]
_DEVIATION = (0.458, 0.448, 0.450)
_EPSILON = 1e-8


@dataclass(frozen=True)
class Lpips:
    """Learned perceptual image patch similarity: Zhang et al., The Unreasonable Effectiveness of Deep Features
    as a Perceptual Metric (2018), eq. 1, with the linear heads of its version 0.1.

    Equals torchmetrics' LearnedPerceptualImagePatchSimilarity(net_type=net, normalize=True).
    """

    net: Net
    convolutions: dict[int, tuple[Tensor, Tensor]]
    """Weight and bias by number among torchvision's `features`."""
    heads: list[Tensor]
    """[1, C, 1, 1] weights of the channels of each feature map."""

    @classmethod
    def load(cls, net: Net, device: torch.device) -> Lpips | None:
        """Read the weights; None where they are not on disk (`how_to_get` says what to do).

        Raises UserError, naming the file, for one that is damaged or not what its name says.
        """
        backbone, heads = backbone_path(net), heads_path(net)
        if heads is None or not backbone.is_file():
            return None
        _check_digest(backbone)
        layers = [layer.number for stage in _STAGES[net] for layer in stage if isinstance(layer, _Conv)]
        names = [f"features.{number}.{part}" for number in layers for part in ("weight", "bias")]
        tensors = _read(backbone, names, device)
        pairs = zip(tensors[0::2], tensors[1::2], strict=True)
        return cls(
            net,
            dict(zip(layers, pairs, strict=True)),
            _read(heads, [f"lin{stage}.model.1.weight" for stage in range(len(_STAGES[net]))], device),
        )

    @property
    def weights(self) -> list[Weights]:
        """Weights that it measures with, for manifests."""
        return lpips_weights(self.net)

    @torch.no_grad()
    def __call__(self, image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
        """Distance of two images [H,W,3] in [0,1], 0 for equal ones; mask [H,W] bool, True where a pixel counts.

        Masked, both images are black outside the mask, the map of distances is enlarged to the size of the
        image, and its mean is taken over the mask, after Gao et al., Monocular Dynamic View Synthesis: A
        Reality Check (2022). Raises ValueError where shapes differ, values lie outside [0,1], the mask is
        empty, or the image is smaller than the network takes (31 pixels for alex, 16 for vgg; torchmetrics
        fails there as well).
        """
        self._check(image, target, mask)
        device = self.heads[0].device
        features = torch.stack([image, target]).to(device, torch.float32).permute(0, 3, 1, 2)
        if mask is not None:
            mask = mask.to(device)
            features = features * mask
        mean, deviation = (features.new_tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _DEVIATION))
        features = (2 * features - 1 - mean) / deviation
        total = 0.0
        for stage, head in zip(_STAGES[self.net], self.heads, strict=True):
            for layer in stage:
                features = self._apply(layer, features)
            unit = features / (features.square().sum(dim=1, keepdim=True) + _EPSILON).sqrt()
            distance = conv2d((unit[:1] - unit[1:]).square(), head)
            if mask is None:
                total += float(distance.mean())
            else:
                enlarged = interpolate(distance, mask.shape, mode="bilinear", align_corners=False)
                total += float(enlarged[0, 0][mask].mean())
        return total

    def _apply(self, layer: _Conv | _Pool, features: Tensor) -> Tensor:
        if isinstance(layer, _Pool):
            return max_pool2d(features, layer.size, stride=2)
        weight, bias = self.convolutions[layer.number]
        return relu(conv2d(features, weight, bias, layer.stride, layer.padding))

    def _check(self, image: Tensor, target: Tensor, mask: Tensor | None) -> None:
        if image.dim() != 3 or image.shape[2] != 3 or image.shape != target.shape:
            raise ValueError(f"image {tuple(image.shape)} and target {tuple(target.shape)}; expected both [H,W,3]")
        height, width = image.shape[:2]
        smallest = _SMALLEST[self.net]
        if min(height, width) < smallest:
            raise ValueError(f"image of {width} x {height} pixels; LPIPS ({self.net}) needs {smallest} x {smallest}")
        for name, values in (("image", image), ("target", target)):
            if not (values.min() >= 0 and values.max() <= 1):
                raise ValueError(f"{name} from {values.min():g} to {values.max():g}; expected values in [0,1]")
        if mask is not None and (mask.shape != image.shape[:2] or mask.dtype != torch.bool):
            raise ValueError(f"mask {tuple(mask.shape)} {mask.dtype}; expected bool {(height, width)}")
        if mask is not None and not mask.any():
            raise ValueError("the mask is empty")


@dataclass(frozen=True)
class NoLpips:
    """Stand-in for LPIPS where it can't be measured."""

    reason: str
    """Reason in a few words."""
    weights: tuple[Weights, ...] = ()

    def __call__(self, image: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Return None in place of a distance."""


def lpips_where_possible(net: Net, least_side: int, device: torch.device) -> Lpips | NoLpips:
    """Load LPIPS, or log why not and return its stand-in; waits for weights that another process is just fetching.

    Args:
        net: the network.
        least_side: of the photos it is for (pixels).
        device: where to compute.

    Raises:
        UserError: as `Lpips.load`.
    """
    wait_for_fetch(backbone_path(net))
    lpips = Lpips.load(net, device)
    if lpips is None:
        logger.info("%s", how_to_get(net))
        return NoLpips(f"no weights of {net} on this machine")
    if least_side < _SMALLEST[net]:
        reason = f"{net} needs {_SMALLEST[net]} pixels, a photo has {least_side}"
        logger.info("LPIPS is left out: %s", reason)
        return NoLpips(reason)
    return lpips


def how_to_get(net: Net) -> str:
    """Return the line for the log that says why `Lpips.load` returned None and what to do."""
    if heads_path(net) is None:
        return "LPIPS is left out: torchmetrics is not installed whole; pip install -r envs/core.txt"
    path = backbone_path(net)
    return f"LPIPS is left out: no {path}; to have it, save {DOWNLOADS}/{path.name} there"


def _check_digest(path: Path) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = path.stem.rpartition("-")[2]
    if not digest.startswith(expected):
        raise UserError(
            f"{path}: its SHA-256 starts with {digest[: len(expected)]}, not {expected}: damaged, or another file; "
            f"replace it by {DOWNLOADS}/{path.name}, or remove it to go without LPIPS"
        )


def _read(path: Path, names: list[str], device: torch.device) -> list[Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return [state[name].detach().to(device, torch.float32) for name in names]
    except Exception as error:  # whatever a damaged file makes the reader raise
        message = f"{path}: can't be read as weights of LPIPS ({type(error).__name__}); replace or remove it"
        raise UserError(message) from error
