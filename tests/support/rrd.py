"""Recordings read back: entities with their frames and values, and the layout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from rerun.chunk import RrdReader

RERUN = Path(sys.executable).with_name("rerun")


def rerun(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `rerun rrd ARGUMENTS`."""
    return subprocess.run([RERUN, "rrd", *map(str, arguments)], capture_output=True, text=True, timeout=300)


def entities(path: Path) -> dict[str, dict[str, list[Any]]]:
    """Entity → component → values of all rows; `frame` or another timeline among them where there is one."""
    reader = RrdReader(path)
    [store] = reader.recordings()
    found: dict[str, dict[str, list[Any]]] = {}
    for chunk in reader.stream(store=store):
        table = chunk.to_record_batch().to_pydict()
        table.pop("rerun.controls.RowId")
        found.setdefault(str(chunk.entity_path).lstrip("/"), {}).update(table)
    return found


def layout(path: Path) -> dict[str, dict[str, Any]]:
    """Entity of the layout → property → value."""
    reader = RrdReader(path)
    [store] = reader.blueprints()
    found: dict[str, dict[str, Any]] = {}
    for chunk in reader.stream(store=store):
        of_entity = found.setdefault(str(chunk.entity_path).lstrip("/"), {})
        for name, values in chunk.to_record_batch().to_pydict().items():
            if ":" in name:
                of_entity[name.partition(":")[2]] = values[-1][0] if values[-1] else None
    return found


def views(path: Path) -> dict[str, tuple[str, bool]]:
    """Name of each view → origin and whether it is visible."""
    return {
        view["display_name"]: (view["space_origin"].lstrip("/"), view.get("visible", True) is not False)
        for entity, view in layout(path).items()
        if "space_origin" in view
    }


def contents(path: Path) -> list[tuple[str, str, list[Any]]]:
    """Entity, component and values, in order: equal for two recordings that hold the same."""
    return [
        (entity, component, values)
        for entity, of_entity in sorted(entities(path).items())
        for component, values in sorted(of_entity.items())
    ]
