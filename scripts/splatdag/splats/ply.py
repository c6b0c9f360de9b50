"""Splats as PLY files in the layout of Inria's 3D Gaussian splatting."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from plyfile import PlyData, PlyElement, PlyParseError

from splatdag.splats.gaussians import Parameters
from splatdag.splats.normalisation import Normalisation
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete

_MAX_HEADER_LINES = 1000


def write_ply(path: Path, parameters: Parameters, frame: Normalisation, antialiased: bool = False) -> None:
    """Write Gaussians in the world frame (less the frame's offset); a file is complete or absent.

    Properties: x y z, nx ny nz (zero), f_dc_0..2, f_rest_* (channel by channel), opacity (logit), scale_0..2
    (log), rot_0..3 (wxyz). Comments in the header say what a viewer can't know else: whether training was
    antialiased, and what was taken off the positions.

    Args:
        path: the file.
        parameters: Gaussians in the frame of training.
        frame: from the world to the frame of training.
        antialiased: whether it was trained so.

    Raises:
        ValueError: the frame is rotated, with which spherical harmonics would have to turn.
    """
    if frame.rotation is not None:
        raise ValueError("Gaussians in a rotated frame are not written")
    values = {name: tensor.detach().cpu().numpy() for name, tensor in parameters.items()}
    count = len(values["means"])
    positions = values["means"].astype(np.float64) * frame.scale + (frame.center - frame.offset())
    rotations = values["quats"] / np.linalg.norm(values["quats"], axis=1, keepdims=True)
    columns = {
        ("x", "y", "z"): positions,
        ("nx", "ny", "nz"): np.zeros((count, 3)),
        _numbered("f_dc", 3): values["sh0"][:, 0],
        _numbered("f_rest", values["shN"].shape[1] * 3): values["shN"].transpose(0, 2, 1).reshape(count, -1),
        ("opacity",): values["opacities"][:, None],
        _numbered("scale", 3): values["scales"] + np.log(frame.scale),
        _numbered("rot", 4): rotations,
    }
    names = [name for group in columns for name in group]
    table = np.concatenate(list(columns.values()), axis=1).astype("<f4")
    vertices = np.ascontiguousarray(table).view([(name, "<f4") for name in names])[:, 0]
    with complete(path) as temporary:
        offset = " ".join(f"{value:.0f}" for value in frame.offset())
        comments = ["splatdag", f"antialiased {int(antialiased)}", f"offset {offset}"]
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<", comments=comments).write(str(temporary))


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{index}" for index in range(count))


def read_ply(path: Path) -> Parameters:
    """Read Gaussians as they are in the file: no frame is applied.

    Raises:
        UserError: the file is not a PLY file of Gaussians.
    """
    try:
        vertices = PlyData.read(str(path))["vertex"]
        column = {p.name: np.asarray(vertices[p.name], dtype=np.float32) for p in vertices.properties}
        count, rest = vertices.count, sum(name.startswith("f_rest_") for name in column)
        values = {
            "means": _stacked(column, ("x", "y", "z")),
            "scales": _stacked(column, _numbered("scale", 3)),
            "quats": _stacked(column, _numbered("rot", 4)),
            "opacities": column["opacity"],
            "sh0": _stacked(column, _numbered("f_dc", 3))[:, None],
            "shN": _stacked(column, _numbered("f_rest", rest)).reshape(count, 3, rest // 3).transpose(0, 2, 1),
        }
    except (OSError, KeyError, ValueError, OverflowError, PlyParseError) as error:
        raise UserError(f"{path}: not a PLY file of Gaussians: {error}") from None
    return {name: torch.tensor(np.ascontiguousarray(value)) for name, value in values.items()}


def read_comments(path: Path) -> dict[str, str]:
    """First word and rest of each comment in a PLY file's header; ours are `antialiased` and `offset`."""
    found: dict[str, str] = {}
    with path.open("rb") as file:
        for line in islice(file, _MAX_HEADER_LINES):
            if line.strip() == b"end_header":
                break
            if line.startswith(b"comment "):
                name, _, rest = line.decode("ascii", "replace").removeprefix("comment ").strip().partition(" ")
                found.setdefault(name, rest)
    return found


def _stacked(column: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    count = len(column["x"])
    return np.stack([column[name] for name in names], axis=1) if names else np.zeros((count, 0), np.float32)
