"""Choosing from sequences and ordering them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def evenly(count: int, most: int | None) -> np.ndarray:
    """Ascending numbers below `count`, at most so many, with the first and the last among them; None is all."""
    import numpy as np

    if most is None or count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)


def by_number(name: str) -> tuple[bool, int, str]:
    """Sort key of epochs (`epoch_0100`) and cameras (`28`): by number, then those whose name is none."""
    number = name.removeprefix("epoch_")
    return (False, int(number), "") if number.isdecimal() else (True, 0, name)
