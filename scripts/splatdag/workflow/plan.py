"""What a config asks for, stage by stage; `status` holds it against what is on disk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedStage:
    """One stage of one scene."""

    area: str
    """Such as `captures`."""
    scene: str
    """Name of the scene, with the variant where there are several: `room`, `dog/filtered`."""
    stage: str
    """Such as `pose` or `train`; the columns of `status`."""
    log: str
    """Its log, relative to the logs folder."""
    output: str
    """The file or folder it publishes last, relative to the results folder, or absolute."""


@dataclass(frozen=True)
class RunRecording:
    """The recording of a run that `recordings` may make."""

    scene: str
    exp: str
    """Experiment: what the run is called where scenes have several."""
    file: str
    """Relative to the results folder, `<run>/rerun/<name>.rrd`."""


def shown_as(capture: str, variant: str) -> str:
    """A run's name in the table of `status`."""
    return capture if variant == "single" else f"{capture}/{variant}"
