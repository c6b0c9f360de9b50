"""Print what the backends that a config names need, and what of it is on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from splatdag.areas import Plans
from splatdag.config import read_config
from splatdag.workflow.area import Context
from splatdag.workflow.backend import Backend, Part, check_installed, parts
from splatdag.workflow.snakefile import CACHE
from splatdag.workflow.stage import Job, run

_HEADER = ("rule", "backend", "checkout", "interpreter", "weights", "licence", "memory", "proven")


def main(config_json: str, here: Path, results: Path, logs: Path, job: Job) -> None:
    """Print what the backends that a config names need, and what of it is on this machine.

    Args:
        config_json: the config as JSON.
        here: folder of the Snakefile.
        results: folder of results.
        logs: folder of logs.
        job: how to run.

    Raises:
        UserError: what is needed and missing.
    """
    plans = Plans(read_config(json.loads(config_json)), Context(str(results), str(logs), here, CACHE))
    backends = plans.backends()
    print("\n".join(lines(backends)), flush=True)
    check_installed(backends)


def lines(backends: Iterable[Backend]) -> list[str]:
    """Return the table of backends and, below it, the steps that supply each missing part."""
    merged: dict[str, Backend] = {}
    for backend in backends:  # several areas may use one
        others = merged[backend.name].rules if backend.name in merged else ()
        merged[backend.name] = replace(backend, rules=tuple(dict.fromkeys([*others, *backend.rules])))
    found = {name: (backend, parts(backend)) for name, backend in merged.items()}
    if not found:
        return ["the config names no backend that needs weights or a checkout"]
    table = [[*_HEADER], *(row for backend, own in found.values() for row in _rows(backend, own))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    shown = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    advice = [line for backend, own in found.values() for line in _advice(backend, own)]
    return [*shown, "", *advice] if advice else shown


def _rows(backend: Backend, own: list[Part]) -> list[list[str]]:
    """Return the rows of a backend: one, or more where it has several rules or weights."""
    states = {part.what: part.state for part in own}
    rows = [[""] * len(_HEADER) for _ in range(max(1, len(backend.rules), len(backend.weights)))]
    for row, rule in zip(rows, backend.rules, strict=False):
        row[0] = rule
    for row, weights in zip(rows, backend.weights, strict=False):
        row[4:6] = f"{weights.name}: {states[weights.name]}", weights.described()
    if backend.upstream is None:
        rows[0][1:4] = backend.name, "embedded", "embedded"
    else:
        rows[0][1:4] = backend.name, states.get("checkout", "-"), states["interpreter"]
    sizes = ((backend.host_mb, "MB"), (backend.gpu_mb, "MB on the GPU"))
    rows[0][6] = ", ".join(f"{size:,} {unit}" for size, unit in sizes if size is not None) or "not measured"
    rows[0][7] = ("proven" if backend.proven else "unproven") + (f": {backend.proof}" if backend.proof else "")
    return rows


def _advice(backend: Backend, own: list[Part]) -> Iterator[str]:
    problems = [part for part in own if part.problem]
    for part in problems:
        yield f"{backend.name}: {part.what}: {part.problem}" + (f"; {backend.without}" if backend.without else "")
        for weights in backend.weights:
            if weights.name == part.what:
                yield f"    get it from {weights.source} (licence: {weights.described()}; {weights.licence_url})"
    if backend.upstream is not None and any(part.what in ("checkout", "interpreter") for part in problems):
        yield f"    to install it, and name the places in {backend.upstream.key} of the config:"
        yield from (f"    {line}" for line in backend.upstream.install_lines())


if __name__ == "__main__":
    run(main)
