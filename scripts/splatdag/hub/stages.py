"""The stages of sharing that `status` shows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from splatdag.hub.layout import Scene
from splatdag.humans.results_tree import FILES, Recording
from splatdag.workflow.plan import PlannedStage, shown_as
from splatdag.workflow.sequences import by_number


def recording_stages(of_runs: Iterable[str], of_people: Iterable[Recording], root: Path) -> list[PlannedStage]:
    """A recording is a stage of its run; of people a row is an epoch, and a column a task.

    Args:
        of_runs: recordings of captures and driving, relative to the results: `captures/<capture>/<variant>/rerun/…` and
            `driving/<run>/<log>/rerun/…`.
        of_people: recordings of the human trainer's results.
        root: folder of those results.

    Returns:
        Stages in this order; outputs of people are absolute, since their folder may be anywhere.
    """
    stages = []
    for file in of_runs:
        area, scene, variant, *_ = Path(file).parts
        log = f"{area}/{scene}/{variant}/recording.log"
        stages.append(PlannedStage(area, shown_as(scene, variant), "record", log, file))
    for recording in sorted(of_people, key=lambda recording: (recording.run, by_number(recording.epoch))):
        log = f"humans/{recording.run}/{FILES[recording.task]}_{recording.epoch}.log"
        scene, output = f"{recording.run}/{recording.epoch}", str(root.absolute() / recording.file)
        stages.append(PlannedStage("humans", scene, f"record {recording.task}", log, output))
    return stages


def upload_stages(scenes: Iterable[Scene], results: Path, logs: Path) -> list[PlannedStage]:
    """The upload of every scene, once that of any was begun."""
    stages = [
        PlannedStage("sharing", str(scene), "upload", f"sharing/{scene}/upload.log", f"sharing/{scene}.json")
        for scene in scenes
    ]
    begun = any((logs / stage.log).exists() or (results / stage.output).exists() for stage in stages)
    return stages if begun else []
