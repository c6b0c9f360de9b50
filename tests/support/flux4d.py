"""A small sample log with its index, and a network and schedule that learn from it in seconds."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from splatdag.driving.clips.clip_reader import Reader, loader
from splatdag.driving.clips.clip_scene import ClipScene
from splatdag.driving.clips.clips import Clip, read_index
from splatdag.driving.clips.index import main as make_index
from splatdag.driving.evaluation import evaluate, merge
from splatdag.driving.options import IndexOptions
from splatdag.driving.training import flux4d_training, overfit, train
from splatdag.driving.training.flux4d_training import Flux4DTraining, TrainingData
from splatdag.driving.training_options import EvaluateOptions, LearnOptions, OverfitOptions, TrainOptions
from splatdag.samples.options import StreetOptions
from splatdag.samples.street import make_street
from splatdag.training.checkpoint import StateFile
from splatdag.training.loop import Result
from splatdag.workflow.stage import Job

INDEX = "full.pkl"
TINY: dict[str, Any] = {
    "preset": "default",
    "num_image_points": 600,
    "num_sky_points": 200,
    "point_cloud_range": (-40, -40, -4, 40, 40, 16),
    "voxel_size": 2.0,
    "channels": (8, 8),
    "blocks": 1,
    "features": 8,
    "iterations": 2,
    "targets_per_step": 2,
    "feedback_views": 1,
    "iters": 6,
    "lr": 1e-2,
    "save_every": 0,
    "log_every": 1,
}


def tiny(**changes: Any) -> OverfitOptions:
    """Options of a training that takes a second."""
    return OverfitOptions(**TINY | changes)


@cache
def street() -> Path:
    """A folder of two sample logs, 001 (test) and 002, of 16 small frames, with full.pkl beside them."""
    root = Path(mkdtemp(prefix="splatdag-street-"))
    options = StreetOptions(logs=2, frames=16, width=96, points=1500, cameras=("front_camera",))
    make_street(root, options)
    make_index(root, root / INDEX, root / "tiny.pkl", root / "report.json", IndexOptions(), Job())
    return root


def clip(setting: str = "eval_future") -> Clip:
    """A clip of the small logs."""
    return next(clip for clip in read_index(street() / INDEX) if clip.setting == setting)


def scene(setting: str = "eval_future", **changes: Any) -> ClipScene:
    """A clip, read."""
    return Reader(street(), tiny(**changes))(clip(setting))


class Trained:
    """What a training ended with."""

    def __init__(self, result: Result[Flux4DTraining]) -> None:
        self.model, self.step, self.left_out = (
            result.training.model, result.training.step, result.training.left_out,
        )  # fmt: skip
        self.curve, self.seconds, self.before = (
            result.progress.curve, result.progress.seconds, result.progress.begun_at,
        )  # fmt: skip
        self.rank_memory_mb = result.rank_memory_mb


def learn_clips(
    folder: Path,
    options: LearnOptions,
    ranks: int = 1,
    frames: tuple[int, ...] | None = None,
    device: torch.device | None = None,
) -> Trained:
    """Train on the clips of log 002 and one of 001; without a device on the CPU."""
    clips = [clip for clip in read_index(street() / INDEX) if clip.split == "train"] + [clip()]
    make_loader = partial(loader, Reader(street(), options), clips, 2, True, 1)
    state_file = StateFile(folder / "state", {"options": repr(options)})
    folder.mkdir(parents=True, exist_ok=True)
    source = None if options.resume_from is None else Path(options.resume_from)
    data = TrainingData(make_loader, frames, options, source)
    return Trained(flux4d_training.train(data, folder, state_file, device or torch.device("cpu"), ranks))


@cache
def overfitted() -> Path:
    """A run on the first clip."""
    root = Path(mkdtemp(prefix="splatdag-overfit-")) / "driving" / "overfit"
    overfit.main(street() / INDEX, street(), root, tiny(), Job(), cache_dir=root.parent / "lift")
    return root


@cache
def trained() -> Path:
    """A run on log 002, measured on log 001."""
    root = Path(mkdtemp(prefix="splatdag-flux4d-")) / "driving" / "flux4d"
    index = street() / INDEX
    train.main(index, street(), root, TrainOptions(**TINY), Job(), cache_dir=root.parent / "lift")
    ckpt = root / "ckpt_last.pt"
    evaluate.main(index, street(), ckpt, "001", root / "001", EvaluateOptions(), Job())
    merge.main(root, ckpt, index, ("001",), Job())
    return root
