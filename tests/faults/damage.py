"""Files damaged by chance: bytes, lines and numbers of any file, and values of files that hold trees of them."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORDS = [b"NaN", b"-1", b"0", b"1e999", b"-1e30", b"9" * 25, b"9" * 400, b"null", b'""', b"[]", b"x", b"\xff\xfe"]
_BINARY = [bytes(8), b"\xff" * 8, b"\xff" * 4, b"\x7f" + b"\xff" * 3, bytes(6) + b"\xf8\x7f", b"\x80\x00\x00\x00"]
_VALUES: list[Any] = [
    None, True, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, float("nan"), float("inf"), -1e300, "", "x", "../../x", "\0",
    "9" * 5000, [], {}, [None], [[1, 2], [3]], ["a", 1], {"a": {}}, (1, 2), b"\xff",
    np.zeros(0), np.zeros((2, 3, 4)), np.full((3, 3), np.nan), np.array("word"), torch.zeros(2, 0),
]  # fmt: skip
"""What may stand where something else was expected."""


def damaged(data: bytes, chance: random.Random) -> bytes:
    """One to three changes of a file's bytes."""
    for _ in range(chance.randint(1, 3)):
        data = chance.choice(_CHANGES)(data, chance)
    return data


def _flipped(data: bytes, chance: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 8, 64)) if data else 0):
        found[_place(data, chance)] ^= 1 << chance.randrange(8)
    return bytes(found)


def _place(data: bytes, chance: random.Random) -> int:
    """Headers, which say most, are hit more often."""
    return min(chance.randrange(len(data)), chance.choice((64, 512, len(data))) - 1)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _inserted(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice((chance.randbytes(9), *_BINARY, *_WORDS, b"\n", b"\t", b"{[" * 2000)) + data[at:]


def _left_out(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + data[at + chance.choice((1, 4, 8, 100)) :]


def _overwritten(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return data
    at, value = _place(data, chance), chance.choice(_BINARY)
    return data[:at] + value + data[at + len(value) :]


def _renumbered(data: bytes, chance: random.Random) -> bytes:
    numbers = list(_NUMBER.finditer(data[:1_000_000]))
    if not numbers:
        return data
    chosen = chance.choice(numbers)
    return data[: chosen.start()] + chance.choice(_WORDS) + data[chosen.end() :]


def _lines_swapped(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _line_twice(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"\n".join(lines)


_CHANGES: list[Callable[[bytes, random.Random], bytes]] = [
    _flipped, _cut, _inserted, _left_out, _overwritten, _renumbered, _renumbered, _lines_swapped, _line_twice,
]  # fmt: skip


def bent(value: Any, chance: random.Random) -> Any:
    """A copy of nested values, one of which is replaced, left out, or given another shape or type."""
    found = [copy.deepcopy(value)]
    holder: Any = found
    key: Any = 0
    while (inner := _keys(holder[key])) and chance.random() < 0.85:
        holder, key = holder[key], chance.choice(inner)
    if holder is not found and chance.random() < 0.2:
        del holder[key]
    else:
        holder[key] = _another(holder[key], chance)
    return found[0]


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []


def _another(value: Any, chance: random.Random) -> Any:
    """Something like a value, or something quite different."""
    if chance.random() < 0.5:
        if isinstance(value, np.ndarray) and value.size:
            return _other_array(value, chance)
        if isinstance(value, torch.Tensor) and value.numel():
            return torch.from_numpy(_other_array(value.numpy(), chance))
        if isinstance(value, pd.DataFrame):
            return _other_table(value, chance)
    return copy.deepcopy(chance.choice(_VALUES))


def _other_array(array: np.ndarray, chance: random.Random) -> np.ndarray:
    kind = chance.randrange(5)
    if kind == 0:
        return array.ravel()[:-1].copy()
    if kind == 1:
        return array.astype(chance.choice((np.float64, np.int8, np.bool_, np.complex64)))
    if kind == 2:
        return np.ascontiguousarray(array[None])
    if kind == 3:
        return np.zeros((0, *array.shape[1:]), array.dtype)
    changed = array.copy()
    changed.flat[chance.randrange(array.size)] = np.nan if array.dtype.kind == "f" else 1
    return changed


def _other_table(table: pd.DataFrame, chance: random.Random) -> pd.DataFrame:
    name = chance.choice(list(table.columns))
    kind = chance.randrange(4)
    if kind == 0:
        return table.drop(columns=name)
    if kind == 1:
        return table.iloc[:0]
    if kind == 2:
        return table.rename(columns={name: chance.choice([0, "x", None])})
    changed = table.astype({name: object})
    changed.loc[chance.randrange(len(table)), name] = chance.choice([None, "x", float("nan"), 10**400, -(2**70)])
    return changed
