"""The captures that the config asks for: rows of the sheet with their options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from splatdag.captures.config import TrainOptions
from splatdag.captures.options import CaptureResources, FrameOptions, PoseOptions
from splatdag.formats.photoset import PhotoSet, check_place
from splatdag.scene.split import check_split, matching
from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.options import flags, notices_of, overridden, validated
from splatdag.workflow.result_dirs import absolute, check_apart, check_result_dir
from splatdag.workflow.sheets import Row, check_name, read_sheet

SAMPLES = ("room",)
"""Sample captures, written `sample:room` in the sheet."""
_OF_TRAIN = ("preset", "match_string", "eval_match_string")
"""Options of `train` that are columns of their own, as the arguments of the old scripts were."""
_COLUMNS = {"data_dir", "eval_dir", "result_dir", "variant", *_OF_TRAIN}
_AS_THE_RULES_SAY = CaptureResources()
DUAL_VARIANTS = ("combined", "filtered")
"""The runs of `captures_dual`: of all photos, and of those that match."""


@dataclass(frozen=True)
class Stages:
    """Options of a capture's stages; rows that override nothing share one of these, and its flags."""

    frames: FrameOptions
    pose: PoseOptions
    train: TrainOptions
    _train_flags: dict[tuple[str, bool], list[str]] = field(default_factory=dict, compare=False)

    @functools.cached_property
    def frames_flags(self) -> list[str]:
        """Options of the stage `frames`, as flags."""
        return flags(self.frames)

    @functools.cached_property
    def pose_flags(self) -> list[str]:
        """Options of the stage `pose`, as flags."""
        return flags(self.pose)

    def train_flags(self, variant: str, external: bool) -> list[str]:
        """Return the options of the stage `train` for a variant, as flags; see `train_options`. `image_cache` is left
        out, as it is a resource of the rule."""
        key = (variant, external)
        if key not in self._train_flags:
            chosen = train_options(self.train, variant, external)
            self._train_flags[key] = flags(chosen.model_copy(update={"image_cache": "auto"}))
        return self._train_flags[key]


def train_options(options: TrainOptions, variant: str, external: bool) -> TrainOptions:
    """Return a variant's options: `single` as given; `combined` trains on all photos, `filtered` on those that match.

    So that the two can be compared, both are evaluated on the same photos: those held out with the word of
    eval_match_string, or else of match_string; with an external evaluation, all that are held out.

    Args:
        options: of the capture.
        variant: `single`, `combined` or `filtered`.
        external: whether the capture is evaluated on another dataset too (column `eval_dir`).
    """
    if variant == "single":
        return options
    evaluated = options.eval_match_string
    if evaluated is None:
        evaluated = "" if external else options.match_string
    if variant == "combined":
        return options.model_copy(update={"match_string": None, "eval_match_string": evaluated or None})
    return options.model_copy(update={"eval_match_string": None if evaluated == options.match_string else evaluated})


@dataclass(frozen=True)
class Capture:
    """One row of the sheet."""

    where: str
    """Sheet, line and name, for messages: `captures.tsv, line 3: capture dog`."""
    name: str
    photos: PhotoSet
    """Folder of photos, COLMAP dataset with images/ and sparse/, or video; of an empty path for a sample."""
    sample: str | None
    """Name of the sample that stands in for `data_dir`."""
    stages: Stages
    """Options of its stages."""
    eval_photos: PhotoSet | None = None
    """COLMAP dataset in the capture's world frame, to evaluate its runs on."""
    result_dir: Path | None = None
    """Path of the link to the run `single`; the links to a pair lie in it. Relative to the working directory."""
    variant: str | None = None
    """Variant that `captures_dual` makes alone; None: both, or `combined` where there is no match string."""
    resources: CaptureResources = field(default_factory=CaptureResources)
    """Resources of its jobs."""

    @property
    def data_dir(self) -> Path:
        """Folder of its photos, or video."""
        return self.photos.data_dir

    @property
    def eval_dir(self) -> Path | None:
        """Folder of `eval_photos`."""
        return self.eval_photos.data_dir if self.eval_photos else None

    @property
    def is_video(self) -> bool:
        """Tell whether photos have to be taken from a video first."""
        return self.photos.is_video

    @functools.cached_property
    def eval_name(self) -> str | None:
        """Name in `eval_on_<name>`, the folder of the external evaluation; None where there is none."""
        return absolute(self.eval_dir).name if self.eval_dir else None

    @property
    def dual_variants(self) -> tuple[str, ...]:
        """Variants that `captures_dual` makes."""
        if self.variant:
            return (self.variant,)
        return DUAL_VARIANTS if self.stages.train.match_string else DUAL_VARIANTS[:1]


def read_captures(sheet: Path, shared: Stages, results: Path, files: bool = True) -> dict[str, Capture]:
    """Read and check the captures sheet; the files that its rows name must be there.

    Args:
        sheet: tab-separated file with columns `capture`, `data_dir` and, as wanted, `preset`, `match_string`,
            `eval_match_string`, `eval_dir`, `result_dir`, `variant`, `<stage>.<option>`, and
            `resources.<stage>.<name>`.
        shared: options that rows override.
        results: folder of the results.
        files: whether to look at the files that rows name. A job need not: the process that submitted it has, and
            thousands of jobs that look at the files of thousands of rows are a burden to a file system.

    Raises:
        UserError: what is wrong and in which row.
    """
    rows = read_sheet(sheet, "capture", _COLUMNS, {"frames", "pose", "train", "resources"})
    photo_set = functools.cache(PhotoSet)  # rows may share a folder
    captures = {row.name: _capture(row, sheet.parent, shared, photo_set) for row in rows}
    if files:
        for capture in captures.values():
            _check_files(capture, results)
        check_apart(
            [(f"{c.where}: result_dir", f"capture {c.name}", c.result_dir) for c in captures.values() if c.result_dir]
        )
    return captures


def _capture(row: Row, folder: Path, shared: Stages, photo_set: Callable[[Path], PhotoSet]) -> Capture:
    where = f"{row.where}: capture {row.name}"
    given = row.cells.get("data_dir")
    if given is None:
        raise UserError(f"{where}: no data_dir; give a folder of photos, a video, or sample:{SAMPLES[0]}")
    for column in ("data_dir", "eval_dir", "result_dir"):
        if set("{}") & set(row.cells.get(column, "")):
            raise UserError(f"{where}: {column}: braces are Snakemake's wildcards; rename {row.cells[column]}")
    sample = given.removeprefix("sample:") if given.startswith("sample:") else None
    if sample is not None and sample not in SAMPLES:
        raise UserError(f"{where}: data_dir: no sample {sample!r}{nearest(sample, SAMPLES)}")
    data_dir = Path() if sample else folder / _path(row, "data_dir", where)
    own = row.overrides.get("resources")
    asked = validated(CaptureResources, own, f"{where}: resources") if own else _AS_THE_RULES_SAY
    capture = Capture(where, row.name, photo_set(data_dir), sample, _stages(row, where, shared), resources=asked)
    if "variant" in row.cells:
        capture = replace(capture, variant=_checked_variant(row.cells["variant"], capture))
    if "eval_dir" in row.cells:
        capture = replace(capture, eval_photos=photo_set(folder / _path(row, "eval_dir", where)))
    if "result_dir" in row.cells:
        capture = replace(capture, result_dir=_path(row, "result_dir", where))
    return capture


def _path(row: Row, column: str, where: str) -> Path:
    given = row.cells[column]
    try:
        return Path(given).expanduser() if given.startswith("~") else Path(given)  # of ./~name Path makes ~name
    except RuntimeError:
        raise UserError(
            f"{where}: {column}: {given}: no such user; write ./{given} for a folder of that name, or ~/ for your own"
        ) from None


def _check_files(capture: Capture, results: Path) -> None:
    """Check that files named by a row are there, and that the place of its link is free."""
    if not capture.sample:
        capture.photos.check(f"{capture.where}: data_dir")
        _check_split(capture)
    if capture.eval_dir:
        _check_eval_dir(capture)
    if capture.result_dir:
        check_place(capture.result_dir, f"{capture.where}: result_dir")
        single = results / "captures" / capture.name / "single"
        check_result_dir(capture.result_dir, single, results / "captures", f"{capture.where}: result_dir")


def _stages(row: Row, where: str, shared: Stages) -> Stages:
    overrides = {stage: values for stage, values in row.overrides.items() if stage != "resources"}
    for option in _OF_TRAIN:
        if option in row.cells:
            if option in overrides.get("train", {}):
                raise UserError(
                    f"{where}: both {option} and train.{option}; they are the same, keep one of the columns"
                )
            cell = row.cells[option]
            overrides["train"] = {**overrides.get("train", {}), option: "" if cell in ('""', "''") else cell}
    if not overrides:
        return shared
    own: dict[str, Any] = {
        stage: overridden(getattr(shared, stage), values, f"{where}: {stage}") for stage, values in overrides.items()
    }
    return replace(shared, **own, _train_flags={})


def _checked_variant(given: str, capture: Capture) -> str:
    if given not in DUAL_VARIANTS:
        raise UserError(f"{capture.where}: variant: combined or filtered, not {given!r}{nearest(given, DUAL_VARIANTS)}")
    if given == "filtered" and not capture.stages.train.match_string:
        raise UserError(f"{capture.where}: variant filtered needs a match_string")
    return given


def _check_split(capture: Capture) -> None:
    """Check words and listed photos against the photos' names now, not after hours of structure from motion."""
    options = capture.stages.train
    plain = options.split in ("all", "test_every") and not (options.match_string or options.eval_match_string)
    if plain or capture.is_video:
        return
    check_split(
        capture.photos.names,
        split=options.split,
        match_string=options.match_string,
        eval_match_string=options.eval_match_string,
        data_dir=capture.data_dir,
        where=f"{capture.where}: train",
    )


def _check_eval_dir(capture: Capture) -> None:
    """Check the dataset of an external evaluation, and that the capture comes with its cameras, in the same frame."""
    where, photos = f"{capture.where}: eval_dir", capture.eval_photos
    assert photos is not None
    eval_dir = photos.data_dir
    check_place(eval_dir, where)
    if not capture.sample and not capture.is_video:
        own = capture.photos.model is not None or capture.photos.has_transforms
    else:
        own = False
    if not own:
        raise UserError(
            f"{where}: needs a capture that comes with its cameras (sparse/ or transforms.json in data_dir), in the"
            f" world frame of {eval_dir}: those found from photos alone are in a frame of their own"
        )
    if eval_dir.is_dir() and not (eval_dir / "images").is_dir():
        raise UserError(f"{where}: no folder images in {eval_dir}; a COLMAP dataset has images/ and sparse/")
    photos.check(where)
    if photos.model is None:
        raise UserError(f"{where}: no COLMAP model in {eval_dir}; a COLMAP dataset has images/ and sparse/")
    word = capture.stages.train.eval_match_string
    matching(photos.names, word, f"{where}: eval_match_string")
    check_name(str(capture.eval_name), f"{where}: the last part, which names the folder eval_on_…")


def row_notices(captures: dict[str, Capture], shared: Stages) -> list[tuple[str, str]]:
    """Return the notices that rows' own options cause and the config's do not, each with its place in the sheet."""
    known = {stage: set(notices_of(getattr(shared, stage))) for stage in ("frames", "pose", "train")}
    return [
        (f"{capture.where}: {stage}", line)
        for capture in captures.values()
        if capture.stages is not shared
        for stage, common in known.items()
        if getattr(capture.stages, stage) is not getattr(shared, stage)
        for line in notices_of(getattr(capture.stages, stage))
        if line not in common
    ]
