"""Trainings of a tiny scene of known Gaussians, in this process."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from splatdag.scene.evaluation import evaluate, mean_color
from splatdag.scene.options import TrainOptions
from splatdag.scene.simple_trainer_files import RunFiles
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.training import SplatTraining, train
from splatdag.splats.devices import use_device
from splatdag.splats.gaussians import SH_C0, Parameters, from_points
from splatdag.splats.normalisation import normalisation
from splatdag.training.checkpoint import StateFile
from splatdag.training.loop import Result
from support.scenes import gaussian_scene

STEPS = 60
OPTIONS: dict[str, Any] = {
    "preset": "small",
    "max_steps": STEPS,
    "eval_steps": [],
    "checkpoint_every": 25,
    "sh_degree_interval": 20,
    "strategy": {
        "refine_start_iter": 4, "refine_every": 5, "refine_stop_iter": 50, "reset_every": 30, "grow_grad2d": 0.001,
        "cap_max": 400,
    },
}  # fmt: skip


def options(**changes: Any) -> TrainOptions:
    return TrainOptions(**{**OPTIONS, **changes})


class Trained:
    """What a training ended with."""

    def __init__(self, result: Result[SplatTraining]) -> None:
        self.model, self.step = result.training.model, result.training.step
        self.evaluations, self.curve = result.training.evaluations, result.progress.curve
        self.rank_memory_mb = result.rank_memory_mb


class Training:
    """The tiny scene, trained in this process."""

    def __init__(self, folder: Path) -> None:
        self.device = use_device(0, 2)
        self.truth, views = gaussian_scene()
        self.views, self.held_out = [v for i, v in enumerate(views) if i % 4], views[::4]
        self.points = self.truth["means"][::3].double().numpy()
        self.frame = normalisation(np.array([view.center for view in views]), self.points)
        self.state_file = StateFile(folder / "state", {})
        self.folder = folder

    def start(self, chosen: TrainOptions) -> Parameters:
        return from_points(
            self.frame.points(self.points),
            (self.truth["sh0"][::3, 0].numpy() * SH_C0 + 0.5).clip(0, 1),
            sh_degree=chosen.sh_degree,
            init_opacity=chosen.init_opa,
            init_scale=chosen.init_scale,
            generator=torch.Generator().manual_seed(chosen.seed),
        )

    def run(self, chosen: TrainOptions, stop: bool = False, ranks: int = 1) -> Trained:
        """Train; with `stop`, SIGTERM arrives in the evaluation, and the step after it is the last.

        It is sent to the processes of other ranks too, as Slurm does; their last step is one of the next ten.
        """

        before = set(psutil.Process().children())

        def measure(model: SplatModel, step: int) -> dict[str, Any]:
            if stop:
                for process in (psutil.Process(), *(set(psutil.Process().children()) - before)):
                    process.send_signal(signal.SIGTERM)
            return evaluate(model, self.held_out, self.frame, mean_color(self.views)).figures

        files = RunFiles(self.folder, chosen, self.frame, {})
        start = self.start(chosen)
        return Trained(
            train(self.views, self.frame, start, chosen, self.state_file, measure, files, self.device, ranks)
        )


def assert_identical(one: Trained, other: Trained) -> None:
    ours, theirs = one.model.parameters, other.model.parameters
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name
    for name, module in one.model.modules().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, other.model.modules()[name].state_dict()[key]), (name, key)
    assert (one.step, one.curve, one.evaluations) == (other.step, other.curve, other.evaluations)


class InOtherRanks(str):
    """A name that, where another process reads it, runs code there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (str(self), {})


SPOIL = """
from splatdag.scene import training
draw, calls = training._draw, []
def spoilt(model, *given):
    calls.append(0)
    if len(calls) == 9:
        {}
    return draw(model, *given)
training._draw = spoilt
"""


def spoilt(training: Training, line: str) -> Training:
    """The same training, but in every process except the first the line runs before the ninth drawing of `model`."""
    training.views[0] = replace(training.views[0], name=InOtherRanks(SPOIL.format(line)))
    return training
