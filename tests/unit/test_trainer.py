"""Training: it learns, it repeats, and a stopped, killed or spoilt run ends as one that never was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.scenes import gaussian_scene, random_gaussians
from support.trainings import Training, assert_identical, options

from splatdag.scene.evaluation import evaluate, mean_color
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.views import View
from splatdag.splats.gaussians import Parameters
from splatdag.splats.normalisation import normalisation
from splatdag.workflow.errors import Stopped


def test_training_beats_an_image_of_the_mean_colour_by_far(tmp_path: Path) -> None:
    result = Training(tmp_path).run(options(max_steps=150))
    losses = [row[1] for row in result.curve]
    assert np.mean(losses[-4:]) < 0.5 * losses[0]
    figures = result.evaluations[-1]
    assert figures["mean"]["psnr"] > figures["baseline"]["psnr"] + 5
    assert figures["mean"]["ssim"] > figures["baseline"]["ssim"] + 0.2


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path: Path) -> None:
    one, again = (Training(tmp_path / name).run(options()) for name in ("one", "again"))
    assert_identical(one, again)
    other = Training(tmp_path / "other").run(options(seed=43))
    assert not torch.equal(one.model.parameters["quats"][:10], other.model.parameters["quats"][:10])


VARIANTS = [
    pytest.param({}, id="usual"),
    pytest.param({"random_bkgd": True, "antialiased": True, "sh_degree": 0}, id="random background, no harmonics"),
    pytest.param({"pose_opt": True, "pose_noise": 0.01, "app_opt": True}, id="cameras and appearance"),
    pytest.param({"batch_size": 4, "patch_size": 20, "visible_adam": True}, id="batches of crops, visible Adam"),
    pytest.param({"packed": True, "sparse_grad": True}, id="sparse gradients"),
    pytest.param({"average_steps": 15, "final_lr_factor": 1.0}, id="average of the last steps"),
    pytest.param({"validation_views": 2, "validate_every": 3, "patience": 100}, id="validation views"),
    pytest.param(
        {"strategy": {"kind": "mcmc", "cap_max": 300, "refine_start_iter": 4, "refine_every": 5, "noise_lr": 1e4}},
        id="mcmc",
    ),
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_run_stopped_again_and_again_ends_with_the_bits_of_one_that_was_not(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Stops between two refinements, right after one, after the reset at 30, and once no more refining is done."""
    chosen = options(eval_steps=[7, 20, 33, 52], **changes)
    whole = Training(tmp_path / "whole").run(chosen)
    assert len(whole.model.parameters["means"]) > 105
    for step in chosen.eval_steps:
        stopped = Training(tmp_path / "stopped")
        with pytest.raises(Stopped, match=f"state saved after step {step + 1};"):
            stopped.run(chosen, stop=True)
    assert_identical(Training(tmp_path / "stopped").run(chosen), whole)


def test_a_state_is_saved_every_so_many_steps_and_after_the_last_what_was_learnt(tmp_path: Path) -> None:
    training = Training(tmp_path)
    saved: list[tuple[int, bool]] = []
    training.state_file.save = lambda state: saved.append((state["step"], "moments" in state["training"]))  # type: ignore[method-assign]
    training.run(options(checkpoint_every=20))
    assert saved == [(20, True), (40, True), (60, False)]


def test_the_first_step_moves_positions_by_their_rate_times_the_scene_scale(tmp_path: Path) -> None:
    """Adam's first step is as long as its rate; with the other rates at zero nothing else moves."""
    still = {f"{name}_lr": 0.0 for name in ("scales", "opacities", "quats", "sh0", "shN")}
    quiet = {"refine_stop_iter": 0}
    training = Training(tmp_path)
    chosen = options(max_steps=1, means_lr=1e-3, strategy=quiet, **still)
    before = training.start(chosen)
    after = training.run(chosen).model.parameters
    moved = (after["means"] - before["means"]).abs().max().item()
    assert moved == pytest.approx(1e-3 * training.frame.extent, rel=1e-2)
    for name in ("scales", "opacities", "quats", "sh0", "shN"):
        assert torch.equal(after[name], before[name])


def test_the_known_gaussians_score_far_better_than_any_training_here() -> None:
    """The scene's photos are what its Gaussians look like, so the figures above have a ceiling."""
    truth, views = gaussian_scene()
    frame = normalisation(np.array([view.center for view in views]), truth["means"].double().numpy())
    normalised: Parameters = {
        **random_gaussians(300),
        "means": torch.tensor(frame.points(truth["means"].double().numpy()), dtype=torch.float32),
        "scales": truth["scales"] - float(np.log(frame.scale)),
    }
    figures = evaluate(SplatModel(normalised, options()), views, frame, mean_color(views)).figures
    assert figures["mean"]["psnr"] > 50


def moved(view: View, pose: np.ndarray) -> View:
    return replace(view, world_to_camera=pose)


DEGENERATE = {
    "one camera": lambda views: views[:1],
    "two cameras": lambda views: views[:2],
    "coincident cameras": lambda views: [views[0]] * 4,
    "a camera at the origin": lambda views: [moved(view, shifted(view, views[0].center)) for view in views],
}


def shifted(view: View, by: np.ndarray) -> np.ndarray:
    """The pose of a view in a world whose origin is at `by`."""
    pose = view.world_to_camera.copy()
    pose[:3, 3] += pose[:3, :3] @ by
    return pose


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_cameras_train(tmp_path: Path, name: str) -> None:
    training = Training(tmp_path)
    if name == "a camera at the origin":
        training.points = training.points - training.views[0].center
    training.views = training.held_out = DEGENERATE[name](training.views)
    centers = np.array([view.center for view in training.views])
    training.frame = normalisation(centers, training.points)
    assert 0.5 < training.frame.extent < 5
    result = training.run(options(max_steps=120))
    figures = result.evaluations[-1]
    assert figures["mean"]["psnr"] > figures["baseline"]["psnr"] + 5
    assert all(torch.isfinite(value).all() for value in result.model.parameters.values())
