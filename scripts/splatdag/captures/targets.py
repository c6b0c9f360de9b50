"""What a capture's row makes: the files that targets ask for, and the stages that `status` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from splatdag.captures.sheet import DUAL_VARIANTS, Capture
from splatdag.workflow.errors import UserError
from splatdag.workflow.plan import PlannedStage, RunRecording, shown_as

VARIANTS = ("single", *DUAL_VARIANTS)
"""The runs of a capture: as the sheet says, on all photos, and on those that match."""
_NAMED = 5
"""Captures that a message names at most."""


def run_files(capture: Capture, variants: Iterable[str]) -> Iterator[str]:
    """What to ask for, relative to the results: a manifest per variant, and one per external evaluation."""
    for variant in variants:
        run = f"captures/{capture.name}/{variant}"
        yield f"{run}/manifest.json"
        if capture.eval_name:
            yield f"{run}/eval_on_{capture.eval_name}/manifest.json"


def single_files(captures: dict[str, Capture]) -> list[str]:
    """What the target `captures` asks for, relative to the results."""
    linked = [f"captures/{capture.name}/result_dir.txt" for capture in captures.values() if capture.result_dir]
    return [file for capture in captures.values() for file in run_files(capture, ["single"])] + linked


def dual_files(captures: dict[str, Capture]) -> list[str]:
    """What the target `captures_dual` asks for, relative to the results."""
    return [file for capture in captures.values() for file in run_files(capture, capture.dual_variants)]


def recorded_runs(captures: dict[str, Capture], results: Path) -> list[RunRecording]:
    """The runs that may be recorded: `single`, and others that are there."""
    return [
        RunRecording(capture.name, variant, f"captures/{capture.name}/{variant}/rerun/capture.rrd")
        for capture in captures.values()
        for variant in VARIANTS
        if variant == "single" or (results / "captures" / capture.name / variant / "manifest.json").is_file()
    ]


def unmatched(captures: dict[str, Capture]) -> str | None:
    """Which rows have nothing to filter by, so that `captures_dual` plans `combined` alone; None if all have."""
    names = [capture.name for capture in captures.values() if not capture.stages.train.match_string]
    if not names:
        return None
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"captures_dual: {', '.join(names[:_NAMED])}{more}: no match_string, so only `combined` is planned"


def checked_variant(capture: Capture, variant: str) -> str:
    """The variant, if the row has what it needs.

    Raises:
        UserError: `filtered` of a row without a match string.
    """
    if variant == "filtered" and not capture.stages.train.match_string:
        raise UserError(f"{capture.where}: no match_string, so there is no variant `filtered`")
    return variant


def checked_eval_dir(capture: Capture, eval_name: str) -> Path:
    """The dataset of `eval_on_<eval_name>`.

    Raises:
        UserError: the row names no such dataset.
    """
    if capture.eval_dir is None or capture.eval_name != eval_name:
        has = f"eval_on_{capture.eval_name}" if capture.eval_name else "no eval_dir"
        raise UserError(f"{capture.where}: asked for eval_on_{eval_name}, but the row has {has}")
    return capture.eval_dir


def planned_stages(captures: dict[str, Capture], results: Path, logs: Path) -> list[PlannedStage]:
    """The stages of every capture, for `status`; those of `captures_dual` once any of them was begun."""
    stages: list[PlannedStage] = []
    for capture in captures.values():
        stages += _before_training(capture)
        for variant in VARIANTS:
            own = _of_run(capture, variant)
            begun = any((logs / stage.log).exists() or (results / stage.output).exists() for stage in own)
            stages += own if variant == "single" or begun else []
    return stages


def _before_training(capture: Capture) -> list[PlannedStage]:
    folder, name = f"captures/{capture.name}", capture.name
    frames = [PlannedStage("captures", name, "frames", f"{folder}/frames.log", f"{folder}/images/frames.json")]
    pose = PlannedStage("captures", name, "pose", f"{folder}/pose.log", f"{folder}/registration.json")
    return [*(frames if capture.is_video else []), pose]


def _of_run(capture: Capture, variant: str) -> list[PlannedStage]:
    run = f"captures/{capture.name}/{variant}"
    scene = shown_as(capture.name, variant)
    stages = [PlannedStage("captures", scene, "train", f"{run}/train.log", f"{run}/manifest.json")]
    if capture.eval_name:
        evaluation = f"{run}/eval_on_{capture.eval_name}"
        stages.append(
            PlannedStage("captures", scene, "evaluate", f"{evaluation}/evaluate.log", f"{evaluation}/manifest.json")
        )
    return stages
