"""The whole config: one section per area, each made of its stages' options."""

from __future__ import annotations

import json
from typing import Any

from splatdag.captures.options import PoseOptions, TrainOptions
from splatdag.samples.options import RoomOptions
from splatdag.workflow.options import Options, validated


class CapturesConfig(Options):
    """Photos of static scenes to splats."""

    sheet: str = "config/captures.tsv"
    """Table of captures; looked for in the working directory, then beside the Snakefile."""
    pose: PoseOptions = PoseOptions()
    """Camera poses."""
    train: TrainOptions = TrainOptions()
    """Training."""


class SamplesConfig(Options):
    """The bundled sample inputs, made on first use."""

    room: RoomOptions = RoomOptions()
    """The sample capture."""


class Config(Options):
    """`config/config.yaml`."""

    captures: CapturesConfig = CapturesConfig()
    """Captures."""
    samples: SamplesConfig = SamplesConfig()
    """Sample inputs."""


def read_config(given: dict[str, Any]) -> Config:
    """The config, checked.

    Raises:
        UserError: one line per unknown key (naming the nearest), wrong type or value out of range.
    """
    return validated(Config, given, "config")


def schema() -> str:
    """JSON schema of `config/config.yaml`, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
