"""Let a run appear in a second place too, as a link: the result folder that the sheet names."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from splatdag.captures.result_dirs import check_link
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete, write_text
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)


def main(run_dir: Path, link: Path, receipt: Path, job: Job) -> None:
    """Let a run appear in a second place too, as a link.

    Args:
        run_dir: the run's folder.
        link: where it shall appear; free, or such a link already.
        receipt: file to write when it is done, with the link's path in it.
        job: how to run.
    """
    if not run_dir.is_dir():
        raise UserError(f"run_dir: no such folder: {run_dir}")
    check_link(link, run_dir, "link")
    with complete(link) as temporary:  # relative, so that the two can be moved together
        temporary.symlink_to(os.path.relpath(run_dir.resolve(), link.parent.resolve()), target_is_directory=True)
    write_text(receipt, f"{link}\n")
    logger.info("%s is %s", link, run_dir)


if __name__ == "__main__":
    run(main)
