"""Previews: predictions beside their ground truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from splatdag.formats.images import encoded
from splatdag.scene.measure import Pair
from splatdag.workflow.publish import write_bytes
from splatdag.workflow.sequences import evenly

T = TypeVar("T")
_ROWS = 6
_WIDTH = 480
_GAP = 6
_DIMMED = 0.3
"""Factor on the brightness of masked pixels."""


def spread(items: Sequence[T]) -> list[T]:
    """Choose items, spread evenly, one for each row of a preview."""
    return [items[index] for index in evenly(len(items), _ROWS)]


def write_preview(path: Path, pairs: Iterable[Pair]) -> None:
    """Write prediction | ground truth, one row per pair; masked parts of the photo are dark."""

    def pixels(image: Tensor) -> np.ndarray:
        return (image.cpu().numpy() * 255).round().astype(np.uint8)

    rows = []
    for pair in pairs:
        truth = pair.truth
        if pair.mask is not None:
            truth = torch.where(pair.mask[..., None], truth, truth * _DIMMED)
        rows.append((pixels(pair.prediction), pixels(truth), pair.name))
    write_pairs(path, rows)


def write_pairs(path: Path, pairs: Iterable[tuple[np.ndarray, np.ndarray, str]]) -> None:
    """Write prediction | ground truth, a row for each, scaled to one width.

    Args:
        path: JPEG file.
        pairs: prediction and ground truth [H, W, 3] uint8 RGB, and the name of the view.
    """
    rows = []
    for prediction, truth, name in pairs:
        left, right = _labelled(prediction, "prediction"), _labelled(truth, f"ground truth: {name}")
        rows.append(np.concatenate([left, np.full((len(left), _GAP, 3), 255, np.uint8), right], axis=1))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    write_bytes(path, encoded(np.concatenate(padded), ".jpg"))


def _labelled(image: np.ndarray, text: str) -> np.ndarray:
    scale = _WIDTH / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text((6, 4), text, fill="white", stroke_width=2, stroke_fill="black")
    return np.asarray(picture)
