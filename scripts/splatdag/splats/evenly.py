"""Some of many, evenly spread."""

from __future__ import annotations

import numpy as np


def evenly(count: int, most: int | None) -> np.ndarray:
    """Ascending numbers below `count`, at most so many, with the first and the last among them; None is all."""
    if most is None or count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)
