"""Every hyper-parameter of the old scripts' list has its effect here, and so has what else simple_trainer offers."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support.trainings import STEPS, Trained, Training, options

from splatdag.scene.evaluation import evaluate, mean_color
from splatdag.scene.optimizers import optimizers_of
from splatdag.scene.saved_splats import load_ckpt
from splatdag.splats.gaussians import Parameters, random_points
from splatdag.workflow.errors import UserError


@pytest.fixture
def run(tmp_path: Path):
    """Trains the tiny scene; `views` may change what is trained on."""

    def trained(views: Any = None, **changes: Any) -> Trained:
        training = Training(tmp_path / str(len(list(tmp_path.iterdir()))))
        if views is not None:
            training.views = [views(view) for view in training.views]
        result = training.run(options(**changes))
        result.folder = training.folder  # type: ignore[attr-defined]
        return result

    return trained


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Parameters:
    return Training(tmp_path_factory.mktemp("plain")).run(options()).model.parameters


def differ(one: Parameters, other: Parameters) -> bool:
    return len(one["means"]) != len(other["means"]) or not torch.equal(one["means"], other["means"])


# Options of the old list that change the Gaussians; each is set so that 60 steps of 8 tiny photos show it.
BASE = {"refine_start_iter": 4, "refine_every": 5, "refine_stop_iter": 50, "grow_grad2d": 0.001, "cap_max": 400}
CHANGES = [
    pytest.param({"pose_opt": True, "pose_opt_lr": 1e-3}, id="pose_opt"),
    pytest.param({"antialiased": True}, id="antialiased"),
    pytest.param({"scale_reg": 0.05}, id="scale_reg"),
    pytest.param({"scales_lr": 0.003}, id="scales_lr"),
    pytest.param({"means_lr": 0.00012}, id="means_lr"),
    pytest.param({"strategy": {**BASE, "reset_every": 100_000}}, id="reset_every"),
    pytest.param({"strategy": {**BASE, "reset_every": 30, "pause_refine_after_reset": 20}}, id="pause_refine"),
    pytest.param({"strategy": {**BASE, "reset_every": 30, "prune_scale3d": 0.05}}, id="prune_scale3d"),
    pytest.param(
        {"strategy": {**BASE, "reset_every": 30, "prune_scale2d": 0.15, "refine_scale2d_stop_iter": 60}},
        id="prune_scale2d and refine_scale2d_stop_iter",
    ),
    pytest.param({"strategy": {**BASE, "reset_every": 30, "prune_opa": 0.05}}, id="prune_opa"),
    pytest.param({"strategy": {**BASE, "reset_every": 30, "grow_grad2d": 0.005}}, id="grow_grad2d"),
    pytest.param({"strategy": {**BASE, "reset_every": 30, "grow_scale3d": 0.3}}, id="grow_scale3d"),
    pytest.param({"strategy": {**BASE, "reset_every": 30, "refine_stop_iter": 20}}, id="refine_stop_iter"),
    # and beyond the list
    pytest.param({"opacity_reg": 0.05}, id="opacity_reg"),
    pytest.param({"ssim_lambda": 0.9}, id="ssim_lambda"),
    pytest.param({"batch_size": 3}, id="batch_size"),
    pytest.param({"patch_size": 16}, id="patch_size"),
    pytest.param({"random_bkgd": True}, id="random_bkgd"),
    pytest.param({"white_bg": True}, id="white_bg"),
    pytest.param({"visible_adam": True}, id="visible_adam"),
    pytest.param({"packed": True, "sparse_grad": True}, id="sparse_grad"),
    pytest.param({"pose_noise": 0.05}, id="pose_noise"),
    pytest.param({"strategy": {**BASE, "reset_every": 30, "absgrad": False}}, id="absgrad"),
    pytest.param({"strategy": {**BASE, "reset_every": 30, "revised_opacity": False}}, id="revised_opacity"),
    pytest.param({"near_plane": 1.0}, id="near_plane"),
    pytest.param({"far_plane": 1.0}, id="far_plane"),
    pytest.param({"sh_degree_interval": 1}, id="sh_degree_interval"),
    pytest.param({"final_lr_factor": 0.5}, id="final_lr_factor"),
    pytest.param({"average_steps": 5}, id="average_steps"),
]


@pytest.mark.parametrize("changes", CHANGES)
def test_an_option_changes_what_is_learnt(run: Any, plain: Parameters, changes: dict[str, Any]) -> None:
    assert differ(run(**changes).model.parameters, plain)


def test_no_refinement_happens_while_it_is_paused_after_a_reset(run: Any) -> None:
    """With a pause as long as the interval of the resets nothing is ever added; prune_opa 0 removes nothing."""
    strategy = {**BASE, "reset_every": 30, "pause_refine_after_reset": 30, "prune_opa": 0.0}
    assert len(run(strategy=strategy).model.parameters["means"]) == 100


def test_pose_opt_finds_disturbed_cameras_again_in_part(run: Any) -> None:
    """Disturbed cameras cost quality on what is trained on; pose_opt wins a good part of it back."""
    last = {}
    for name, changes in {
        "exact": {},
        "disturbed": {"pose_noise": 0.02},
        "found": {"pose_noise": 0.02, "pose_opt": True, "pose_opt_lr": 2e-3},
    }.items():
        curve = run(max_steps=400, sh_degree=0, **changes).curve
        last[name] = np.mean([row[2] for row in curve[-10:]])
    assert last["disturbed"] < last["exact"] - 2
    assert last["found"] > last["disturbed"] + 0.5 * (last["exact"] - last["disturbed"])


def test_photos_in_changing_light_are_learnt_better_with_app_opt(run: Any) -> None:
    def lit(view: Any) -> Any:
        gain = 0.4 + 0.6 * (int(view.name[0]) % 3) / 2
        return replace(view, image_HW3=(view.image_HW3.float() * gain).to(torch.uint8))

    quality = {}
    for on in (False, True):
        changes = {"app_opt": True, "app_opt_lr": 1e-2} if on else {}
        curve = run(lit, max_steps=300, sh_degree=0, **changes).curve
        quality[on] = np.mean([row[2] for row in curve[-10:]])
    assert quality[True] > quality[False] + 3


def test_what_app_opt_publishes_looks_as_the_model_does_in_no_photo_s_light(run: Any) -> None:
    model = run(app_opt=True, max_steps=40, sh_degree=0).model
    published = model.published()
    assert published["shN"].shape[1] == 0
    center = torch.zeros((1, len(published["means"]), 3))
    seen = model._colors(center, 0, None)[0]
    torch.testing.assert_close(published["sh0"][:, 0] * 0.28209479177387814 + 0.5, seen.detach())


def test_masked_pixels_do_not_count(run: Any, plain: Parameters) -> None:
    """Spoilt pixels under a mask change nothing; without the mask they do."""

    def spoilt(view: Any, masked: bool, value: int) -> Any:
        mask = torch.ones(view.image_HW3.shape[:2], dtype=torch.bool)
        mask[8:20, 10:30] = False
        image = torch.where(mask[..., None], view.image_HW3, torch.tensor(value, dtype=torch.uint8))
        return replace(view, image_HW3=image, mask_HW=mask if masked else None)

    hidden = [run(lambda view, value=value: spoilt(view, True, value)).model.parameters for value in (0, 255)]
    assert torch.equal(hidden[0]["means"], hidden[1]["means"])
    assert differ(run(lambda view: spoilt(view, False, 255)).model.parameters, plain)


def test_metrics_are_those_of_what_the_mask_leaves(tmp_path: Path) -> None:
    training = Training(tmp_path)
    model = training.run(options()).model
    view = training.held_out[0]
    mask = torch.zeros(view.image_HW3.shape[:2], dtype=torch.bool)
    mask[:, :24] = True
    spoilt = view.image_HW3.clone()
    spoilt[:, 24:] = 255
    figures = [
        evaluate(model, [replace(view, mask_HW=mask, image_HW3=image)], training.frame, torch.zeros(3)).figures["mean"]
        for image in (view.image_HW3, spoilt)
    ]
    whole = evaluate(model, [view], training.frame, torch.zeros(3)).figures["mean"]
    assert figures[0] == figures[1]
    assert figures[0]["psnr"] != whole["psnr"]


def test_transparent_parts_show_the_background_and_are_learnt_as_empty(run: Any) -> None:
    def cut_out(view: Any) -> Any:
        alpha = torch.full(view.image_HW3.shape[:2], 255, dtype=torch.uint8)
        alpha[:, :24] = 0
        return replace(view, alpha_HW=alpha)

    view = cut_out(Training(Path("unused")).views[0])
    assert (view.target()[:, :24] == 0).all()
    assert (view.target(white=True)[:, :24] == 1).all()
    assert mean_color([view], white=True).min() > 0.5
    result = run(cut_out, random_bkgd=True, max_steps=150)
    assert differ(result.model.parameters, run(max_steps=150, random_bkgd=True).model.parameters)


def test_batches_are_clamped_to_the_number_of_views(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        large = run(batch_size=100, max_steps=20).model.parameters
    assert caplog.messages == ["batch_size lowered to 6, the number of views"]
    assert torch.equal(large["means"], run(batch_size=6, max_steps=20).model.parameters["means"])


def test_views_of_several_sizes_train_in_one_batch(run: Any) -> None:
    def cropped(view: Any) -> Any:
        return replace(view, image_HW3=view.image_HW3[:24].contiguous()) if int(view.name[0]) % 2 else view

    losses = [row[1] for row in run(cropped, batch_size=6, max_steps=100).curve]
    assert losses[-1] < 0.6 * losses[0]


def test_learning_rates_grow_with_the_root_of_the_batch(plain: Parameters) -> None:
    chosen = options(batch_size=4, means_lr=1e-3, sh0_lr=2e-3)
    made = optimizers_of({"means": plain["means"], "sh0": plain["sh0"]}, chosen, 2.0, 4)
    group = made["means"].param_groups[0]
    assert group["lr"] == pytest.approx(1e-3 * 2.0 * 2)
    assert made["sh0"].param_groups[0]["lr"] == pytest.approx(4e-3)
    assert group["betas"] == pytest.approx((0.6, 0.996))
    assert group["eps"] == pytest.approx(5e-16)


def test_what_did_best_on_the_validation_views_is_the_result(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A rate that spoils everything after the first looks: the training ends early and keeps what was good."""
    changes = {"max_steps": 300, "validation_views": 2, "validate_every": 5, "patience": 3, "opacities_lr": 2.0}
    with caplog.at_level(logging.INFO):
        result = run(**changes)
    assert 0 < result.step < 300
    assert result.curve[-1][0] <= result.step + 3 * 5
    assert any(f"after step {result.step}" in message for message in caplog.messages)
    assert result.evaluations[-1]["step"] == result.step
    with pytest.raises(UserError, match="validation_views: 6 of 6"):
        run(validation_views=6)


def test_random_points_fill_their_cube() -> None:
    points, colors = random_points(4_000, np.array([0.0, 7.0, 0.0]), 2.5, torch.Generator().manual_seed(0))
    points -= [0.0, 7.0, 0.0]
    assert np.abs(points).max() == pytest.approx(2.5, abs=0.01)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.1)
    assert 0 <= colors.min() < colors.max() <= 1


def test_files_appear_at_the_steps_asked_for_with_zero_based_names(run: Any) -> None:
    result = run(save_ply=True, eval_steps=[20, 50], save_steps=[30], ply_steps=[10], pose_opt=True)
    folder = result.folder
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    last = STEPS - 1
    assert names == sorted([
        "cfg.yml", "ckpts/ckpt_29_rank0.pt", f"ckpts/ckpt_{last}_rank0.pt", "ply/point_cloud_9.ply",
        f"ply/point_cloud_{last}.ply", "stats/train_step0029_rank0.json", f"stats/train_step{last:04d}_rank0.json",
        *(name for name in names if name.startswith("state/")),
    ])  # fmt: skip
    assert [row["step"] for row in result.evaluations] == [20, 50, STEPS]
    assert yaml.safe_load((folder / "cfg.yml").read_text())["strategy"]["prune_opa"] == 0.01
    saved = torch.load(folder / "ckpts" / f"ckpt_{last}_rank0.pt", weights_only=True)
    assert set(saved["splats"]) == {"means", "scales", "quats", "opacities", "sh0", "shN"}
    assert saved["pose_adjust"]["embeds.weight"].shape == (6, 9)
    assert saved["pose_adjust"]["embeds.weight"].abs().max() > 0


@pytest.mark.parametrize("changes", [{}, {"app_opt": True, "pose_opt": True, "sh_degree": 1}])
def test_a_checkpoint_read_back_renders_the_same(run: Any, changes: dict[str, Any]) -> None:
    result = run(**changes)
    loaded = load_ckpt(result.folder / "ckpts" / f"ckpt_{STEPS - 1}_rank0.pt", torch.device("cpu"))
    training = Training(Path("unused"))
    assert (loaded.step, loaded.options) == (STEPS, options(**changes))
    np.testing.assert_array_equal(loaded.frame.center, training.frame.center)
    one, other = (
        evaluate(model, training.held_out, loaded.frame, torch.zeros(3)).figures
        for model in (result.model, loaded.model)
    )
    assert one == other


def test_a_foreign_checkpoint_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ckpt_1_rank0.pt"
    for content in (b"", b"not a file of torch"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a checkpoint of splatdag"):
            load_ckpt(path, torch.device("cpu"))
    torch.save({"step": 3, "splats": {}}, path)
    with pytest.raises(UserError, match="not a checkpoint of splatdag"):
        load_ckpt(path, torch.device("cpu"))


def test_mcmc_learns_and_keeps_to_its_cap(run: Any) -> None:
    strategy = {"kind": "mcmc", "cap_max": 150, "refine_start_iter": 4, "refine_every": 5, "noise_lr": 1e4}
    result = run(max_steps=150, strategy=strategy, opacity_reg=0.001, scale_reg=0.001)
    assert len(result.model.parameters["means"]) == 150
    figures = result.evaluations[-1]
    assert figures["mean"]["psnr"] > figures["baseline"]["psnr"] + 4
    assert math.isfinite(figures["mean"]["ssim"])
