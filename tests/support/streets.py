"""Sample logs of driving that several modules of tests look into."""

from __future__ import annotations

from pathlib import Path

from splatdag.samples.options import StreetOptions
from splatdag.samples.street import make_street

OPTIONS = StreetOptions(frames=5, width=160, points=6000)
NAMES = ("001", "002")


def make(folder: Path) -> Path:
    """Write the logs."""
    make_street(folder, OPTIONS)
    return folder
