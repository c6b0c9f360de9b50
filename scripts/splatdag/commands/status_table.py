"""How far every planned stage is, as a table for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from splatdag.workflow.area import PlannedStage
from splatdag.workflow.attempts import Attempt, State, read_attempt

_ALL_SHOWN = 40
"""With more scenes than this, those that are done are only counted."""


def status_lines(planned: list[PlannedStage], logs: Path) -> list[str]:
    """A table of scenes and stages per area, what failed and why, and the counts.

    Args:
        planned: what the config asks for; scenes and stages are shown in this order.
        logs: folder of the logs.
    """
    if not planned:
        return ["nothing is planned: the config names no scene"]
    attempts = {stage: stage_attempt(stage, logs) for stage in planned}
    with_done = len({(stage.area, stage.scene) for stage in planned}) <= _ALL_SHOWN
    lines: list[str] = []
    for area in dict.fromkeys(stage.area for stage in planned):
        lines += [*_table(area, {s: a for s, a in attempts.items() if s.area == area}, with_done), ""]
    if troubles := list(_troubles(attempts, logs)):
        lines += [*troubles, ""]
    return [*lines, _counts(attempts)]


def stage_attempt(stage: PlannedStage, logs: Path) -> Attempt:
    """The state of one stage: by its log while it runs or when its output is missing, else done.

    Outputs appear only when complete, so one that is there counts even if a later attempt failed; one that
    was removed after its stage had finished is to be made again.
    """
    attempt = read_attempt(logs / stage.log)
    if attempt.state is State.RUNNING:
        return attempt
    if Path(stage.output).exists():
        return Attempt(State.DONE, "", attempt.when, attempt.attempts)
    if attempt.state is State.DONE:
        return Attempt(State.WAITING, "", attempt.when, attempt.attempts)
    return attempt


def _table(area: str, attempts: dict[PlannedStage, Attempt], with_done: bool) -> list[str]:
    place: dict[str, int] = {}
    scenes: dict[str, dict[str, str]] = {}
    for stage, attempt in attempts.items():
        states = scenes.setdefault(stage.scene, {})
        states[stage.stage] = attempt.state.value
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


def _troubles(attempts: dict[PlannedStage, Attempt], logs: Path) -> Iterator[str]:
    for stage, attempt in attempts.items():
        if attempt.state in (State.FAILED, State.KILLED):
            log = logs / stage.log
            see = "" if attempt.reason.endswith(f"see {log}") else f"; see {log}"
            yield f"{stage.area}/{stage.scene} {stage.stage} {attempt.state}: {attempt.reason}{see}"


def _counts(attempts: dict[PlannedStage, Attempt]) -> str:
    counts = Counter(attempt.state for attempt in attempts.values())
    rest = [f"{counts[state]} {state}" for state in State if state is not State.DONE and counts[state]]
    return ", ".join([f"{counts[State.DONE]} of {len(attempts)} stages done", *rest])
