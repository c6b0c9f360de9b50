"""Let a run appear in a second place too, as a link: the result folder that the sheet names."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from splatdag.workflow.errors import UserError
from splatdag.workflow.lock import locked
from splatdag.workflow.publish import complete, write_text
from splatdag.workflow.result_dirs import check_link, links_of_pair
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
    receipt.parent.mkdir(parents=True, exist_ok=True)
    alone = receipt.parent / ".links.lock"
    with locked(alone):  # links of a capture's runs are made one after the other
        try:
            _replace(link, run_dir)
        finally:
            alone.unlink()
    write_text(receipt, f"{link}\n")
    logger.info("%s is %s", link, run_dir)


def _replace(link: Path, run_dir: Path) -> None:
    """Link a run; links of the pair of runs beside it that lie in a folder of that name move into the run.

    Raises:
        UserError: something of the user's is there.
    """
    check_link(link, run_dir, "link")
    for name, path in links_of_pair(link, run_dir.parent).items():  # they go on lying at the same paths
        _link(run_dir / name, path.resolve())
        path.unlink()
    if link.is_dir() and not link.is_symlink():
        link.rmdir()
    _link(link, run_dir)


def _link(link: Path, run_dir: Path) -> None:
    """Make a link, relative, so that it and the run can be moved together."""
    with complete(link) as temporary:
        temporary.unlink()
        temporary.symlink_to(os.path.relpath(run_dir.resolve(), link.parent.resolve()), target_is_directory=True)


if __name__ == "__main__":
    run(main)
