"""Fetch the weights that LPIPS measures by, ahead of the jobs that need them; without a network it is left out."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from splatdag.splats.lpips_weights import DOWNLOADS, OFFLINE, Net, backbone_path
from splatdag.workflow.errors import UserError
from splatdag.workflow.fetch import fetch
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)


def main(net: Net, receipt: Path, job: Job, source: str = DOWNLOADS) -> None:
    """Fetch the weights of a network into torchvision's folder; where that can't be done, say why and end well.

    Their name has the start of their SHA-256, which is compared, as torch.hub does.

    Args:
        net: the network.
        receipt: file to write about it.
        job: how to run.
        source: address of the folder that torchvision's weights are in.
    """
    path, problem = backbone_path(net), None
    try:
        if OFFLINE in os.environ:
            raise UserError(f"{OFFLINE} is set")
        fetch(f"{source}/{path.name}", path, path.stem.rpartition("-")[2])
    except (UserError, OSError) as error:
        problem = str(error)
        logger.warning("LPIPS (%s) is left out: %s; to try again: snakemake -f %s", net, problem, receipt)
    write_json(receipt, {"net": net, "file": path.name, "problem": problem})


if __name__ == "__main__":
    run(main)
