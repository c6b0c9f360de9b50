"""Rounds of faults: a usual one injects a sample of them, chosen by a seed; a full one injects all of them.

`make test-faults FULL=1` is a full round, `make test-faults SEED=7` a usual one with another sample.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from typing import TypeVar

Case = TypeVar("Case")
FULL = os.environ.get("FULL", "") not in ("", "0")
SEED = os.environ.get("SEED") or "1"
ROUND = "a full round" if FULL else f"a usual round, SEED={SEED}; FULL=1 injects all faults"


def chance(of: str) -> random.Random:
    """Chance of its own for something with a name: the same in every process and in every round with this seed."""
    return random.Random(f"{SEED} {of}")


def sampled(cases: Iterable[Case], usual: int, of: str) -> list[Case]:
    """In a full round all cases, else so many of them by chance; in their order."""
    every = list(cases)
    if FULL or len(every) <= usual:
        return every
    return [every[index] for index in sorted(chance(of).sample(range(len(every)), usual))]


def dealt(cases: Sequence[Case], hand: int, hands: int, of: str) -> list[Case]:
    """In a full round all cases, else those of one hand of so many, to which they are dealt by chance."""
    every = list(cases)
    return every if FULL else chance(of).sample(every, len(every))[hand::hands]
