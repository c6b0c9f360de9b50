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
from trainings import STEPS, Training, options

from splatdag.captures.options import TrainOptions
from splatdag.splats.appearance import harmonics
from splatdag.splats.batches import known_depths
from splatdag.splats.cameras import PoseChange
from splatdag.splats.cpu import Harmonics
from splatdag.splats.evaluation import evaluate, mean_color
from splatdag.splats.gaussians import Parameters, random_points
from splatdag.splats.losses import disparity_loss
from splatdag.splats.optimizers import optimizers_of
from splatdag.splats.records import load_ckpt
from splatdag.splats.training_state import Trained
from splatdag.workflow.errors import UserError

OLD_LIST = {
    "save_ply": True, "pose_opt": True, "antialiased": True, "eval_steps": [3000, 7000, 30000],
    "ply_steps": [3000, 7000, 30000], "scale_reg": 0.0005, "scales_lr": 0.003, "means_lr": 0.00012, "data_factor": 1,
}  # fmt: skip
OLD_STRATEGY = {
    "reset_every": 100_000, "pause_refine_after_reset": 0, "prune_scale3d": 0.22, "prune_scale2d": 0.12,
    "prune_opa": 0.006, "grow_grad2d": 0.00035, "grow_scale3d": 0.012, "refine_stop_iter": 26_000,
    "refine_scale2d_stop_iter": 26_000,
}  # fmt: skip


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


def test_the_preset_tuned_is_the_old_list() -> None:
    tuned = TrainOptions(preset="tuned")
    assert tuned == TrainOptions(**OLD_LIST, strategy=OLD_STRATEGY, preset="tuned")
    assert tuned.model_dump(exclude={"preset"}) == TrainOptions(**OLD_LIST, strategy=OLD_STRATEGY).model_dump(
        exclude={"preset"}
    )


def test_the_old_list_is_reported_where_it_has_no_effect() -> None:
    (notice,) = TrainOptions(preset="tuned").notices()
    assert notice == (
        "strategy.prune_scale3d and strategy.prune_scale2d: without effect, since size is looked at after step 100,000"
        " (strategy.reset_every) and densification ends at step 26,000"
    )


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


def test_a_change_of_pose_is_a_motion_in_the_camera_s_own_axes() -> None:
    change = PoseChange(3)
    with torch.no_grad():
        change.embeds.weight[1] = torch.tensor([0.1, -0.2, 0.3, 0.05, 0.1, 0.0, -0.02, 0.0, 0.07])
    pose = torch.linalg.inv(torch.tensor(Training(Path("unused")).views[0].world_to_camera, dtype=torch.float32))
    changed = torch.linalg.inv(change(torch.linalg.inv(pose)[None], torch.tensor([1]))[0])
    motion = torch.linalg.inv(pose) @ changed
    torch.testing.assert_close(motion[:3, 3], torch.tensor([0.1, -0.2, 0.3]), atol=1e-5, rtol=0)
    torch.testing.assert_close(motion[:3, :3] @ motion[:3, :3].T, torch.eye(3), atol=1e-5, rtol=0)
    first = torch.nn.functional.normalize(torch.tensor([1.05, 0.1, 0.0]), dim=0)
    torch.testing.assert_close(motion[0, :3], first, atol=1e-5, rtol=0)
    torch.testing.assert_close(change(pose[None], torch.tensor([0]))[0], pose)


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


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_bases_of_the_appearance_network_are_those_of_the_rasteriser(degree: int) -> None:
    generator = torch.Generator().manual_seed(degree)
    points = torch.randn((50, 3), generator=generator)
    count = (degree + 1) ** 2
    coefficients = torch.randn((50, count, 3), generator=generator)
    radii = torch.ones((1, 50, 2), dtype=torch.int32)
    theirs = Harmonics.apply(degree, points, coefficients, torch.zeros((1, 3)), radii)[0]
    bases = harmonics(torch.nn.functional.normalize(points, dim=-1), degree)
    ours = ((bases[..., None] * coefficients).sum(dim=1) + 0.5).clamp_min(0)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


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


def test_the_depth_loss_is_that_of_disparities_at_known_points() -> None:
    depths = torch.arange(1.0, 13.0).reshape(1, 3, 4, 1)
    pixels = torch.tensor([[0.5, 0.5], [3.5, 2.5], [2.0, 1.5]])  # the last between 6 … 7 of the middle row
    truth = torch.tensor([2.0, 12.0, 5.0])
    expected = (abs(1 / 1 - 1 / 2) + 0 + abs(1 / 6.5 - 1 / 5)) / 3
    assert float(disparity_loss(depths, [(pixels, truth)])) == pytest.approx(expected, rel=1e-6)
    assert float(disparity_loss(depths, [(pixels[:0], truth[:0])])) == 0


def test_the_depth_loss_pulls_surfaces_to_the_known_points(tmp_path: Path) -> None:
    """Points far behind what is there: a strong depth loss moves the rendered disparity towards theirs."""
    error = {}
    for name, weight in (("without", 0.0), ("with", 100.0)):
        training = Training(tmp_path / name)
        training.views = [
            replace(view, points_M3=view.center + 2.0 * (training.points - view.center)) for view in training.views
        ]
        model = training.run(options(max_steps=200, depth_loss=True, depth_lambda=weight)).model
        view = training.views[0]
        pixels, depths = known_depths(view, training.frame, torch.device("cpu"))
        assert len(depths) > 50
        camera = torch.tensor(training.frame.world_to_camera(view), dtype=torch.float32)[None]
        K = torch.tensor(view.K, dtype=torch.float32)[None]
        shown = model.draw(camera, K, 48, 32, render_mode="RGB+ED")[0][..., 3:]
        error[name] = disparity_loss(shown, [(pixels, depths)]).item()
    assert error["with"] < 0.7 * error["without"]


def test_known_points_project_to_where_the_camera_sees_them() -> None:
    training = Training(Path("unused"))
    view = replace(training.views[0], points_M3=training.points)
    pixels, depths = known_depths(view, training.frame, torch.device("cpu"))
    seen = training.points @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
    expected = (seen / seen[:, 2:]) @ view.K.T
    inside = ((expected[:, :2] >= 0) & (expected[:, :2] < (48, 32))).all(axis=1)
    np.testing.assert_allclose(pixels, expected[inside, :2], atol=1e-4)
    np.testing.assert_allclose(depths, seen[inside, 2] / training.frame.scale, rtol=1e-5)
    mask = torch.zeros((32, 48), dtype=torch.bool)
    mask[:, :20] = True
    counting, _ = known_depths(replace(view, mask_HW=mask), training.frame, torch.device("cpu"))
    np.testing.assert_array_equal(counting, pixels[pixels[:, 0] < 20])
    assert 0 < len(counting) < len(pixels)


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


def test_steps_scaler_scales_all_numbers_of_steps() -> None:
    scaled = TrainOptions(steps_scaler=0.1, save_ply=True).scaled()
    assert (scaled.max_steps, scaled.eval_steps, scaled.save_steps, scaled.ply_steps, scaled.sh_degree_interval) == (
        3000, [700, 3000], [700, 3000], [700, 3000], 100,
    )  # fmt: skip
    strategy = scaled.strategy
    assert (strategy.refine_start_iter, strategy.refine_stop_iter, strategy.refine_every, strategy.reset_every) == (
        50, 1500, 10, 300,
    )  # fmt: skip


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
    loaded = load_ckpt(result.folder / "ckpts" / f"ckpt_{STEPS - 1}_rank0.pt", TrainOptions, torch.device("cpu"))
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
            load_ckpt(path, TrainOptions, torch.device("cpu"))
    torch.save({"step": 3, "splats": {}}, path)
    with pytest.raises(UserError, match="not a checkpoint of splatdag"):
        load_ckpt(path, TrainOptions, torch.device("cpu"))


NOTICES = [
    ({"disable_viewer": True, "port": 1}, "disable_viewer and port: without effect"),
    ({"tb_every": 5}, "tb_every: without effect"),
    ({"strategy": {"grow_scale2d": 0.1}}, "refine_scale2d_stop_iter is 0"),
    ({"strategy": {"prune_scale2d": 0.1}}, "refine_scale2d_stop_iter is not beyond reset_every"),
    ({"strategy": {"noise_lr": 1.0}}, "strategy.noise_lr: without effect, since strategy.kind is default"),
    (
        {"preset": "mcmc", "strategy": {"absgrad": True}},
        "strategy.absgrad: without effect, since strategy.kind is mcmc",
    ),
    ({"strategy": {"prune_opa": 0.1, "refine_stop_iter": 400}}, "densification would begin after step 500"),
    ({"strategy": {"pause_refine_after_reset": 4_000}}, "nothing is ever densified"),
    ({"pose_opt_lr": 1.0}, "pose_opt_lr: without effect without pose_opt"),
    ({"app_embed_dim": 3}, "app_embed_dim: without effect without app_opt"),
    ({"depth_lambda": 1.0}, "depth_lambda: without effect without depth_loss"),
    ({"ply_steps": [5]}, "ply_steps: without effect without save_ply"),
    ({"init_num_pts": 5}, "init_num_pts: without effect, since init_type is sfm"),
    ({"random_bkgd": True, "white_bg": True}, "random_bkgd: without effect"),
    ({"eval_steps": [10, 50_000]}, "eval_steps: 50000 will not be reached"),
    ({"average_steps": 10, "max_steps": 100}, "average_steps: without effect, since densification ends at step 15,000"),
    ({"split": "all", "test_every": 4}, "test_every: without effect, since split is all"),
]


@pytest.mark.parametrize(("given", "notice"), NOTICES)
def test_a_setting_without_effect_is_reported(given: dict[str, Any], notice: str) -> None:
    assert any(notice in line for line in TrainOptions(**given).notices()), TrainOptions(**given).notices()


@pytest.mark.parametrize("preset", ["default", "mcmc", "fast", "fast_fine", "fast_mcmc", "small"])
def test_presets_have_nothing_to_report(preset: str) -> None:
    assert TrainOptions(preset=preset).notices() == []


def test_mcmc_learns_and_keeps_to_its_cap(run: Any) -> None:
    strategy = {"kind": "mcmc", "cap_max": 150, "refine_start_iter": 4, "refine_every": 5, "noise_lr": 1e4}
    result = run(max_steps=150, strategy=strategy, opacity_reg=0.001, scale_reg=0.001)
    assert len(result.model.parameters["means"]) == 150
    figures = result.evaluations[-1]
    assert figures["mean"]["psnr"] > figures["baseline"]["psnr"] + 4
    assert math.isfinite(figures["mean"]["ssim"])
