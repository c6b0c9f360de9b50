"""Options of training, drawing and measuring Flux4D; their names are the reproduction's."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, ClassVar, Literal

from pydantic import Field

from splatdag.driving.logs.folders import CameraName
from splatdag.driving.network_options import ModelOptions
from splatdag.training.options import TrainingOptions
from splatdag.workflow.options import Options

NO_DEPTH = "lidar_sensor_id is 1, and depths are those that the Pandar64 (0) measures"


class LossOptions(Options):
    """Weights of the terms of the loss."""

    ssim_lambda: float = Field(0.2, ge=0, le=1)
    """Weight of 1 - SSIM; the colours' mean absolute difference has the rest."""
    projected_depth: bool = True
    """Punish rendered depth that is not what the Pandar64 measured."""
    depth_lambda: float = Field(0.01, ge=0)
    """Weight of the mean absolute difference of depth (per m)."""
    velocity_lambda: float = Field(0.005, ge=0)
    """Weight of the mean speed of what was measured (per metre per clip time); the backdrop does not count."""
    flow_lambda: float = Field(1.0, ge=0)
    """Weight of the mean distance (m) of what stands up in an input frame, moved to the next, from what stands there;
    not in the paper; 0 leaves it out."""
    still_lambda: float = Field(0.1, ge=0)
    """Weight of the mean speed of what is where the other input frames have points as well; not in the paper."""
    velocity_reweighting: bool = True
    """A pixel's colour counts 1 + v_r times, its image-plane velocity in pixels per frame (at most 10)."""


class LearnOptions(ModelOptions, LossOptions, TrainingOptions):
    """Schedule and data of a training of the network."""

    not_in_key: ClassVar[Set[str]] = {"log_every", "save_every", "save_ckpt_every", "checkpoint_every"}

    iters: int = Field(30_000, ge=1)
    """Steps."""
    camera: CameraName = "front_camera"
    """Camera whose images are learnt from."""
    data_factor: int = Field(1, ge=1)
    """Images are scaled down by this factor."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate of Adam after the warm-up."""
    warmup_iters: int = Field(1_000, ge=0)
    """Steps in which the learning rate rises to lr, at most a tenth of all."""
    final_lr_factor: float = Field(0.01, gt=0, le=1)
    """The learning rate falls, by the same factor at each step, to this part of lr."""
    grad_clip: float = Field(1.0, ge=0)
    """Longest gradient (2-norm over all parameters); 0 does not shorten."""
    targets_per_step: int = Field(4, ge=1)
    """Images of a clip that a step draws, of which one is of an input frame where there are two or more."""
    feedback_views: int = Field(3, ge=1)
    """Input images that a refining step sees the loss of, in training; afterwards it sees all."""
    grad_accum_steps: int = Field(1, ge=1)
    """Clips of a step, one after the other; their gradients are averaged."""
    log_every: int = Field(20, ge=1)
    """Steps between two points of the curves."""
    save_every: int = Field(200, ge=0)
    """Steps between two sets of pictures in step_XXXXXX; 0 writes none."""
    save_ckpt_every: int = Field(1_000, ge=1)
    """Steps between two ckpt_step_XXXXXX.pt."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between two saves of the state that a training continues from after a kill."""
    resume_from: str | None = None
    """Begin with the network, optimiser and step of this checkpoint, whose time is not counted; the run's own
    ckpt_last.pt is what it is when these options are first used."""
    resume_no_optim: bool = False
    """Take only the network of resume_from, as far as its parts are the same; steps count from 0."""
    seed: int = Field(0, ge=0)
    """Seed of the network and of the order of clips and images."""

    def notices(self) -> list[str]:
        """Settings without effect, a line each."""
        found = []
        if self.resume_no_optim and self.resume_from is None:
            found.append("resume_no_optim: without effect, since resume_from is not set")
        if not self.projected_depth and "depth_lambda" in self.model_fields_set:
            found.append("depth_lambda: without effect, since projected_depth is off")
        if self.projected_depth and self.lidar_sensor_id == 1:
            found.append(f"projected_depth: without effect, since {NO_DEPTH}")
        return found


SMALL: dict[str, Any] = {
    "num_image_points": 24_000,
    "num_sky_points": 6_000,
    "point_cloud_range": [-60, -60, -4, 60, 60, 20],
    "voxel_size": 0.4,
    "channels": [16, 32],
    "blocks": 1,
    "features": 32,
    "iterations": 2,
    "iters": 80,
    "lr": 4e-3,
    "data_factor": 2,
    "targets_per_step": 2,
    "feedback_views": 2,
    "save_every": 0,
    "log_every": 2,
    "save_ckpt_every": 80,
}
_MEANINGS = {
    "default": "the paper's sizes, and what the reproduction has for the rest",
    "small": "a network and a schedule that suit a CPU and the bundled logs",
}


class OverfitOptions(LearnOptions):
    """Training on one clip."""

    section: ClassVar[str] = "driving.overfit"

    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "small": SMALL}
    preset_meanings: ClassVar[dict[str, str]] = _MEANINGS
    auto: ClassVar[dict[str, str]] = {"cpu": "small", "gpu": "default"}

    preset: Literal["auto", "default", "small"] = "auto"
    """default: the reproduction's; small: for a CPU and the sample logs; auto: `small` on a CPU, `default` on a GPU."""
    iters: int = Field(10_000, ge=1)
    """Steps."""
    clip_index: int = Field(0, ge=0)
    """Number of the clip in the index, from 0."""
    fixed_target_frame: int | None = Field(None, ge=0)
    """Learn from the image of this frame of the clip alone."""


class TrainOptions(LearnOptions):
    """Training on many clips."""

    section: ClassVar[str] = "driving.train"

    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "small": {**SMALL, "cache_max_items": 16}}
    preset_meanings: ClassVar[dict[str, str]] = _MEANINGS
    auto: ClassVar[dict[str, str]] = {"cpu": "small", "gpu": "default"}
    not_in_key: ClassVar[Set[str]] = {*LearnOptions.not_in_key, "cache_max_items"}

    preset: Literal["auto", "default", "small"] = "auto"
    """default: the paper's; small: for a CPU and the sample logs; auto: `small` on a CPU, `default` on a GPU."""
    max_train_clips: int | None = Field(None, ge=1)
    """Take at most so many clips, evenly chosen."""
    cache_max_items: int = Field(2, ge=1)
    """Clips that each process keeps in memory, besides that of the step and those that are read ahead."""
    strict: bool = False
    """Stop at a clip that can't be read, instead of leaving it out and saying why."""


class FlowOptions(Options):
    """Pictures of image-plane velocity."""

    section: ClassVar[str] = "driving.flow"

    clip_index: int = Field(0, ge=0)
    """Number of the clip in the index, from 0."""
    camera: CameraName | None = None
    """Camera through which the Gaussians are seen; unset: the one that the training learnt from."""
    mode: Literal["fixed_pose", "per_frame_pose", "both"] = "both"
    """fixed_pose: a camera that stands still, so that only what moves is seen to; per_frame_pose: each frame's own."""
    render_frames: str = "0-15"
    """Frames of the clip, such as 0-15 or 0,2,4."""
    frame_ref: int = Field(0, ge=0)
    """Frame of the clip whose pose is the fixed one."""


class EvaluateOptions(Options):
    """Evaluation on test clips."""

    section: ClassVar[str] = "driving.evaluate"

    max_eval_clips: int | None = Field(None, ge=1)
    """Measure at most so many clips, evenly chosen over all logs."""
    save_renders: bool = True
    """Write splats at each time, pictures, motion and a video of some clips."""
    save_max_clips: int | None = Field(3, ge=1)
    """Largest number of clips of each log that are written; null: all. A clip at full size takes some 400 MB."""
    dynamic_mask: Literal["boxes", "points_dilated"] = "boxes"
    """Definition of what moves: `boxes`, projected boxes faster than 1 m/s; `points_dilated`, points in moving boxes,
    dilated, as the reproduction measured."""
    strict: bool = False
    """Stop at a clip that can't be read or measured, instead of leaving it out and saying why."""

    def notices(self) -> list[str]:
        """Lines on how much is written where every clip is kept, and on settings without effect."""
        if not self.save_renders:
            given = "save_max_clips" in self.model_fields_set
            return ["save_max_clips: without effect, since save_renders is off"] if given else []
        if self.save_max_clips is not None:
            return []
        return [
            "save_max_clips: every clip is kept, some 400 MB each at full size; those of PandaSet's test logs: 16 GB"
        ]
