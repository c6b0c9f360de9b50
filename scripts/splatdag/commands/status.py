"""Print the state of every scene and stage that a config asks for."""

from __future__ import annotations

import json
from pathlib import Path

from splatdag.asked import logs_of, recordings_of, split_of, uploads_of
from splatdag.captures.sheet import Stages, read_captures
from splatdag.captures.targets import planned_stages
from splatdag.commands.status_table import status_lines
from splatdag.config import read_config
from splatdag.driving.targets import planned_stages as driving_stages
from splatdag.hub.stages import recording_stages, upload_stages
from splatdag.humans.targets import human_results
from splatdag.workflow.stage import Job, run


def main(config_json: str, sheet: Path, results: Path, logs: Path, job: Job) -> None:
    """Print the state of every scene and stage: done, running, failed and why, or waiting.

    Args:
        config_json: the config as JSON.
        sheet: the captures sheet.
        results: folder of results.
        logs: folder of logs.
        job: how to run.
    """
    config = read_config(json.loads(config_json))
    stages = Stages(config.captures.frames, config.captures.pose, config.captures.train)
    captures = read_captures(sheet, stages, results)
    planned = planned_stages(captures, results, logs)
    driving, there = config.driving, logs_of(config, results)
    try:
        _, measured = split_of(config, there)
        if there.names:
            flow_run = driving.flow_run or driving.overfit_run
            planned += driving_stages(driving.run, driving.overfit_run, flow_run, measured)
        of_runs, of_people, _ = recordings_of(config, captures, measured, results)
        root = Path(human_results(config.sharing, str(results)).root)
        planned += recording_stages(of_runs, of_people, root)
        made = [*(results / file for file in of_runs), *(root / recording.file for recording in of_people)]
        planned += upload_stages(uploads_of(config, made, results)[0], results, logs)
    finally:  # what could be planned is shown before the line on what could not
        print("\n".join(status_lines(planned, results, logs)), flush=True)


if __name__ == "__main__":
    run(main)
