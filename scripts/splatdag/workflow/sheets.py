"""Sheets: tab-separated tables, one row per scene, checked before anything is planned."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.small_file import read_small
from splatdag.workflow.yaml_text import parsed

NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?!\.))*"
"""A name that can be a folder, a wildcard and a flag's value without surprises (a regular expression)."""


def any_of(names: Iterable[str]) -> str:
    """Return names as the constraint of a wildcard (a regular expression); without names, nothing matches it."""
    return "|".join(names) or "(?!)"


@dataclass(frozen=True)
class Row:
    """One row of a sheet."""

    where: str
    """Sheet and line, for messages: `captures.tsv, line 3`."""
    name: str
    """The scene's name (first column)."""
    cells: dict[str, str]
    """The other named columns that are not empty."""
    overrides: dict[str, dict[str, Any]]
    """Options of one stage for this row only, from columns such as `train.max_steps`."""


def read_sheet(sheet: Path, key: str, columns: set[str], stages: set[str]) -> list[Row]:
    """Read and check a sheet.

    Args:
        sheet: tab-separated file with a header; lines that are empty or begin with # are comments.
        key: the column that names the scene; names are unique.
        columns: other columns allowed.
        stages: stages whose options may be columns, as `stage.option`.

    Raises:
        UserError: what is wrong and in which row.
    """
    rows: dict[str, Row] = {}
    for number, cells in _cells(sheet, key, columns, stages):
        where = f"{sheet}, line {number}"
        name = cells.pop(key, "")
        check_name(name, f"{where}: {key}")
        if name in rows:
            raise UserError(f"{where}: {key} {name!r} is there twice, first in {rows[name].where}")
        overrides: dict[str, dict[str, Any]] = {}
        for column in [column for column in cells if "." in column]:
            stage, _, option = column.partition(".")
            _set(
                overrides.setdefault(stage, {}),
                option.split("."),
                _value(cells.pop(column), f"{where}: {column}"),
            )
        rows[name] = Row(where, name, cells, overrides)
    return list(rows.values())


def check_name(name: str, where: str) -> None:
    """Refuse names that could leave their folder, be taken for a flag, or need quoting.

    Raises:
        UserError: the name, and what names may be made of.
    """
    if len(name) > 100 or not re.fullmatch(NAME, name, re.ASCII):
        raise UserError(
            f"{where}: {name!r} is not a name; use letters, digits, '_', '-' and single '.', not '-' or '.' first"
        )


def _cells(sheet: Path, key: str, columns: set[str], stages: set[str]) -> Iterator[tuple[int, dict[str, str]]]:
    header: list[str] | None = None
    for number, line in enumerate(_lines(sheet), start=1):
        if "\0" in line:
            raise UserError(f"{sheet}, line {number}: a NUL, which no text can have here")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))]
        if header is None:
            header = cells
            _check_header(header, f"{sheet}, line {number}", key, columns, stages)
        elif len(cells) > len(header):
            raise UserError(f"{sheet}, line {number}: {len(cells)} cells, but the header has {len(header)}")
        else:
            yield number, {column: cell for column, cell in zip(header, cells, strict=False) if cell}


def _lines(sheet: Path) -> list[str]:
    try:
        return read_small(sheet).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{sheet}: can't read the sheet: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{sheet}: not a text file in UTF-8") from None


def _check_header(header: list[str], where: str, key: str, columns: set[str], stages: set[str]) -> None:
    for column in header:
        if column.partition(".")[0] in stages and "." in column:
            continue
        if column not in columns | {key}:
            known = [key, *columns, *(f"{stage}.<option>" for stage in stages)]
            raise UserError(f"{where}: unknown column {column!r}{nearest(column, known)} (cells are tab-separated)")
        if header.count(column) > 1:
            raise UserError(f"{where}: column {column!r} is there twice")
    if key not in header:
        raise UserError(f"{where}: no column {key!r} (cells are tab-separated)")


def _value(cell: str, where: str) -> Any:
    if "&" in cell or "*" in cell:
        return cell  # YAML anchors have no place in a cell
    try:
        return parsed(cell)
    except ValueError:
        raise UserError(f"{where}: can't read {cell!r}; write a number, text, true, false or [a, list]") from None


def _set(options: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = options.setdefault(part, {})
        if not isinstance(inner, dict):
            return  # `train.strategy` beside `train.strategy.absgrad`: the first is refused for its type
        options = inner
    options[path[-1]] = value
