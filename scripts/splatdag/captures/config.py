"""The section `captures` of the config; no stage's code but that of the training depends on a training's options."""

from __future__ import annotations

from typing import ClassVar

from pydantic import field_validator

from splatdag.captures.options import FrameOptions, PoseOptions
from splatdag.scene import options
from splatdag.scene.options import EvaluateOptions
from splatdag.workflow.area import OwnGpuResources, RunName
from splatdag.workflow.options import Options


class TrainOptions(options.TrainOptions):
    """Training of one capture."""

    section: ClassVar[str] = "captures.train"


class CkptResources(Options):
    """What the job of a checkpoint's evaluation asks for; a change reruns nothing."""

    evaluate: OwnGpuResources = OwnGpuResources()


class CkptRun(Options):
    """Evaluation of a checkpoint file from anywhere, such as simple_trainer's own `ckpt_29999_rank0.pt`."""

    ckpt: str
    """The file, relative to the working directory."""
    data_dir: str
    """COLMAP dataset that it was trained on, with `images/` and `sparse/`; relative to the working directory."""
    out_dir: str | None = None
    """Where the figures appear as well, as a link; not set: only in results/captures/<name>/ckpt."""
    evaluate: EvaluateOptions = EvaluateOptions()
    """Evaluation."""
    resources: CkptResources = CkptResources()
    """Of its job."""

    @field_validator("ckpt", "data_dir", "out_dir")
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
    """Checkpoint files to evaluate, by name: the target `captures_ckpts`. Each has `ckpt`, `data_dir` and, as wanted,
    `out_dir`, `evaluate` and `resources`: `{garden: {ckpt: old/ckpt_29999_rank0.pt, data_dir: garden}}`."""
