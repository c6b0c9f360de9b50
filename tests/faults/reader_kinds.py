"""What a reader of files that users have is: a valid file, how it is read, and how values are put into it."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from splatdag.splats.normalisation import Normalisation

CPU = torch.device("cpu")
STILL = Normalisation(np.zeros(3), 1.0, 1.0)


@dataclass(frozen=True)
class Tree:
    """How nested values are read from a file and written into it."""

    load: Callable[[Path], Any]
    save: Callable[[Path, Any], None]


@dataclass(frozen=True)
class Reader:
    """A reader of files."""

    write: Callable[[Path], list[Path]]
    """Make valid files in a folder; returns those that are to be damaged."""
    read: Callable[[Path], object]
    """Read what is in the folder."""
    tree: Tree | None = None
    share: float = 1.0
    """Of the usual number of cases; slow readers get fewer."""
    refuses: bool = True
    """False for what is made anew where it is damaged."""


JSON = Tree(
    lambda path: json.loads(path.read_text()),
    lambda path, value: void(path.write_text(json.dumps(value, default=repr))),
)
YAML = Tree(
    lambda path: yaml.safe_load(path.read_text()),
    lambda path, value: void(path.write_text(yaml.dump(value, default_flow_style=None))),
)
NPZ = Tree(lambda path: dict(np.load(path)), lambda path, value: np.savez(path, **dict(value)))
TORCH = Tree(lambda path: torch.load(path, weights_only=True), lambda path, value: torch.save(value, path))


def void(_: object) -> None:
    """Nothing."""


def load_pickle(path: Path) -> Any:
    data = path.read_bytes()
    return pickle.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


def save_pickle(path: Path, value: Any) -> None:
    data = pickle.dumps(value, protocol=4)
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


PICKLE = Tree(load_pickle, save_pickle)


def some_pixels(height: int = 24, width: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, channels), dtype=np.uint8)
