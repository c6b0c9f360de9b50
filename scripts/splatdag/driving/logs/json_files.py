"""JSON files of a PandaSet log: a pose and a time for each frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import parsed_json
from splatdag.workflow.small_file import read_small


def read_json(path: Path) -> Any:
    """Read a JSON file of a log.

    Raises:
        UserError: the file is missing or no JSON.
    """
    try:
        return parsed_json(read_small(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({error})") from None


def read_list(path: Path) -> list[Any]:
    """Read a JSON list of a log.

    Raises:
        UserError: the file is missing or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise UserError(f"{path}: expected a list")
    return content


def read_times(path: Path) -> np.ndarray:
    """Read times [F] float64, seconds since 1970.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        return np.array(read_json(path), dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{path}: expected a list of numbers") from None


def read_poses(path: Path) -> np.ndarray:
    """Read poses [F, 4, 4] float64, sensor to world (m); NaN where a rotation has no length.

    Raises:
        UserError: the file is missing or holds something else.
    """
    poses = read_json(path)
    try:
        positions = np.array([[pose["position"][axis] for axis in "xyz"] for pose in poses], dtype=np.float64)
        headings = np.array([[pose["heading"][part] for part in "wxyz"] for pose in poses], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{path}: expected a list of position {{x, y, z}} and heading {{w, x, y, z}}") from None
    matrices = np.zeros((len(positions), 4, 4))
    matrices[:, :3, :3] = rotations(headings.reshape(-1, 4))
    matrices[:, :3, 3] = positions.reshape(-1, 3)
    matrices[:, 3, 3] = 1
    return matrices


def pose_fields(poses: np.ndarray) -> list[dict[str, dict[str, float]]]:
    """Write poses [F, 4, 4] (sensor to world) as PandaSet's files have them, the inverse of `read_poses`."""
    headings = Rotation.from_matrix(poses[:, :3, :3]).as_quat(scalar_first=True)
    return [
        {
            "position": dict(zip("xyz", pose[:3, 3].tolist(), strict=True)),
            "heading": dict(zip("wxyz", heading.tolist(), strict=True)),
        }
        for pose, heading in zip(poses, headings, strict=True)
    ]


def rotations(quaternions: np.ndarray) -> np.ndarray:
    """Turn quaternions [N, 4] (w, x, y, z) of any length into rotations [N, 3, 3]; NaN for one of length 0."""
    with np.errstate(invalid="ignore"):
        w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    return np.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        axis=1,
    ).reshape(-1, 3, 3)  # fmt: skip
