"""The options of a training: presets, notices, and steps that are scaled."""

from __future__ import annotations

from typing import Any

import pytest

from splatdag.scene.options import TrainOptions

OLD_LIST = {
    "save_ply": True, "pose_opt": True, "antialiased": True, "eval_steps": [3000, 7000, 30000],
    "ply_steps": [3000, 7000, 30000], "scale_reg": 0.0005, "scales_lr": 0.003, "means_lr": 0.00012, "data_factor": 1,
}  # fmt: skip
OLD_STRATEGY = {
    "reset_every": 100_000, "pause_refine_after_reset": 0, "prune_scale3d": 0.22, "prune_scale2d": 0.12,
    "prune_opa": 0.006, "grow_grad2d": 0.00035, "grow_scale3d": 0.012, "refine_stop_iter": 26_000,
    "refine_scale2d_stop_iter": 26_000,
}  # fmt: skip


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


def test_steps_scaler_scales_all_numbers_of_steps() -> None:
    scaled = TrainOptions(steps_scaler=0.1, save_ply=True).scaled()
    assert (scaled.max_steps, scaled.eval_steps, scaled.save_steps, scaled.ply_steps, scaled.sh_degree_interval) == (
        3000, [700, 3000], [700, 3000], [700, 3000], 100,
    )  # fmt: skip
    strategy = scaled.strategy
    assert (strategy.refine_start_iter, strategy.refine_stop_iter, strategy.refine_every, strategy.reset_every) == (
        50, 1500, 10, 300,
    )  # fmt: skip


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


def test_settings_of_the_other_strategy_that_come_from_a_preset_are_no_news() -> None:
    given = {"preset": "small", "strategy": {"kind": "mcmc", "prune_opa": 0.1}}
    lines = [line for line in TrainOptions(**given).notices() if "strategy.kind" in line]
    assert lines == ["strategy.prune_opa: without effect, since strategy.kind is mcmc"]
