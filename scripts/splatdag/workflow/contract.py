"""The files that a backend has to write, and the check of them before a stage publishes any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import read_json

Dimension = int | str
"""Number, or the name of one, such as `H`, which is the same number wherever a contract uses the name."""


class ContractBroken(UserError):
    """Breach of a contract: a file is missing, or is not as the contract describes it."""


@dataclass(frozen=True)
class Array:
    """An array of numbers or text."""

    shape: tuple[Dimension, ...]
    dtype: str
    """Type of the elements, such as `float32`; `U` is text of any length."""
    finite: bool = True
    """True to refuse values that are NaN or infinite."""


@dataclass(frozen=True)
class Npy:
    """A NumPy file of one array."""

    array: Array


@dataclass(frozen=True)
class Npz:
    """A NumPy archive with at least these arrays."""

    arrays: Mapping[str, Array]


@dataclass(frozen=True)
class Picture:
    """An image that can be decoded."""

    width: Dimension
    height: Dimension
    mode: str = "RGB"
    """Pillow's name of its channels."""


@dataclass(frozen=True)
class Json:
    """A JSON object with at least these keys; float stands for any number."""

    keys: Mapping[str, type]


@dataclass(frozen=True)
class NotEmpty:
    """A file of another format that is not empty."""


@dataclass(frozen=True)
class Expected:
    """A file, or several of a kind."""

    name: str
    """Path relative to the folder; with `count`, a pattern such as `views/*.png`."""
    kind: Npy | Npz | Picture | Json | NotEmpty
    count: Dimension | None = None
    """Number of files that match the pattern; None for a single file."""


def check_contract(contract: Iterable[Expected], folder: Path, **known: int) -> dict[str, int]:
    """Check that a folder holds what a contract says.

    Args:
        contract: the files.
        folder: folder of the files.
        known: dimensions that are known before, by name.

    Returns:
        All dimensions by name.

    Raises:
        ContractBroken: the first file that is missing or differs, what was expected and what it is.
    """
    sizes = _Sizes(known)
    for expected in contract:
        paths = [folder / expected.name]
        if expected.count is not None:
            paths = sorted(folder.glob(expected.name))
            sizes.check((expected.count,), (len(paths),), f"{expected.name}: number of files")
        for path in paths:
            name = path.relative_to(folder).as_posix()
            if not path.is_file() or path.is_symlink():
                raise ContractBroken(f"{name} is missing")
            _check_file(path, name, expected.kind, sizes)
    return sizes.known


class _Sizes:
    """Dimensions by name; the first use of a name sets its number."""

    def __init__(self, known: dict[str, int]) -> None:
        self.known = dict(known)

    def check(self, expected: tuple[Dimension, ...], found: tuple[int, ...], what: str) -> None:
        same = len(expected) == len(found)
        for wanted, size in zip(expected, found, strict=False):
            number = self.known.setdefault(wanted, size) if isinstance(wanted, str) and same else wanted
            same = same and number == size
        if not same:
            shown = ", ".join(f"{d}={self.known[d]}" if d in self.known else str(d) for d in map(_name, expected))
            raise ContractBroken(f"{what} is [{', '.join(map(str, found))}], expected [{shown}]")


def _name(dimension: Dimension) -> str:
    return str(dimension)


def _check_file(path: Path, name: str, kind: Npy | Npz | Picture | Json | NotEmpty, sizes: _Sizes) -> None:
    if path.stat().st_size == 0:
        raise ContractBroken(f"{name} is empty")
    match kind:
        case Npy(array):
            _check_array(_loaded(path, name), array, name, sizes)
        case Npz(arrays):
            archive = _loaded(path, name)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ContractBroken(f"{name} is no archive of arrays (npz)")
            with archive:
                for key, array in arrays.items():
                    if key not in archive.files:
                        raise ContractBroken(f"{name} has no array {key}, only {', '.join(archive.files)}")
                    _check_array(_member(archive, key, name), array, f"{name}: {key}", sizes)
        case Picture(width, height, mode):
            _check_picture(path, name, (width, height), mode, sizes)
        case Json(keys):
            _check_keys(path, name, keys)


def _loaded(path: Path, name: str) -> object:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy and zipfile have many for a damaged file
        raise ContractBroken(f"{name} can't be read: {error}") from None


def _member(archive: np.lib.npyio.NpzFile, key: str, name: str) -> object:
    try:
        return archive[key]
    except Exception as error:  # as above
        raise ContractBroken(f"{name}: {key} can't be read: {error}") from None


def _check_array(found: object, expected: Array, what: str, sizes: _Sizes) -> None:
    if not isinstance(found, np.ndarray):
        raise ContractBroken(f"{what} is no array")
    same = found.dtype.kind == "U" if expected.dtype == "U" else found.dtype == np.dtype(expected.dtype)
    if not same:
        raise ContractBroken(f"{what} is of {found.dtype}, expected {expected.dtype}")
    sizes.check(expected.shape, found.shape, what)
    if expected.finite and found.dtype.kind in "fc" and not np.isfinite(found).all():
        raise ContractBroken(f"{what} has values that are NaN or infinite")


def _check_picture(path: Path, name: str, size: tuple[Dimension, Dimension], mode: str, sizes: _Sizes) -> None:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise ContractBroken(f"{name} can't be decoded: {error}") from None
    if image.mode != mode:
        raise ContractBroken(f"{name} is {image.mode}, expected {mode}")
    sizes.check(size, image.size, f"{name}: width and height")


def _check_keys(path: Path, name: str, keys: Mapping[str, type]) -> None:
    try:
        found = read_json(path)
    except UserError as error:
        raise ContractBroken(str(error).replace(str(path), name, 1)) from None
    for key, kind in keys.items():
        if key not in found:
            raise ContractBroken(f"{name} has no {key}")
        value = found[key]
        kinds = (int, float) if kind is float else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            raise ContractBroken(f"{name}: {key} is {type(value).__name__}, expected {kind.__name__}")
