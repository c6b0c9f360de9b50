"""The mean of the last steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.trainings import Training, options

from splatdag.scene.averaging import Average
from splatdag.scene.options import SplatOptions
from splatdag.splats.gaussians import Parameters

STEPS = 20


def walk(step: int) -> Parameters:
    return {"means": torch.full((3, 3), float(step**2)), "opacities": torch.arange(3.0) * step}


@pytest.mark.parametrize(("asked", "refined_until", "counted"), [(5, 0, 5), (5, 18, 2), (50, 0, 20), (1, 0, 1)])
def test_the_result_is_the_mean_of_the_last_steps_after_densification(
    asked: int, refined_until: int, counted: int
) -> None:
    average = Average(average_options(asked, refined_until))
    for step in range(STEPS):
        if step == STEPS - 1:  # a kill before the last step
            state, average = average.state(), Average(average_options(asked, refined_until))
            average.load(state)
        parameters = walk(step)
        average.after_step(step, parameters)
        if step < STEPS - 1:
            assert torch.equal(parameters["means"], walk(step)["means"])
    last = range(STEPS - counted, STEPS)
    for name, tensor in parameters.items():
        torch.testing.assert_close(tensor, torch.stack([walk(step)[name] for step in last]).mean(dim=0))


def average_options(asked: int, refined_until: int) -> SplatOptions:
    return options(max_steps=STEPS, average_steps=asked, strategy={"refine_stop_iter": refined_until})


@pytest.mark.parametrize("asked", [0, 10])
def test_nothing_is_averaged_unless_asked_and_never_before_densification_ends(asked: int) -> None:
    average = Average(average_options(asked, refined_until=30))
    for step in range(STEPS):
        parameters = walk(step)
        average.after_step(step, parameters)
        assert torch.equal(parameters["means"], walk(step)["means"])
    assert not average.means


def test_a_training_s_result_is_the_mean_of_what_it_had_after_each_of_the_last_steps(tmp_path: Path) -> None:
    """The steps before are seen through trainings that end earlier, at constant rates, so that nothing else differs."""
    rates = {"final_lr_factor": 1.0, "strategy": {"refine_stop_iter": 30, "reset_every": 100_000}}
    ends = [Training(tmp_path / str(n)).run(options(max_steps=n, **rates)).model.parameters for n in (38, 39, 40)]
    averaged = Training(tmp_path / "mean").run(options(max_steps=40, average_steps=3, **rates)).model.parameters
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor, torch.stack([end[name] for end in ends]).mean(dim=0))
    assert not torch.equal(averaged["means"], ends[-1]["means"])
