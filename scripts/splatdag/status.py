"""Print the state of every scene and stage that a config asks for."""

from __future__ import annotations

import json
from pathlib import Path

from splatdag.captures.sheet import Stages, read_captures
from splatdag.captures.targets import planned_stages, recorded_runs
from splatdag.config import SharingConfig, read_config
from splatdag.samples.humans_options import HUMANS_EPOCHS, HUMANS_RUN
from splatdag.sharing.stages import recording_stages, upload_stages
from splatdag.sharing.targets import human_results, wanted
from splatdag.sharing.upload_targets import recordings_on_disk, uploads
from splatdag.workflow.plan import PlannedStage
from splatdag.workflow.stage import Job, run
from splatdag.workflow.status import status_lines


def main(config: str, sheet: Path, results: Path, logs: Path, job: Job) -> None:
    """Print the state of every scene and stage: done, running, failed and why, or waiting.

    Args:
        config: the config as JSON.
        sheet: the captures sheet.
        results: folder of results.
        logs: folder of logs.
        job: how to run.
    """
    options = read_config(json.loads(config))
    stages = Stages(options.captures.frames, options.captures.pose, options.captures.train)
    captures = read_captures(sheet, stages, results)
    planned = planned_stages(captures, results, logs)
    planned += _sharing(options.sharing, recorded_runs(captures, results), results, logs)
    print("\n".join(status_lines(planned, results, logs)))


def _sharing(options: SharingConfig, captured: list[tuple[str, str]], results: Path, logs: Path) -> list[PlannedStage]:
    tree = human_results(options, str(results))
    of_captures, of_people = wanted(options, captured, tree, HUMANS_RUN, HUMANS_EPOCHS)
    root = Path(tree.root)
    made = [*(results / file for file in of_captures), *(root / recording.file for recording in of_people)]
    there = recordings_on_disk(results, root)
    scenes, _ = uploads({*there, *(made if options.export else [])}, results, root, options.resolved_upload(), options)
    return [*recording_stages(of_captures, of_people, root), *upload_stages(scenes, results, logs)]


if __name__ == "__main__":
    run(main)
