"""Table of the states of all planned stages, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from splatdag.workflow.area import PlannedStage
from splatdag.workflow.attempts import State, Status, stage_status

_ALL_SHOWN = 40
"""Number of scenes up to which the finished ones are listed, too; of more they are only counted."""


def status_lines(planned: list[PlannedStage], logs: Path) -> list[str]:
    """Return a table of scenes and stages per area, the stages that failed with their reasons, and the counts.

    Args:
        planned: stages that the config asks for; scenes and stages are shown in this order.
        logs: folder of the logs.
    """
    if not planned:
        return ["nothing is planned: the config names no scene"]
    found = {stage: planned_status(stage, logs) for stage in planned}
    with_done = len({(stage.area, stage.scene) for stage in planned}) <= _ALL_SHOWN
    lines: list[str] = []
    for area in dict.fromkeys(stage.area for stage in planned):
        lines += [*_table(area, {s: a for s, a in found.items() if s.area == area}, with_done), ""]
    if troubles := list(_troubles(found, logs)):
        lines += [*troubles, ""]
    return [*lines, _counts(found)]


def planned_status(stage: PlannedStage, logs: Path) -> Status:
    """Return the status of one stage: from its record while it runs or while its output is missing, else done.

    Outputs appear only when complete, so one that is there counts even if a later attempt failed; one that
    was removed after its stage had finished is to be made again.
    """
    status = stage_status(logs / stage.log)
    if status.state is State.RUNNING:
        return status
    if Path(stage.output).exists():
        return Status(State.DONE)
    return Status(State.WAITING) if status.state is State.DONE else status


def _table(area: str, found: dict[PlannedStage, Status], with_done: bool) -> list[str]:
    place: dict[str, int] = {}
    scenes: dict[str, dict[str, str]] = {}
    for stage, status in found.items():
        states = scenes.setdefault(stage.scene, {})
        states[stage.stage] = status.state.value
        place[stage.stage] = max(place.get(stage.stage, 0), len(states))
    stages = sorted(place, key=place.__getitem__)  # a stage that only later scenes have keeps its place among theirs
    shown = {scene: states for scene, states in scenes.items() if with_done or set(states.values()) != {State.DONE}}
    rows = [[area, *stages]]
    rows += [[scene, *(states.get(stage, "-") for stage in stages)] for scene, states in shown.items()]
    if len(shown) < len(scenes):
        rows.append([f"({len(scenes) - len(shown)} more, all done)"])
    return _aligned(rows)


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=False)] for row in rows]
    return ["  ".join(row).rstrip() for row in padded]


def _troubles(found: dict[PlannedStage, Status], logs: Path) -> Iterator[str]:
    for stage, status in found.items():
        if status.state in (State.FAILED, State.KILLED):
            log = logs / stage.log
            see = "" if status.reason.endswith(f"see {log}") else f"; see {log}"
            yield f"{stage.area}/{stage.scene} {stage.stage} {status.state}: {status.reason}{see}"


def _counts(found: dict[PlannedStage, Status]) -> str:
    counts = Counter(status.state for status in found.values())
    rest = [f"{counts[state]} {state}" for state in State if state is not State.DONE and counts[state]]
    return ", ".join([f"{counts[State.DONE]} of {len(found)} stages done", *rest])
