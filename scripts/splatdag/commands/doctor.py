"""Print why Snakemake can't run in a folder, and which commands help; cancel jobs that a killed run left in Slurm."""

from __future__ import annotations

from pathlib import Path

from splatdag.workflow import slurm
from splatdag.workflow.doctor import advice
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job, run


def main(job: Job, directory: Path = Path(), cancel: bool = False) -> None:
    """Say what keeps Snakemake from running in a folder, and the commands that mend it.

    Args:
        job: how to run.
        directory: where Snakemake is run.
        cancel: cancel the jobs of this folder that are in Slurm, and no others; trainings save their state.
    """
    if not directory.is_dir():
        raise UserError(f"directory: no such folder: {directory}")
    try:
        jobs = slurm.live_jobs(directory)
    except UserError as error:
        if cancel:
            raise
        print(f"jobs in Slurm are not known: {error}")
        jobs = []
    if cancel and jobs:
        slurm.cancel(jobs)
    print("\n".join(advice(directory, jobs, cancelled=cancel)))


if __name__ == "__main__":
    run(main)
