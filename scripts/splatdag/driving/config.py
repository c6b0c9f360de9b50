"""The config's section `driving`: logs, index, checks, and any number of runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints, field_validator, model_validator

from splatdag.driving.network_options import VoxelizationOptions
from splatdag.driving.options import AlignmentOptions, CheckOptions, IndexOptions
from splatdag.driving.training_options import EvaluateOptions, FlowOptions, OverfitOptions, TrainOptions
from splatdag.workflow.area import OwnGpuResources, RunName
from splatdag.workflow.options import Options, is_null, merged

RESERVED = ("index", "check", "lift", "lift_alignment", "voxelization")
"""Folders below results/driving that are no runs."""
_INDEX = r"^[^{}]+\.(pkl|pickle)$"
Checkpoint = Annotated[str, StringConstraints(pattern=r"^ckpt_(last|step_\d{6,})\.pt$")]


class ClipRunResources(Options):
    """Resources that the jobs of a run on one clip ask for; a change reruns nothing."""

    train: OwnGpuResources = OwnGpuResources()
    flow: OwnGpuResources = OwnGpuResources()


class LogsRunResources(ClipRunResources):
    """Resources that the jobs of a run on many logs ask for; a change reruns nothing."""

    evaluate: OwnGpuResources = OwnGpuResources()


class CkptRunResources(Options):
    """Resources that the jobs of a checkpoint file ask for; a change reruns nothing."""

    evaluate: OwnGpuResources = OwnGpuResources()
    flow: OwnGpuResources = OwnGpuResources()


class ClipRun(Options):
    """A run on one clip of the tiny index; what is not set is as in `driving.overfit` and `driving.flow`."""

    overfit: OverfitOptions = OverfitOptions()
    """Training."""
    flow: FlowOptions = FlowOptions()
    """Pictures of motion."""
    ckpt: Checkpoint = "ckpt_last.pt"
    """Checkpoint whose motion is drawn."""
    resources: ClipRunResources = ClipRunResources()
    """Resources of its jobs."""


class LogsRun(Options):
    """A run on many logs; what is not set is as in `driving.train`, `evaluate`, `flow` and `ckpt`."""

    train: TrainOptions = TrainOptions()
    """Training."""
    evaluate: EvaluateOptions = EvaluateOptions()
    """Evaluation."""
    flow: FlowOptions = FlowOptions()
    """Pictures of motion."""
    ckpt: Checkpoint = "ckpt_last.pt"
    """Checkpoint that is measured and whose motion is drawn."""
    resources: LogsRunResources = LogsRunResources()
    """Resources of its jobs."""


class CkptRun(Options):
    """A checkpoint file from anywhere; what is not set is as in `driving.evaluate` and `driving.flow`."""

    ckpt: str
    """The file: a ckpt_last.pt or ckpt_step_XXXXXX.pt of any run, relative to the working directory."""
    out_dir: str | None = None
    """Path of a link to the figures; not set: they are only in results/driving/<name>."""
    evaluate: EvaluateOptions = EvaluateOptions()
    """Evaluation."""
    flow: FlowOptions = FlowOptions()
    """Pictures of motion, of a clip of the tiny index, where `flow_runs` names it."""
    resources: CkptRunResources = CkptRunResources()
    """Resources of its jobs."""

    @field_validator("ckpt", "out_dir")
    @classmethod
    def _is_path(cls, path: str | None) -> str | None:
        if path is not None and (not path or set(path) & set("{}")):
            raise ValueError("expected a path without braces, which are Snakemake's wildcards")
        return path


_SHARED = {
    "runs": ("train", "evaluate", "flow", "ckpt"),
    "overfits": ("overfit", "flow", "ckpt"),
    "ckpts": ("evaluate", "flow"),
}
"""Names of the section's options that the runs of each kind take over, unless they set their own."""


class DrivingConfig(Options):
    """PandaSet's driving logs to Gaussians that move."""

    refused: ClassVar[dict[str, str]] = {
        "run": "runs have their names in driving.runs: {flux4d: {}}",
        "overfit_run": "runs on one clip have their names in driving.overfits: {overfit: {}}",
        "flow_run": "name the runs whose motion is drawn in driving.flow_runs: [overfit]",
        "gpus": "GPUs are asked for in resources.train_flux4d.gpus, or of one run in driving.runs.<run>.resources",
    }

    data_root: str | None = None
    """Folder of the logs (001, 002, …), relative to the working directory; `sample:street` is the bundled ones. Not
    set: `all` and `recordings` ask for nothing of driving."""
    index_path: str | None = None
    """An index of clips (.pkl or .jsonl) in place of the one that is made; the old scripts' are read, too."""
    out_full: str | None = Field(None, pattern=_INDEX)
    """File for the index of all logs (JSON lines beside it); not set:
    `results/driving/index/pandaset_full_clips.pkl`."""
    out_tiny: str | None = Field(None, pattern=_INDEX)
    """File for the index of a few logs; not set: `results/driving/index/pandaset_tiny_clips.pkl`."""
    index: IndexOptions = IndexOptions()
    """The index of clips."""
    check: CheckOptions = CheckOptions()
    """The check of the logs."""
    alignment: AlignmentOptions = AlignmentOptions()
    """The check of lidar, poses and cameras by eye."""
    voxelization: VoxelizationOptions = VoxelizationOptions()
    """The check of a clip's voxels."""
    train: TrainOptions = TrainOptions()
    """Training on many logs, as all `runs` have it."""
    evaluate: EvaluateOptions = EvaluateOptions()
    """Evaluation, as all `runs` have it."""
    ckpt: Checkpoint = "ckpt_last.pt"
    """Checkpoint that is measured and whose motion is drawn, as all runs have it."""
    runs: dict[RunName, LogsRun] = {"flux4d": LogsRun()}
    """Runs on many logs by name, results/driving/<name>: the target `flux4d`. Each may have `train`, `evaluate`,
    `flow`, `ckpt` and `resources` of its own: `{flux4d: {}, still: {train: {flow_lambda: 0}}}`."""
    overfit: OverfitOptions = OverfitOptions()
    """Training on one clip of the tiny index, as all `overfits` have it."""
    overfits: dict[RunName, ClipRun] = {"overfit": ClipRun()}
    """Runs on one clip by name: the target `flux4d_overfit`. Each may have `overfit`, `flow`, `ckpt` and `resources` of
    its own."""
    ckpts: dict[RunName, CkptRun] = {}
    """Checkpoint files to evaluate on the test clips, by name: the target `flux4d_ckpts`. Each has `ckpt` and, as
    wanted, `out_dir`, `evaluate`, `flow` and `resources`: `{theirs: {ckpt: last.pt, out_dir: eval_theirs}}`."""
    flow: FlowOptions = FlowOptions()
    """Pictures of motion, of the target `flux4d_flow`, as all runs have it."""
    flow_runs: tuple[RunName, ...] = ()
    """Runs and checkpoint files whose motion is drawn; not set: runs on one clip."""

    @model_validator(mode="before")
    @classmethod
    def _complete_runs(cls, given: Any) -> Any:
        """Give every run what the section itself says."""
        if not isinstance(given, dict):
            return given
        complete = dict(given)
        for kind, names in _SHARED.items():
            runs = given.get(kind, {name: {} for name in cls.model_fields[kind].default})
            shared = {name: given[name] for name in names if given.get(name) is not None}
            if isinstance(runs, dict):
                complete[kind] = {
                    name: merged(shared, {} if is_null(run) else run) if isinstance(run, dict) or is_null(run) else run
                    for name, run in runs.items()
                }
        return complete

    @model_validator(mode="after")
    def _fits_together(self) -> DrivingConfig:
        if self.out_full and self.out_full == self.out_tiny:
            raise ValueError("out_full and out_tiny are the same file")
        kinds: dict[str, Iterable[str]] = {"runs": self.runs, "overfits": self.overfits, "ckpts": self.ckpts}
        kind_of: dict[str, str] = {}
        for kind, runs in kinds.items():
            for name in runs:
                if kind_of.setdefault(name, kind) != kind:
                    raise ValueError(f"{kind_of[name]} and {kind} both have {name!r}")
                if name in RESERVED:
                    raise ValueError(f"{name!r} is no name for a run: results/driving/{name} holds something else")
        for name in self.flow_runs:
            if name not in kind_of:
                known = ", ".join(kind_of)
                raise ValueError(f"flow_runs names {name!r}, but the runs are {known}")
        return self
