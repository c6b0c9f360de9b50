"""Removal of the states of trainings, which are kept until Snakemake has noted that their runs have ended well.

Until then it may remove what was published: the process that Snakemake waits for fails after its work is done, or
Snakemake is killed. The next attempt then has nothing to learn, it only measures and publishes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from splatdag.workflow.errors import Stopped
from splatdag.workflow.lock import exclusive


def remove_states(ended: Iterable[Iterable[str]]) -> None:
    """Remove the `state/` beside the outputs of each job that has ended well and in whose folder nobody works.

    Args:
        ended: outputs of each such job.
    """
    for outputs in ended:
        for state in {Path(output).parent / "state" for output in outputs}:
            if (state / "checkpoint.pt").exists():
                with suppress(Stopped), exclusive(state):
                    shutil.rmtree(state, ignore_errors=True)
