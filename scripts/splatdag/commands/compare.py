"""All runs side by side: tidy CSV, an interactive page, their pictures, and the difference of two runs."""

from __future__ import annotations

import base64
import csv
import io
import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from splatdag.commands.costs import page_data, read_costs, write_costs
from splatdag.commands.runs import Cell, Failure, Run, columns, read_failures, read_runs
from splatdag.workflow import stage
from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.publish import write_text
from splatdag.workflow.site import Prices

_EMBEDDED = 200
"""Largest number of runs whose preview is embedded in the page."""
_EMBEDDED_BYTES = 6_000_000
"""Largest total size of the embedded previews (bytes of Base64 text), so that the page stays below 10 MB."""
_PREVIEW_WIDTH = 480

logger = logging.getLogger(__name__)


def compare(results: Path, logs: Path, out: Path, prices: Prices) -> int:
    """Write two CSV files, `previews/`, `curves/` and, last, `index.html` into `out`; return the number of runs."""
    runs = read_runs(results)
    costs = read_costs([run.folder for run in runs], logs, prices)
    _write_csv(out / "runs.csv", runs)
    write_costs(out / "costs.csv", costs, prices.currency)
    _gather_pictures(runs, "preview.jpg", out / "previews")
    _gather_pictures(runs, "curves.png", out / "curves")
    write_text(out / "index.html", page(runs, read_failures(runs, logs), page_data(costs, prices.currency)))
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
    """Empty a folder of old pictures and add each run's picture, as a hard link or, where none can be made, a copy."""
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


def page(runs: list[Run], failures: list[Failure], costs: dict[str, Any]) -> str:
    """Return the interactive page, one HTML file that loads no other."""
    groups = columns(runs)
    data = {
        "columns": list(groups.items()),
        "runs": [[_finite(cells.get(name)) for name in groups] for cells in (run.cells for run in runs)],
        "previews": _embedded_previews(runs),
        "pictures": [_picture_name(run, "preview.jpg") for run in runs],
        "samples": _samples(runs),
        "failures": [vars(failure) for failure in failures],
        "costs": costs,
    }
    text = _encodable(json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    text = text.replace("<", "\\u003c")  # so that the data cannot close the script element that holds it
    return Path(__file__).with_suffix(".html").read_text("utf-8").replace("@DATA@", text)


def _samples(runs: list[Run]) -> str:
    """Return a line on the runs that were made from bundled samples; empty if there are none."""
    of_samples = [str(run.cells["sample"]) for run in runs if run.cells.get("sample")]
    if not of_samples:
        return ""
    share = "All runs are" if len(of_samples) == len(runs) else f"{len(of_samples)} of {len(runs)} runs are"
    return f"{share} of bundled samples, not of real data: {'; '.join(sorted(set(of_samples)))}."


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()  # a file's name may hold bytes that are no text


def _finite(value: Cell) -> Cell:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _embedded_previews(runs: list[Run]) -> dict[int, str]:
    """Return data URIs of small previews by index of the run; for other runs the page shows files in `previews/`."""
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
    """Compare two runs: return a table of the values that differ, metrics and options alike, with their difference.

    Raises:
        UserError: there is no run of this name; the message has the nearest one.
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


def main(
    results: Path, logs: Path, out: Path, prices: Prices, job: stage.Job, diff: tuple[str, str] | None = None
) -> None:
    """Compare all runs, or print what differs between two.

    Args:
        results: folder of the runs.
        logs: folder of the stages' logs.
        out: folder to write runs.csv, costs.csv, index.html and the pictures into.
        prices: of the cluster where jobs ran.
        job: how to run.
        diff: two runs; what differs between them is printed and nothing is written.
    """
    if diff:
        print("\n".join(diff_lines(results, *diff)))
        return
    count = compare(results, logs, out, prices)
    logger.info("%d runs compared in %s", count, out / "index.html")


if __name__ == "__main__":
    stage.run(main)
