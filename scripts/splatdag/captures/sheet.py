"""The captures that the config asks for: rows of the sheet with their options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from splatdag.captures.options import PoseOptions, TrainOptions
from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.inventory import check_photos
from splatdag.workflow.options import Options, flags, overridden
from splatdag.workflow.plan import PlannedStage
from splatdag.workflow.sheets import Row, read_sheet

SAMPLES = ("room",)
"""Sample captures, written `sample:room` in the sheet."""
_COLUMNS = {"data_dir"}


@dataclass(frozen=True)
class Capture:
    """One row of the sheet."""

    name: str
    data_dir: Path
    """Folder of photos, or COLMAP dataset with images/ and sparse/; empty for a sample."""
    sample: str | None
    """Name of the sample that stands in for `data_dir`."""
    pose_flags: list[str]
    """Options of the stage `pose`, as flags."""
    train_flags: list[str]
    """Options of the stage `train`, as flags."""


def read_captures(sheet: Path, pose: PoseOptions, train: TrainOptions) -> dict[str, Capture]:
    """Read and check the captures sheet; folders of photos must be there and hold photos.

    Args:
        sheet: tab-separated file with columns `capture`, `data_dir` and, as wanted, `pose.<option>` and
            `train.<option>`.
        pose: options that rows override.
        train: options that rows override.

    Raises:
        UserError: what is wrong and in which row.
    """
    rows = read_sheet(sheet, "capture", _COLUMNS, {"pose", "train"})
    shared = {"pose": (pose, flags(pose)), "train": (train, flags(train))}
    return {row.name: _capture(row, sheet.parent, shared) for row in rows}


def _capture(row: Row, folder: Path, shared: dict[str, tuple[Options, list[str]]]) -> Capture:
    where = f"{row.where}: capture {row.name}"
    given = row.cells.get("data_dir")
    if given is None:
        raise UserError(f"{where}: no data_dir; give a folder of photos, or sample:{SAMPLES[0]}")
    sample = given.removeprefix("sample:") if given.startswith("sample:") else None
    if sample is not None and sample not in SAMPLES:
        raise UserError(f"{where}: data_dir: no sample {sample!r}{nearest(sample, SAMPLES)}")
    data_dir = Path() if sample else folder / Path(given).expanduser()
    if not sample:
        check_photos(data_dir, f"{where}: data_dir")
    own = {
        stage: flags(overridden(options, row.overrides[stage], f"{where}: {stage}"))
        if stage in row.overrides
        else common
        for stage, (options, common) in shared.items()
    }
    return Capture(row.name, data_dir, sample, own["pose"], own["train"])


def planned_stages(captures: dict[str, Capture]) -> list[PlannedStage]:
    """The stages of every capture, for `status`."""
    return [
        PlannedStage("captures", name, stage, f"captures/{name}/{log}.log", f"captures/{name}/{output}")
        for name in captures
        for stage, log, output in (
            ("pose", "pose", "registration.json"),
            ("train", "single/train", "single/manifest.json"),
        )
    ]
