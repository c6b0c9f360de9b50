"""Description of a run for its page: its source camera, and held-out metrics by epoch."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from splatdag.humans.results_tree import source_camera
from splatdag.workflow.area import Description, MetricsRow
from splatdag.workflow.errors import UserError
from splatdag.workflow.sequences import by_number
from splatdag.workflow.small_file import read_small


def describe(run_dir: Path, scene: str, folder: Path) -> Description:
    """Read the source camera and the metrics of a run.

    Args:
        run_dir: folder of the run.
        scene: its name.
        folder: of `<scene>.json`, which names the source camera.

    Raises:
        UserError: as `source_camera` and `metrics_table`.
    """
    camera = source_camera(run_dir, scene, folder)
    return Description({"source camera": camera} if camera else {}, metrics_table(run_dir, camera))


def metrics_table(run: Path, source_camera: str | None) -> list[MetricsRow]:
    """Read the metrics of each epoch that has some.

    Raises:
        UserError: a file of metrics can't be read.
    """
    epochs = sorted((run / "evaluation").glob("epoch_*"), key=lambda folder: by_number(folder.name))
    rows = [(f"epoch {_number(folder.name)}", _of_epoch(folder, source_camera)) for folder in epochs]
    return [row for row in rows if row[1]]


def _of_epoch(folder: Path, source_camera: str | None) -> dict[str, float]:
    nvs = folder / "nvs" / "metrics" / "metrics_all_cams_per_frame.csv"
    pose = folder / "pose_smplx" / "metrics"
    overall, per_frame = (
        pose / "smplx_pose_estimation_overall_results.txt",
        pose / "smplx_pose_estimation_metrics_per_frame.csv",
    )
    found = _column_means(nvs, source_camera) if nvs.is_file() else {}
    if overall.is_file():
        return found | _key_values(overall)
    return found | (_column_means(per_frame, None) if per_frame.is_file() else {})


def _column_means(table: Path, without_camera: str | None) -> dict[str, float]:
    """Compute the means of a table's columns, without the rows of the source camera, which are no novel views."""
    try:
        every = list(csv.DictReader(_lines(table)))
    except csv.Error as error:
        raise UserError(f"{table}: not a table: {error}") from None
    rows = [row for row in every if row.get("camera_id") != without_camera or not without_camera]
    columns = [name for name in (rows[0] if rows else {}) if name not in ("camera_id", "frame_id", None)]
    means = {name: [_float(row[name], table) for row in rows if row[name]] for name in columns}
    return {name: math.fsum(values) / len(values) for name, values in means.items() if values}


def _key_values(text: Path) -> dict[str, float]:
    """Read lines `key: value`; others are left out."""
    found = {}
    for line in _lines(text):
        key, colon, value = line.partition(":")
        try:
            found[key.strip()] = float(value) if colon else math.nan
        except ValueError:
            continue
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _lines(path: Path) -> list[str]:
    try:
        return read_small(path).decode("utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None


def _float(cell: str, table: Path) -> float:
    try:
        return float(cell)
    except ValueError:
        raise UserError(f"{table}: {cell!r} is not a number") from None


def _number(epoch: str) -> str:
    digits = epoch.removeprefix("epoch_")
    return str(int(digits)) if digits.isdecimal() else digits
