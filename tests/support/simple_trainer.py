"""Splats and checkpoints as gsplat's simple_trainer has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splatdag.scene.appearance import harmonics
from splatdag.splats.gaussians import Parameters

OF_DATASET = np.array(
    [
        [0.185533737, -0.103935708, 0.241725170, 0.006180200],
        [-0.262296819, -0.096476932, 0.159840661, -0.017490565],
        [0.020834291, -0.289043296, -0.140272457, 0.005356432],
    ]
)
"""World to normalised world of `write_gaussian_scene`, [3, 4], by examples/datasets/normalize.py of gsplat 1.5.3."""


def in_frame(parameters: Parameters, world_to_frame: np.ndarray) -> Parameters:
    """Gaussians of the world in a frame that is rotated, scaled and shifted; harmonics by least squares."""
    scale = np.linalg.det(world_to_frame[:, :3]) ** (1 / 3)
    turn = torch.tensor(world_to_frame[:, :3] / scale, dtype=torch.float64)
    half_trace = float(1 + turn.trace())
    assert half_trace > 0.1
    w = half_trace**0.5 / 2
    axis = torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / (4 * w)
    own = parameters["quats"].double()
    real, rest = own[:, :1], own[:, 1:]
    quats = torch.cat(
        [w * real - (rest @ axis)[:, None], w * rest + real * axis + torch.linalg.cross(axis.expand_as(rest), rest)], 1
    )
    colors = torch.cat([parameters["sh0"], parameters["shN"]], 1).double()
    degree = round(colors.shape[1] ** 0.5) - 1
    directions = torch.nn.functional.normalize(torch.randn((200, 3), generator=torch.Generator().manual_seed(0)), dim=1)
    directions = directions.double()
    values = torch.einsum("dk,nkc->ndc", harmonics(directions, degree), colors)
    bases = harmonics(directions @ turn.T, degree)
    fitted = torch.linalg.lstsq(bases.expand(len(values), -1, -1), values).solution
    means = parameters["means"].double() @ torch.tensor(world_to_frame[:, :3]).T + torch.tensor(world_to_frame[:, 3])
    moved = {
        "means": means, "scales": parameters["scales"].double() + np.log(scale), "quats": quats,
        "opacities": parameters["opacities"], "sh0": fitted[:, :1], "shN": fitted[:, 1:],
    }  # fmt: skip
    return {name: tensor.float() for name, tensor in moved.items()}


def save(path: Path, splats: dict[str, Tensor], step: int = 6999, **parts: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"step": step, "splats": splats, **parts}, path)
    return path
