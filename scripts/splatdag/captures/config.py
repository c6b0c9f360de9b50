"""The section `captures` of the config; no stage's code but that of the training depends on a training's options."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import field_validator, model_validator

from splatdag.captures.options import FrameOptions, PoseOptions
from splatdag.scene import options
from splatdag.scene.options import EvaluateOptions
from splatdag.workflow.area import OwnGpuResources, RunName
from splatdag.workflow.options import Options


class TrainOptions(options.TrainOptions):
    """Training of one capture."""

    section: ClassVar[str] = "captures.train"


class CkptResources(Options):
    """Resources of the job of an evaluation; a change reruns nothing."""

    evaluate: OwnGpuResources = OwnGpuResources()


class CkptRun(Options):
    """Evaluation of a file of splats from anywhere; paths are relative to the working directory."""

    ckpt: str | None = None
    """A checkpoint, such as simple_trainer's own `ckpt_29999_rank0.pt`; files of its other ranks beside it belong to
    it."""
    ply: str | None = None
    """Gaussians in Inria's layout, in place of `ckpt`."""
    data_dir: str
    """COLMAP dataset to evaluate on, with `images/` and `sparse/`."""
    trained_on: str | None = None
    """COLMAP dataset that a file of simple_trainer was trained on; not set: `data_dir`."""
    out_dir: str | None = None
    """Path of a link to the folder of the evaluation, results/captures/<name>/ckpt; not set: no link."""
    evaluate: EvaluateOptions = EvaluateOptions()
    """Evaluation."""
    resources: CkptResources = CkptResources()
    """Resources of its job."""

    @property
    def kind(self) -> Literal["ckpt", "ply"]:
        """Kind of the file: a checkpoint (`ckpt`) or a PLY file (`ply`)."""
        return "ckpt" if self.ply is None else "ply"

    @property
    def file(self) -> Path:
        """The file of splats."""
        return Path(getattr(self, self.kind))

    @model_validator(mode="after")
    def _is_one_file(self) -> Self:
        if (self.ckpt is None) == (self.ply is None):
            raise ValueError("give one of ckpt, a checkpoint, and ply, a file of Gaussians")
        return self

    @field_validator("ckpt", "ply", "data_dir", "trained_on", "out_dir")
    @classmethod
    def _is_path(cls, path: str | None) -> str | None:
        if path is not None and (not path or set(path) & set("{}")):
            raise ValueError("expected a path without braces, which are Snakemake's wildcards")
        return path


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
    ckpts: dict[RunName, CkptRun] = {}
    """Files of splats to evaluate, by name: the target `captures_ckpts`. Each has `ckpt` or `ply`, `data_dir` and, as
    wanted, `trained_on`, `out_dir`, `evaluate` and `resources`:
    `{garden: {ckpt: old/ckpt_29999_rank0.pt, data_dir: garden}}`."""
