"""All runs side by side: a tidy CSV, an interactive page, their pictures, and the difference of two runs."""

from __future__ import annotations

import base64
import csv
import io
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from pydantic import BaseModel, ValidationError

from splatdag.workflow import stage
from splatdag.workflow.attempts import State, read_attempt
from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.manifest import Manifest
from splatdag.workflow.publish import write_text

Cell = str | float | bool | None
T = TypeVar("T", bound=BaseModel)

_GROUPS = ("run", "metric", "baseline", "size", "seconds", "memory", "option")
"""What a column tells of, in the order of the CSV."""
_EMBEDDED = 200
"""Runs whose preview is inside the page."""
_EMBEDDED_BYTES = 6_000_000
"""All embedded previews together, so that the page stays below 10 MB."""
_PREVIEW_WIDTH = 480

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One training run, as its manifest and metrics tell it."""

    name: str
    """Its folder relative to the results, such as `captures/room/single`."""
    folder: Path
    columns: dict[str, dict[str, Cell]] = field(default_factory=dict)
    """Values by group (run, metric, baseline, size, seconds, memory, option) and column."""
    fault: str = ""
    """Why its manifest or metrics cannot be read, if so."""

    @property
    def cells(self) -> dict[str, Cell]:
        """The value of each column."""
        return {name: value for group in _GROUPS for name, value in self.columns.get(group, {}).items()}


@dataclass(frozen=True)
class Failure:
    """A stage that ended badly, or a run that cannot be read."""

    name: str
    state: str
    """`failed`, `killed` or `broken`."""
    reason: str
    file: str
    """The log that tells more, or the broken run's folder."""


class _Metrics(BaseModel):
    mean: dict[str, float | None]
    baseline: dict[str, float | None] | None = None


def read_runs(results: Path) -> list[Run]:
    """All training runs below `results`, by name; one whose files are broken has its `fault` set."""
    runs = []
    for folder, below, files in os.walk(results):
        below[:] = [name for name in below if not name.startswith(".") and name != "state"]
        if "manifest.json" in files and (run := _read_run(Path(folder), results)):
            runs.append(run)
    return sorted(runs, key=lambda run: run.name)


def _read_run(folder: Path, results: Path) -> Run | None:
    """None where the manifest is not one of a training (the humans' own one, say)."""
    name = folder.relative_to(results).as_posix()
    area, *scene, variant = name.split("/") if "/" in name else (name, "")
    if variant.startswith("eval_on_") and scene:  # of a run, on another dataset
        variant = f"{scene.pop()}/{variant}"
    about: dict[str, Cell] = {"run": name, "area": area, "scene": "/".join(scene), "variant": variant}
    try:
        given = _read_json(folder / "manifest.json")
        if not isinstance(given, dict) or "stage" not in given:
            return None
        manifest = _validated(Manifest, given, "manifest.json")
        metrics = _validated(_Metrics, _read_json(folder / "metrics.json"), "metrics.json")
    except UserError as error:
        return Run(name, folder, {"run": {**about, "exit_reason": f"broken: {error}"}}, str(error))
    about |= {key: getattr(manifest, key) for key in ("finished", "exit_reason", "device")}
    values: dict[str, dict[str, Cell]] = {
        "run": about,
        "metric": {**metrics.mean},
        "baseline": _prefixed("baseline_", metrics.baseline or {}),
        "size": {"gaussians": manifest.gaussians, "steps": manifest.steps},
        "seconds": _prefixed("seconds_", manifest.seconds),
        "memory": _prefixed("peak_memory_mb_", manifest.peak_memory_mb),
        "option": dict(_flattened(manifest.options, "option")),
    }
    return Run(name, folder, values)


def _prefixed(prefix: str, values: Mapping[str, float | None]) -> dict[str, Cell]:
    return {f"{prefix}{key}": value for key, value in values.items()}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path.name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name}: not JSON: {error}") from None


def _validated(model: type[T], given: Any, file: str) -> T:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join([file, *map(str, problem["loc"])])
        raise UserError(f"{where}: {problem['msg'][0].lower()}{problem['msg'][1:]}") from None


def _flattened(options: dict[str, Any], prefix: str) -> Iterator[tuple[str, Cell]]:
    for key, value in options.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}.{key}")
        elif isinstance(value, list):
            yield f"{prefix}.{key}", json.dumps(value, ensure_ascii=False)
        else:
            yield f"{prefix}.{key}", value


def columns(runs: list[Run]) -> dict[str, str]:
    """Every column that a run has and its group, groups in order, columns as they first appear."""
    return {name: group for group in _GROUPS for run in runs for name in run.columns.get(group, {})}


def read_failures(runs: list[Run], logs: Path) -> list[Failure]:
    """Runs that cannot be read, and stages whose last attempt failed or was killed."""
    failures = [Failure(run.name, "broken", run.fault, str(run.folder)) for run in runs if run.fault]
    for log in sorted(logs.glob("**/*.log")):
        attempt = read_attempt(log)
        if attempt.state in (State.FAILED, State.KILLED):
            name = log.relative_to(logs).with_suffix("").as_posix()
            failures.append(Failure(name, attempt.state, attempt.reason, str(log)))
    return failures


def compare(results: Path, logs: Path, out: Path) -> int:
    """Write `runs.csv`, `previews/`, `curves/` and, last, `index.html` into `out`; returns how many runs."""
    runs = read_runs(results)
    _write_csv(out / "runs.csv", runs)
    _gather_pictures(runs, "preview.jpg", out / "previews")
    _gather_pictures(runs, "curves.png", out / "curves")
    write_text(out / "index.html", page(runs, read_failures(runs, logs)))
    return len(runs)


def _write_csv(path: Path, runs: list[Run]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns(runs)) or ["run"], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _plain(value) for key, value in run.cells.items()} for run in runs)
    write_text(path, _encodable(text.getvalue()))


def _plain(value: Cell) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _gather_pictures(runs: list[Run], name: str, folder: Path) -> None:
    """Gather each run's picture, as a link to the same file where there can be one, and drop all others."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {_picture_name(run, name): run.folder / name for run in runs if (run.folder / name).is_file()}
    for path in folder.glob(f"*{Path(name).suffix}"):
        path.unlink()
    for target, source in wanted.items():
        try:
            (folder / target).hardlink_to(source)
        except OSError:
            shutil.copyfile(source, folder / target)


def _picture_name(run: Run, name: str) -> str:
    return run.name.replace("/", "__") + Path(name).suffix


def page(runs: list[Run], failures: list[Failure]) -> str:
    """The interactive page, one HTML file that loads nothing."""
    groups = columns(runs)
    data = {
        "columns": list(groups.items()),
        "runs": [[_finite(cells.get(name)) for name in groups] for cells in (run.cells for run in runs)],
        "previews": _embedded_previews(runs),
        "pictures": [_picture_name(run, "preview.jpg") for run in runs],
        "failures": [vars(failure) for failure in failures],
    }
    text = _encodable(json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    text = text.replace("<", "\\u003c")  # so that the data cannot close the script element that holds it
    return Path(__file__).with_suffix(".html").read_text("utf-8").replace("@DATA@", text)


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()  # a file's name may hold bytes that are no text


def _finite(value: Cell) -> Cell:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _embedded_previews(runs: list[Run]) -> dict[int, str]:
    """Data URIs of small previews by index of the run; the page falls back to the files in `previews/`."""
    previews: dict[int, str] = {}
    room = _EMBEDDED_BYTES
    for index, run in enumerate(runs[:_EMBEDDED]):
        small = _small_jpeg(run.folder / "preview.jpg")
        if small and len(small) <= room:
            previews[index] = small
            room -= len(small)
    return previews


def _small_jpeg(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.thumbnail((_PREVIEW_WIDTH, 100 * _PREVIEW_WIDTH))
            small = image.convert("RGB")
    except FileNotFoundError:
        return None
    except Exception as error:  # Pillow has many for a damaged picture
        logger.warning("%s: cannot be shown: %s", path, error)
        return None
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def diff_lines(results: Path, run_a: str, run_b: str) -> list[str]:
    """What differs between two runs, metrics and options alike, with the difference of numbers.

    Raises:
        UserError: a run that is not there; the nearest one is named.
    """
    runs = {run.name: run for run in read_runs(results)}
    for name in (run_a, run_b):
        if name not in runs:
            raise UserError(f"{results}: no run named {name}{nearest(name, runs)}")
    pair = [runs[run_a], runs[run_b]]
    rows = [("", run_a, run_b, "Δ")]
    for column, group in columns(pair).items():
        a, b = (run.cells.get(column) for run in pair)
        if a != b and (group != "run" or column in ("exit_reason", "device")):
            rows.append((column, _shown(a), _shown(b), _change(a, b)))
    if len(rows) == 1:
        return [f"{run_a} and {run_b} have the same options and metrics"]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _shown(value: Cell) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _plain(value) or "-"


def _change(a: Cell, b: Cell) -> str:
    if a is None or b is None or {type(a), type(b)} & {str, bool}:
        return ""
    change = float(b) - float(a)
    return f"{change:+.0f}" if {type(a), type(b)} == {int} else f"{change:+.4g}"


def main(results: Path, logs: Path, out: Path, job: stage.Job, diff: tuple[str, str] | None = None) -> None:
    """Compare all runs, or print what differs between two.

    Args:
        results: folder of the runs.
        logs: folder of the stages' logs.
        out: folder to write runs.csv, index.html and the pictures into.
        job: how to run.
        diff: two runs; what differs between them is printed and nothing is written.
    """
    if diff:
        print("\n".join(diff_lines(results, *diff)))
        return
    count = compare(results, logs, out)
    logger.info("%d runs compared in %s", count, out / "index.html")


if __name__ == "__main__":
    stage.run(main)
