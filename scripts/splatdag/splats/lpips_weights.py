"""Pretrained weights of LPIPS: their places on disk, sources and licences."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Literal

from splatdag.workflow.backend import Backend
from splatdag.workflow.weights import Weights

Net = Literal["alex", "vgg"]

WEIGHTS: dict[Net, str] = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
"""Torchvision's files of ImageNet weights; the name ends with the start of the SHA-256 of what is in it."""
DOWNLOADS = "https://download.pytorch.org/models"
OFFLINE = "SPLATDAG_OFFLINE"
"""Environment variable: where it is set, nothing is fetched."""
_NAMES: dict[Net, str] = {"alex": "AlexNet", "vgg": "VGG-16"}
_MB: dict[Net, int] = {"alex": 250, "vgg": 560}
"""Host memory (MB) of each network, whose file is read whole: 61.1 and 138.4 million parameters of four bytes."""


def backbone_path(net: Net) -> Path:
    """Return the path of a network's weights, which is torchvision's (TORCH_HOME moves it), without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
    return home / "hub" / "checkpoints" / WEIGHTS[net]


def heads_path(net: Net) -> Path | None:
    """Return the path of the linear heads in torchmetrics without its import, which takes seconds; None if absent."""
    package = importlib.util.find_spec("torchmetrics")
    if package is None or not package.submodule_search_locations:
        return None
    path = Path(package.submodule_search_locations[0]) / "functional" / "image" / "lpips_models" / f"{net}.pth"
    return path if path.is_file() else None


def lpips_weights(net: Net) -> list[Weights]:
    """List the weights that LPIPS with a network needs: the network's and the linear heads'."""
    backbone, heads = backbone_path(net), heads_path(net)
    digest = backbone.stem.rpartition("-")[2]
    return [
        Weights(
            name=f"{_NAMES[net]} of torchvision",
            source=f"{DOWNLOADS}/{backbone.name}",
            revision=digest,
            # The README of torchvision: they may have terms of their own, from the data (ImageNet), and one has to see.
            licence="none stated by torchvision",
            licence_url="https://github.com/pytorch/vision#pre-trained-model-license",
            commercial=None,
            used_for="metrics",
            folder=backbone.parent,
            files={backbone.name: digest},
        ),
        Weights(
            name=f"LPIPS heads, {net}",
            source="https://github.com/richzhang/PerceptualSimilarity",
            revision="0.1",
            licence="BSD-2-Clause",
            licence_url="https://github.com/richzhang/PerceptualSimilarity/blob/master/LICENSE",
            commercial=True,
            used_for="metrics",
            folder=heads and heads.parent,
            files={f"{net}.pth": ""},
        ),
    ]


def to_fetch(net: Net) -> bool:
    """Tell whether LPIPS with a network lacks only what can be fetched, and may be."""
    return OFFLINE not in os.environ and heads_path(net) is not None and not backbone_path(net).is_file()


def lpips_backend(net: Net, rules: tuple[str, ...]) -> Backend:
    """LPIPS as a backend of the rules that measure by it."""
    return Backend(
        f"lpips {net}",
        rules,
        tuple(lpips_weights(net)),
        host_mb=_MB[net],
        proof="with random weights it equals torchmetrics (tests/unit/test_lpips.py)",
        without="LPIPS is left out",
    )
