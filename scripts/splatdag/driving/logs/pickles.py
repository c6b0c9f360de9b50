"""Pickled data frames and indices, read without letting them run code."""

from __future__ import annotations

import gzip
import importlib
import pickle
import zlib
from pathlib import Path
from typing import IO, Any

import pandas as pd

from splatdag.workflow.errors import UserError
from splatdag.workflow.small_file import check_regular

_LARGEST = 2_000_000_000
"""Bytes of an unpacked table; a real one has 8 million."""
_CHUNK = 1 << 24
_ALLOWED = {
    "builtins": {"slice", "bytearray"},
    "_codecs": {"encode"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
    "pandas": {"DataFrame", "Index", "RangeIndex"},
    "pandas.core.frame": {"DataFrame"},
    "pandas.core.indexes.base": {"Index", "_new_Index"},
    "pandas.core.indexes.range": {"RangeIndex"},
    "pandas.core.indexes.numeric": {"Int64Index", "Float64Index"},
    "pandas.core.internals.managers": {"BlockManager"},
    "pandas._libs.internals": {"_unpickle_block"},
    "collections": {"OrderedDict"},
    "pathlib": {"Path", "PosixPath"},
}
"""Classes and functions by module that pickles may use: those of plain data frames of any pandas and numpy (PandaSet's
own need nine of them), and those of clip indices."""
_RENAMED = {
    ("pandas.core.indexes.numeric", "Int64Index"): ("pandas", "Index"),
    ("pandas.core.indexes.numeric", "Float64Index"): ("pandas", "Index"),
}


class _Plain(pickle.Unpickler):
    """An unpickler of data frames of numbers and words, and of nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # as Python 2 called it
        if name not in _ALLOWED.get(module, ()):
            raise _Foreign(f"{module}.{name}")
        module, name = _RENAMED.get((module, name), (module, name))
        return getattr(importlib.import_module(module), name)


class _Foreign(Exception):
    """Something that a pickle asks for and no table needs."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a pickled data frame, packed (`.pkl.gz`) or not.

    Written by any pandas and numpy; text columns must be of dtype object, as PandaSet's are.

    Raises:
        UserError: as `read_plain`, or it is no data frame.
    """
    table = read_plain(path)
    if not isinstance(table, pd.DataFrame):
        raise UserError(f"{path}: holds {type(table).__name__}; expected a data frame")
    return table


def read_plain(path: Path) -> Any:
    """Read a pickle of numbers, words, lists, dictionaries, arrays and data frames.

    Raises:
        UserError: the file is missing, cut off or damaged, or asks for anything else, which is not run.
    """
    try:
        check_regular(path)
        with path.open("rb") as raw, _unpacked(raw, path) as file:
            content = _Plain(_Bounded(file)).load()
            if isinstance(content, pd.DataFrame):
                content.shape, content.columns  # noqa: B018 - a made-up one may lack its insides
            return content
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except _Foreign as error:
        raise UserError(f"{path}: asks for {error}, which such a file does not need; it was not run") from None
    except (EOFError, zlib.error, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: damaged or cut off ({error})") from None
    except Exception as error:  # what a made-up pickle can raise is up to its maker
        raise UserError(f"{path}: damaged ({type(error).__name__}: {error})") from None


def _unpacked(raw: IO[bytes], path: Path) -> IO[bytes]:
    return gzip.open(raw) if path.suffix == ".gz" else raw  # type: ignore[return-value]


class _Bounded:
    """A file that ends with an error where it has too many bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = _LARGEST

    def read(self, count: int = -1) -> bytes:
        if count > self._left:
            raise pickle.UnpicklingError(f"more than {_LARGEST:,} bytes")
        return self._counted(self._file.read(count))

    def readline(self) -> bytes:
        return self._counted(self._file.readline(_CHUNK))

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        return data


def column(table: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """Select a column by name; their order differs between files.

    Raises:
        UserError: the table has none of this name.
    """
    if name not in table.columns:
        raise UserError(f"{path}: no column {name}; it has {', '.join(map(str, table.columns))}")
    return table[name]
