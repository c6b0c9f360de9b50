"""Print the state of every scene and stage that a config asks for."""

from __future__ import annotations

import json
from pathlib import Path

from splatdag.captures.sheet import Stages, read_captures
from splatdag.captures.targets import planned_stages
from splatdag.config import read_config
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
    options = read_config(json.loads(config)).captures
    captures = read_captures(sheet, Stages(options.frames, options.pose, options.train), results)
    print("\n".join(status_lines(planned_stages(captures, results, logs), results, logs)))


if __name__ == "__main__":
    run(main)
