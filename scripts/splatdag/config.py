"""The whole config: one section per area, each made of its stages' options."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pydantic import Field, model_validator

from splatdag.captures.options import FrameOptions, PoseOptions
from splatdag.driving.network_options import VoxelizationOptions
from splatdag.driving.options import AlignmentOptions, CheckOptions, IndexOptions
from splatdag.driving.targets import RESERVED
from splatdag.driving.training_options import EvaluateOptions as FluxEvaluateOptions
from splatdag.driving.training_options import FlowOptions, OverfitOptions
from splatdag.driving.training_options import TrainOptions as FluxTrainOptions
from splatdag.hub.options import UploadOptions
from splatdag.hub.rrd_files import resolved
from splatdag.recording.options import CaptureRecordingOptions, RunSelection
from splatdag.samples.humans_options import HumansOptions
from splatdag.samples.options import RoomOptions, StreetOptions
from splatdag.scene.options import TrainOptions
from splatdag.workflow.options import Options, validated

_NOTICES_SHOWN = 20
"""Notices that are printed; a sheet may have thousands of rows."""


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


class SamplesConfig(Options):
    """The bundled sample inputs, made on first use."""

    room: RoomOptions = RoomOptions()
    """The sample capture."""
    humans: HumansOptions = HumansOptions()
    """The sample run of the human trainer."""
    street: StreetOptions = StreetOptions()
    """The sample driving logs."""


class SharingConfig(RunSelection):
    """Recordings of finished runs, and where they are published."""

    export: bool = True
    """The target `upload` makes recordings that are missing first; without, it publishes those that are there."""
    recordings: CaptureRecordingOptions = CaptureRecordingOptions()
    """Recordings for the Rerun viewer."""
    upload: UploadOptions = UploadOptions()
    """Publication."""

    def resolved_upload(self) -> UploadOptions:
        """The options of the upload, with what `auto` stands for."""
        selection, rrd_glob = resolved(self.upload.selection, self.upload.rrd_glob, self.tasks, self.epoch)
        return self.upload.model_copy(update={"selection": selection, "rrd_glob": rrd_glob})


_INDEX = r"^[^{}]+\.(pkl|pickle)$"
_RUN = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"


class DrivingConfig(Options):
    """PandaSet's driving logs to Gaussians that move."""

    data_root: str | None = None
    """Folder of the logs (001, 002, …), relative to the working directory; `sample:street` is the bundled ones. Not
    set: `all` and `recordings` ask for nothing of driving."""
    index_path: str | None = None
    """An index of clips (.pkl or .jsonl) in place of the one that is made; the old scripts' are read, too."""
    out_full: str | None = Field(None, pattern=_INDEX)
    """Where the index of all logs is written (JSON lines beside it); not set:
    `results/driving/index/pandaset_full_clips.pkl`."""
    out_tiny: str | None = Field(None, pattern=_INDEX)
    """Where that of a few logs is written; not set: `results/driving/index/pandaset_tiny_clips.pkl`."""
    index: IndexOptions = IndexOptions()
    """The index of clips."""
    check: CheckOptions = CheckOptions()
    """The check of the logs."""
    alignment: AlignmentOptions = AlignmentOptions()
    """The check of lidar, poses and cameras by eye."""
    voxelization: VoxelizationOptions = VoxelizationOptions()
    """The check of a clip's voxels."""
    run: str = Field("flux4d", pattern=_RUN)
    """Name of the run of target `flux4d`: its folder below results/driving."""
    train: FluxTrainOptions = FluxTrainOptions()
    """Training of that run."""
    gpus: int = Field(1, ge=1)
    """GPUs that this training uses, each with clips of its own."""
    evaluate: FluxEvaluateOptions = FluxEvaluateOptions()
    """Evaluation of that run."""
    overfit_run: str = Field("overfit", pattern=_RUN)
    """Name of the run of target `flux4d_overfit`."""
    overfit: OverfitOptions = OverfitOptions()
    """Training of that run, on one clip of the tiny index."""
    flow: FlowOptions = FlowOptions()
    """Pictures of motion, of target `flux4d_flow`."""
    flow_run: str | None = Field(None, pattern=_RUN)
    """Run whose motion is drawn; not set: the one on one clip."""
    ckpt: str = Field("ckpt_last.pt", pattern=r"^ckpt_(last|step_\d{6,})\.pt$")
    """Checkpoint of the run that is measured and whose motion is drawn."""

    @model_validator(mode="after")
    def _apart(self) -> DrivingConfig:
        if self.out_full and self.out_full == self.out_tiny:
            raise ValueError("out_full and out_tiny are the same file")
        if self.run == self.overfit_run:
            raise ValueError(f"run and overfit_run are both {self.run!r}")
        for name in (self.run, self.overfit_run, self.flow_run):
            if name in RESERVED:
                raise ValueError(f"{name!r} is no name for a run: results/driving/{name} holds something else")
        if self.flow_run not in (None, self.run, self.overfit_run):
            raise ValueError(f"flow_run is {self.flow_run!r}, but the runs are {self.run!r} and {self.overfit_run!r}")
        return self


class Config(Options):
    """`config/config.yaml`."""

    captures: CapturesConfig = CapturesConfig()
    """Captures."""
    driving: DrivingConfig = DrivingConfig()
    """Driving logs."""
    sharing: SharingConfig = SharingConfig()
    """Recordings and their publication."""
    samples: SamplesConfig = SamplesConfig()
    """Sample inputs."""


def read_config(given: dict[str, Any]) -> Config:
    """The config, checked.

    Raises:
        UserError: one line per unknown key (naming the nearest), wrong type or value out of range.
    """
    return validated(Config, given, "config")


def notices(options: Options, where: str = "config") -> Iterator[tuple[str, str]]:
    """What the user should know about a config, such as settings without effect: section and line."""
    yield from ((where, line) for line in options.notices())
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, Options):
            path = f"{where}: {name}" if where == "config" else f"{where}.{name}"
            yield from notices(value, path)


def notice_lines(found: list[tuple[str, str]]) -> list[str]:
    """Notices for the terminal: each text once, with the place where it comes first, and at most twenty."""
    count = Counter(text for _, text in found)
    first: dict[str, str] = {}
    for where, text in found:
        first.setdefault(text, where)
    lines = [
        f"{where}: {text}" + (f" (and {count[text] - 1} more rows)" if count[text] > 1 else "")
        for text, where in first.items()
    ]
    rest = len(lines) - _NOTICES_SHOWN
    return lines if rest <= 0 else [*lines[:_NOTICES_SHOWN], f"and {rest} more notices of this kind"]


def schema() -> str:
    """JSON schema of `config/config.yaml`, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
