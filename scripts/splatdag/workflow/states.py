"""The states of trainings, which are kept until Snakemake has noted that their runs have ended well.

Until then it may remove what was published: the process that Snakemake waits for fails after its work is done, or
Snakemake is killed. The next attempt then has nothing to learn, it only measures and publishes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from splatdag.workflow.doctor import unfinished


def remove_states(runs: Iterable[Iterable[str]], folder: Path = Path()) -> None:
    """Remove the `state/` beside the outputs of each run of which nothing is missing and nobody is at work.

    Args:
        runs: the outputs of each.
        folder: where Snakemake is run.
    """
    open_ = set(unfinished(folder))
    for outputs in runs:
        for state in {(folder / output).parent / "state" for output in outputs}:
            if (
                (state / "checkpoint.pt").exists()  # looked for first: most jobs of a large run have none
                and not (state / "lease.json").exists()
                and open_.isdisjoint(outputs)
                and all((folder / output).exists() for output in outputs)
            ):
                shutil.rmtree(state, ignore_errors=True)
