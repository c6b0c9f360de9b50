"""Options of the captures' stages. Names are those of COLMAP and of gsplat 1.5.3's simple_trainer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from splatdag.splats.options import SplatOptions
from splatdag.workflow.options import Options
from splatdag.workflow.site import LEAST_MEM_MB


class ResourceOptions(Options):
    """What the jobs of one stage ask a cluster for, where a capture needs other than the usual."""

    mem_mb: int | None = Field(None, ge=LEAST_MEM_MB)
    """Memory (MB) of the first attempt; the second asks for twice as much."""
    runtime: int | None = Field(None, ge=1)
    """Time limit (minutes) of the first attempt; the second asks for twice as much."""
    threads: int | None = Field(None, ge=1)
    """CPUs."""


class TrainResources(ResourceOptions):
    """What a training asks for."""

    gpus: int | None = Field(None, ge=1)
    """GPUs, which share the views of each step."""


class CaptureResources(Options):
    """What a capture's stages ask for; not a part of what they compute, so that a change reruns nothing."""

    frames: ResourceOptions = ResourceOptions()
    pose: ResourceOptions = ResourceOptions()
    train: TrainResources = TrainResources()
    evaluate: ResourceOptions = ResourceOptions()


class FrameOptions(Options):
    """Photos from a video."""

    section: ClassVar[str] = "captures.frames"

    num_frames: int = Field(100, ge=2)
    """Parts of equal length that the video is cut into; the sharpest frame of each is taken."""
    min_change: float = Field(1.0, ge=0)
    """Mean change of brightness (0 to 255) since the frame before, below which the camera stood still; 0 keeps all."""


class PoseOptions(Options):
    """Camera poses from photos, by structure from motion (pycolmap)."""

    section: ClassVar[str] = "captures.pose"

    camera_model: Literal["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"] = "SIMPLE_RADIAL"
    """Camera model to estimate; photos in one folder share one camera."""
    matching: Literal["auto", "exhaustive", "sequential"] = "auto"
    """Pairs of photos to match: all, or neighbours in name order; auto takes all up to 200 photos."""
    max_image_size: int = Field(3200, ge=64)
    """Longest side at which features are looked for (pixels); larger photos are scaled down for it."""
    max_num_features: int = Field(8192, ge=100)
    """Features kept per photo."""
    min_registered: float = Field(0.5, gt=0, le=1)
    """Share of the photos that must be registered; with fewer the stage fails and names the others."""
    seed: int = Field(0, ge=0)
    """Seed of feature matching and mapping."""


class TrainOptions(SplatOptions):
    """Training of one capture."""

    section: ClassVar[str] = "captures.train"

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        **SplatOptions.presets,
        "small": {**SplatOptions.presets["small"], "max_image_size": 640},
    }
    refused: ClassVar[dict[str, str]] = {
        **SplatOptions.refused,
        "ncore*": "NCore data is not supported; a capture is photos, a video, a COLMAP dataset or a transforms.json",
        "train_list": "give what is held out instead, as split: a file with their names",
        "eval_list": "give the file as split",
        "vis_concat_gt": "renders always show ground truth and prediction side by side; leave vis_concat_gt out",
        "data_type": "only COLMAP data and photos are supported; leave data_type out",
        "camera_model": "photos are undistorted to pinhole views when they are loaded; leave camera_model out",
    }

    data_factor: int = Field(1, ge=1)
    """Photos are scaled down by this factor; `images_<factor>/` is used where it is there."""
    max_image_size: int | None = Field(None, ge=16)
    """Photos whose longest side is larger are scaled down further, to this (pixels)."""
    split: str = "test_every"
    """What is held out: `test_every`, `all` (train on all and evaluate on the same), or a list file's path."""
    test_every: int = Field(8, ge=1)
    """Every n-th photo, from the first in name order, is held out for evaluation; 1 is `split: all`."""
    match_string: str | None = None
    """Train only on photos with this word in their names (any case, letters and digits around it do not match)."""
    eval_match_string: str | None = None
    """Evaluate only on photos with this word; unset: as match_string; empty: all that are held out."""
    normalize_world_space: bool = True
    """Train in a frame where the cameras are centred and of median distance one."""
    global_scale: float = Field(1.0, gt=0)
    """Factor on the scene scale, which learning rate and densification use."""

    @classmethod
    def _refuses(cls, key: str, value: Any) -> bool:
        return super()._refuses(key, None if value == _ACCEPTED.get(key) else value)

    def notices(self) -> list[str]:
        """Settings without effect, a line each."""
        found = super().notices()
        if self.split != "test_every" and self.test_every != TrainOptions.model_fields["test_every"].default:
            found.append(f"test_every: without effect, since split is {self.split}")
        return found


_ACCEPTED = {"data_type": "colmap", "camera_model": "pinhole"}
"""Values that say what is done anyway."""


class EvaluateOptions(Options):
    """Evaluation of a run on another dataset; what is not set is as in the training."""

    data_factor: int | None = Field(None, ge=1)
    """Photos are scaled down by this factor."""
    max_image_size: int | None = Field(None, ge=16)
    """Photos whose longest side is larger are scaled down further, to this (pixels)."""
    lpips_net: Literal["alex", "vgg"] | None = None
    """Network of LPIPS, which is measured where its weights are on disk."""
    eval_match_string: str | None = None
    """Evaluate only on photos with this word in their names; unset or empty: on all."""
