"""The areas that faults are injected into, a row each; together they are one small project."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
from support.flux4d import TINY
from support.scenes import write_gaussian_scene

import splatdag.areas
from splatdag.samples.room import make_room

EVERY = 5
"""Steps between two checkpoints of each training."""


@dataclass(frozen=True)
class Training:
    """A training that goes on from its state."""

    run: str
    """Its folder."""
    step: str
    """Module and method that are called once in a step."""


@dataclass(frozen=True)
class Area:
    """An area's part of the project."""

    config: dict[str, Any]
    """Its sections of config.yaml; every training saves its state after `EVERY` steps."""
    targets: tuple[str, ...]
    """What is asked for."""
    interrupted: str
    """Rule in whose work Snakemake is interrupted; a training, if there is one, and it is the one killed most often."""
    folder: str
    """Folder that the job of this rule makes which is interrupted."""
    rules: tuple[str, ...]
    """Of these a job each meets every fault; together with those of `every_job` all that write."""
    every_job: tuple[str, ...] = ()
    """Rules whose jobs differ in what they do; all of them meet every fault."""
    write_inputs: Callable[[Path], object] = field(default=lambda folder: None)
    """Write what it is made from, and sheets, into the project."""
    trainings: dict[str, Training] = field(default_factory=dict)
    """Rule → its training."""
    repeats: dict[str, str] = field(default_factory=dict)
    """Rule → pattern of files in `results` that are the same, bit by bit, whenever its job runs with the same seed."""


def _write_captures(folder: Path) -> None:
    """Photos with cameras, a dataset to evaluate on, and a video, whose cameras are to be found."""
    for name in ("apple", "eval"):
        write_gaussian_scene(folder / "data" / name)
    make_room(folder / "data" / "room", 200, 150, photos=12)
    with av.open(str(folder / "data" / "walk.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 200, 150, "yuv420p", 4_000_000
        stream.time_base = Fraction(1, 5)
        for photo in sorted((folder / "data" / "room" / "images").iterdir()):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(cv2.imread(str(photo)), format="bgr24")))
        file.mux(stream.encode())
    (folder / "config" / "captures.tsv").write_text(
        "capture\tdata_dir\teval_dir\tresult_dir\n"
        "apple\t../data/apple\t../data/eval\tresults/apple_tuned\n"
        "walk\t../data/walk.mp4\t\t\n"
    )


SAMPLES = tuple(f"results/samples/{name}/sample.json" for area in splatdag.areas.AREAS for name in area.samples)
_FLUX4D_STEP = "splatdag.driving.training.flux4d_training:Flux4DTraining.optimise"
LEARN = TINY | {"checkpoint_every": EVERY, "iters": 20, "log_every": 5}

AREAS = {
    "house": Area(
        config={
            "samples": {
                "room": {"photos": 8, "width": 64, "height": 48},
                "humans": {"frames": 2, "width": 48, "height": 64},
                "street": {"logs": 2, "frames": 16, "width": 96, "points": 1500, "cameras": ["front_camera"]},
            }
        },
        targets=(*SAMPLES, "results/weights/lpips_alex.json", "compare"),
        interrupted="make_sample",
        folder="results/samples/street",
        rules=("compile_kernels", "fetch_lpips", "compare"),
        every_job=("make_sample",),
        repeats={"make_sample": "samples/*/**/*.*"},
    ),
    "captures": Area(
        config={
            "captures": {
                "sheet": "config/captures.tsv",
                "train": {"preset": "small", "max_steps": 60, "checkpoint_every": EVERY, "test_every": 4},
            }
        },
        targets=("captures",),
        interrupted="train_capture",
        folder="results/captures/apple/single",
        rules=("extract_frames", "train_capture", "evaluate_capture", "link_run"),
        every_job=("pose_capture",),
        write_inputs=_write_captures,
        trainings={
            "train_capture": Training("results/captures/apple/single", "splatdag.scene.training:SplatTraining.optimise")
        },
        repeats={"train_capture": "captures/apple/single/*.*"},
    ),
    "driving": Area(
        config={
            "driving": {
                "data_root": "sample:street",
                "overfit": LEARN,
                "train": LEARN,
                "flow": {"render_frames": "0,2"},
            }
        },
        targets=("driving", "check_pandaset", "lift_alignment", "voxelization"),
        interrupted="train_flux4d",
        folder="results/driving/flux4d",
        rules=(
            *("index_pandaset", "index_split", "check_pandaset", "lift_alignment", "voxelization", "lift_log"),
            *("overfit_flux4d", "draw_flow", "train_flux4d", "evaluate_flux4d", "merge_flux4d"),
        ),
        trainings={
            "overfit_flux4d": Training("results/driving/overfit", _FLUX4D_STEP),
            "train_flux4d": Training("results/driving/flux4d", _FLUX4D_STEP),
        },
        repeats={"overfit_flux4d": "driving/overfit/**/*.*", "train_flux4d": "driving/flux4d/c*.*"},
    ),
    "sharing": Area(
        config={"sharing": {"results_root": "sample:humans", "epoch": "latest"}},
        targets=("recordings", "upload"),
        interrupted="record_capture",
        folder="results/captures/apple/single/rerun",
        rules=("record_capture", "record_drive", "upload_scene"),
        every_job=("record_epoch",),
    ),
}

TARGETS = [target for area in AREAS.values() for target in area.targets]
RULES = [rule for area in AREAS.values() for rule in (*area.rules, *area.every_job)]
TRAININGS = {rule: training for area in AREAS.values() for rule, training in area.trainings.items()}
KILLED_OFTEN = [area.interrupted for area in AREAS.values() if area.trainings]
REPEATS = {rule: pattern for area in AREAS.values() for rule, pattern in area.repeats.items()}


def uncovered() -> list[str]:
    """Rules of the list of areas whose stage meets no fault here."""
    rules = {name: rule.module for name, (_, rule) in splatdag.areas.all_rules().items()}
    covered = {rules.get(rule) for rule in RULES}
    return sorted(name for name, module in rules.items() if module not in covered)


def write_project(folder: Path) -> None:
    """Write config and inputs of all areas into a copy of the workflow."""
    config = {name: section for area in AREAS.values() for name, section in area.config.items()}
    (folder / "config" / "config.yaml").write_text(json.dumps(config))
    for area in AREAS.values():
        area.write_inputs(folder)
