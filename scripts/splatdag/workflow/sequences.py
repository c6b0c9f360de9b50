"""Selection from sequences and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def evenly(count: int, most: int | None) -> np.ndarray:
    """Return ascending numbers below `count`, first and last among them, at most `most` of them; None gives all."""
    import numpy as np

    if most is None or count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)


def by_number(name: str) -> tuple[bool, int, str]:
    """Return the sort key of epochs (`epoch_0100`) and cameras (`28`): numbers in order, then all other names."""
    number = name.removeprefix("epoch_")
    return (False, int(number), "") if number.isdecimal() else (True, 0, name)
