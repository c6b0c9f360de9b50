"""Print the state of every scene and stage that a config asks for."""

from __future__ import annotations

import json
from pathlib import Path

from splatdag.areas import Plans
from splatdag.commands.status_table import status_lines
from splatdag.config import read_config
from splatdag.workflow.area import Context, PlannedStage
from splatdag.workflow.errors import UserError
from splatdag.workflow.snakefile import CACHE
from splatdag.workflow.stage import Job, run


def main(config_json: str, here: Path, results: Path, logs: Path, job: Job) -> None:
    """Print the state of every scene and stage: done, running, failed and why, or waiting.

    Args:
        config_json: the config as JSON.
        here: folder of the Snakefile.
        results: folder of results.
        logs: folder of logs.
        job: how to run.
    """
    plans = Plans(read_config(json.loads(config_json)), Context(str(results), str(logs), here, CACHE))
    planned: list[PlannedStage] = []
    failures: list[UserError] = []
    for name in plans:
        try:
            planned += plans[name].stages()
        except UserError as error:
            failures.append(error)
    # What could be planned is shown before the lines on what could not.
    print("\n".join(status_lines(planned, logs)), flush=True)
    if failures:
        raise UserError("\n".join(dict.fromkeys(map(str, failures))))


if __name__ == "__main__":
    run(main)
