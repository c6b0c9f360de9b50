"""Folders of photos with a transforms.json, as nerfstudio and others write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from support.scenes import arc

POSES = arc(3)
NERFSTUDIO = [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]]
"""Transform that nerfstudio's own converter applies; it is not its own inverse."""


def opengl(world_to_camera: np.ndarray) -> np.ndarray:
    """Camera-to-world matrix whose columns are right, up and back."""
    camera_to_world = np.linalg.inv(world_to_camera)
    camera_to_world[:, 1] *= -1
    camera_to_world[:, 2] *= -1
    return camera_to_world


def write(folder: Path, applied: list | None = None, scale: float | None = None, **values: Any) -> Path:
    """A folder of three photos, 40×30, and their transforms.json, as a tool that applied a transform writes it."""
    world = np.vstack([applied or np.eye(4)[:3], [0, 0, 0, 1]]).astype(float)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for index, matrix in enumerate(POSES):
        cv2.imwrite(str(folder / "images" / f"{index}.png"), np.full((30, 40, 3), 50 * index, np.uint8))
        saved = world @ opengl(matrix)
        saved[:3, 3] *= scale or 1
        frames.append({"file_path": f"./images/{index}.png", "transform_matrix": saved.tolist()})
    content = {"fl_x": 35.0, "fl_y": 36.0, "cx": 19.0, "cy": 16.0, "w": 40, "h": 30, "frames": frames, **values}
    if applied:
        content["applied_transform"] = applied
    if scale:
        content["applied_scale"] = scale
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder
