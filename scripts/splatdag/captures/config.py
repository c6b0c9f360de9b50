"""The section `captures` of the config; no stage's code but that of the training depends on a training's options."""

from __future__ import annotations

from typing import ClassVar

from splatdag.captures.options import FrameOptions, PoseOptions
from splatdag.scene import options
from splatdag.workflow.options import Options


class TrainOptions(options.TrainOptions):
    """Training of one capture."""

    section: ClassVar[str] = "captures.train"


class CapturesConfig(Options):
    """Photos of static scenes to splats."""

    sheet: str = "config/captures.tsv"
    """Table of captures; looked for in the working directory, then beside the Snakefile."""
    frames: FrameOptions = FrameOptions()
    """Photos from videos."""
    pose: PoseOptions = PoseOptions()
    """Camera poses."""
    train: TrainOptions = TrainOptions()
    """Training."""
