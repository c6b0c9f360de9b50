"""YAML that users write: plain values, and not more of them than a person writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from splatdag.workflow.errors import UserError
from splatdag.workflow.small_file import read_small

_MAX_VALUES = 100_000
"""Largest number of values in a whole file; those that aliases repeat count each time."""

_MAX_BITS = 1000


def parsed(text: str) -> Any:
    """Return the values of a YAML text.

    Raises:
        ValueError: it can't be read; the message says why, in one line.
    """
    try:
        given = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())[:120]) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_count(given)
    return given


def _check_count(given: Any) -> None:
    """Raise ValueError at too many values, which a few lines of aliases can make, or at a number that is too large."""
    left, count = [given], 0
    while left:
        value = left.pop()
        inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
        left += inner
        count += len(inner)
        if count > _MAX_VALUES:
            raise ValueError(f"more than {_MAX_VALUES} values")
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise ValueError(f"a number of {value.bit_length()} bits")


def read_yaml(path: Path, where: str) -> Any:
    """Read the values of a YAML file.

    Args:
        path: the file.
        where: beginning of the message.

    Raises:
        UserError: the file can't be read, or is no YAML.
    """
    return _yaml(_read(path, where), where)


def _read(path: Path, where: str) -> bytes:
    try:
        return read_small(path)
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}; expected a file of options") from None


def _yaml(data: bytes, where: str) -> Any:
    try:
        return parsed(data.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"{where}: no YAML ({error})") from None


def check_config_file(path: Path) -> str:
    """Check a config file and return its path: Snakemake would run expressions in it, and expand all aliases.

    A file that is not there is left to Snakemake, which needs none beside `--configfile`.

    Raises:
        UserError: the file can't be read, or is neither JSON nor plain YAML.
    """
    if not path.exists():
        return str(path)
    data = _read(path, str(path))
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        given = _yaml(data, str(path))
    if isinstance(given, dict) and "__use_yte__" in given:
        raise UserError(f"{path}: __use_yte__: expressions in a config are not run; write plain values")
    if not isinstance(given, dict):
        raise UserError(f"{path}: expected keys and values")
    return str(path)
