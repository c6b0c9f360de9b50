"""Print the state of every scene and stage that a config asks for."""

from __future__ import annotations

import json
from pathlib import Path

from splatdag.captures.sheet import Stages, read_captures
from splatdag.captures.targets import planned_stages, recorded_runs
from splatdag.config import SharingConfig, read_config
from splatdag.driving.targets import driving_logs, recorded_logs, split_logs
from splatdag.driving.targets import planned_stages as driving_stages
from splatdag.samples.humans_options import HUMANS_EPOCHS, HUMANS_RUN
from splatdag.samples.options import SEQUENCES
from splatdag.sharing.stages import recording_stages, upload_stages
from splatdag.sharing.targets import human_results, wanted
from splatdag.sharing.upload_targets import recordings_on_disk, uploads
from splatdag.workflow.plan import PlannedStage, RunRecording
from splatdag.workflow.stage import Job, run
from splatdag.workflow.status import status_lines


def main(config_json: str, sheet: Path, results: Path, logs: Path, job: Job) -> None:
    """Print the state of every scene and stage: done, running, failed and why, or waiting.

    Args:
        config_json: the config as JSON.
        sheet: the captures sheet.
        results: folder of results.
        logs: folder of logs.
        job: how to run.
    """
    options = read_config(json.loads(config_json))
    stages = Stages(options.captures.frames, options.captures.pose, options.captures.train)
    captures = read_captures(sheet, stages, results)
    planned = planned_stages(captures, results, logs)
    driving = options.driving
    sample = SEQUENCES[: options.samples.street.logs]
    there = driving_logs(driving.data_root, str(results), sample)
    measured = split_logs(there, driving.index, driving.index_path)[1]
    flow_run = driving.flow_run or driving.overfit_run
    planned += driving_stages(driving.run, driving.overfit_run, flow_run, measured) if there.names else []
    recorded = recorded_logs(driving.run, measured, driving.overfit_run, driving.overfit.clip_index, results)
    runs = [*recorded_runs(captures, results), *(recorded if there.names else [])]
    planned += _sharing(options.sharing, runs, results, logs)
    print("\n".join(status_lines(planned, results, logs)))


def _sharing(options: SharingConfig, runs: list[RunRecording], results: Path, logs: Path) -> list[PlannedStage]:
    tree = human_results(options, str(results))
    of_captures, of_people = wanted(options, runs, tree, HUMANS_RUN, HUMANS_EPOCHS)
    root = Path(tree.root)
    made = [*(results / file for file in of_captures), *(root / recording.file for recording in of_people)]
    there = recordings_on_disk(results, root)
    scenes, _ = uploads({*there, *(made if options.export else [])}, results, root, options.resolved_upload(), options)
    return [*recording_stages(of_captures, of_people, root), *upload_stages(scenes, results, logs)]


if __name__ == "__main__":
    run(main)
