"""The sample run of the human trainer: its options, and what it has."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from splatdag.workflow.options import SampleOptions

HUMANS_RUN = ("hi4d_pair00_greet", "sample")
"""Scene and experiment of the sample run of the human trainer."""
HUMANS_EPOCHS = {
    "nvs": ("epoch_0000", "epoch_0015"),
    "pose": ("epoch_0000", "epoch_0015"),
    "trn_nv_generation": ("epoch_0016",),
}
"""Epochs of the sample run, by task."""


class HumansOptions(SampleOptions):
    """The sample run of the human trainer: two people, three cameras, two evaluations."""

    section: ClassVar[str] = "samples.humans"
    made: ClassVar[str] = "what the human trainer would leave of two made-up people, drawn from capsules"

    frames: int = Field(6, ge=2, le=1000)
    """Frames of the video."""
    width: int = Field(144, ge=32)
    """Width of an image (pixels)."""
    height: int = Field(192, ge=32)
    """Height of an image (pixels)."""
    seed: int = Field(0, ge=0)
    """Seed of what is wrong in the predictions."""
