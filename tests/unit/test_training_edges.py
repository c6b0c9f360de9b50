"""Trainings at the edge: nothing left, nothing that counts, coordinates far away, photos too small to measure."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.scenes import gaussian_scene, write_gaussian_scene
from support.trainings import OPTIONS, Training, options

from splatdag.scene import train as stage
from splatdag.scene.appearance import FEATURES
from splatdag.scene.ckpt_files import last_checkpoint
from splatdag.scene.evaluate import frame_warnings
from splatdag.scene.evaluation import check_views, evaluate, mean_color
from splatdag.scene.options import TrainOptions
from splatdag.scene.simple_trainer_files import RunFiles
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.views import View, camera_tensors
from splatdag.splats import lpips
from splatdag.splats.losses import disparity_loss
from splatdag.splats.lpips import Lpips, NoLpips, lpips_where_possible
from splatdag.splats.metrics import is_measurable, ssim
from splatdag.splats.normalisation import Normalisation, normalisation
from splatdag.splats.ply import read_ply, write_ply
from splatdag.training import run
from splatdag.training.curves import write_curves
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job

CPU = torch.device("cpu")


@pytest.mark.parametrize("changes", [{}, {"opacity_reg": 0.01}])
def test_a_training_that_removes_every_gaussian_ends_with_a_line(tmp_path: Path, changes: dict[str, Any]) -> None:
    strategy = {**OPTIONS["strategy"], "prune_opa": 0.9}
    with pytest.raises(UserError, match="step 6: every Gaussian was removed; lower strategy.prune_opa"):
        Training(tmp_path).run(options(strategy=strategy, **changes))


def test_crops_where_no_pixel_counts_leave_no_point_on_the_curve(tmp_path: Path) -> None:
    training = Training(tmp_path)
    mask = torch.zeros((32, 48), dtype=torch.bool)
    mask[:3, :3] = True
    training.views = [replace(view, mask_HW=mask) for view in training.views]
    result = training.run(options(patch_size=16))
    assert len(result.curve) < 7
    assert np.isfinite(result.curve).all()
    write_curves(tmp_path / "curves.png", [], result.evaluations, "none")
    assert (tmp_path / "curves.png").stat().st_size > 1_000


def test_a_cap_below_the_start_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strategy = {**OPTIONS["strategy"], "cap_max": 20}
    Training(tmp_path).run(options(max_steps=1, strategy=strategy))
    told = [line for line in caplog.messages if not line.startswith("step ")]  # progress is told where it takes long
    assert told == [
        "strategy.cap_max: 20, but training starts with 100 Gaussians; lower max_init_points or init_num_pts"
    ]


def test_directions_add_nothing_before_their_degree_is_trained(tmp_path: Path) -> None:
    model = Training(tmp_path).run(options(app_opt=True, app_opt_lr=1e-2, sh_degree=3, sh_degree_interval=1_000)).model
    view = Training(tmp_path).views[0]
    camera = camera_tensors(view, Training(tmp_path).frame, CPU)
    assert torch.equal(model.draw(*camera, 48, 32)[0], model.draw(*camera, 48, 32, sh_degree=0)[0])


def test_what_app_opt_publishes_has_the_mean_of_the_directions(tmp_path: Path) -> None:
    """Over a sphere all harmonics but the first average to zero, so the network gets these means."""
    model = Training(tmp_path).run(options(app_opt=True, sh_degree=2, sh_degree_interval=5)).model
    assert model.app_module is not None
    features, colors = model.parameters["features"], model.parameters["colors"]
    width = model.app_module.embeds.weight.shape[1]
    inputs = torch.zeros((len(features), width + FEATURES + 9))
    inputs[:, width : width + FEATURES] = features
    inputs[:, width + FEATURES] = 0.5 / np.sqrt(np.pi)
    expected = torch.sigmoid(model.app_module.color_head(inputs) + colors)
    shown = model.published()["sh0"][:, 0] * 0.28209479177387814 + 0.5
    torch.testing.assert_close(shown, expected.detach())


def test_known_points_at_the_border_of_a_photo_compare_with_the_depth_there() -> None:
    depths = torch.full((1, 6, 8, 1), 4.0)
    corners = torch.tensor([[0.0, 0.0], [7.99, 5.99], [0.1, 3.0]])
    assert float(disparity_loss(depths, [(corners, torch.full((3,), 4.0))])) == pytest.approx(0, abs=1e-6)


def far_scene(offset: np.ndarray) -> tuple[list[View], np.ndarray]:
    """The scene of known Gaussians and its points in a world whose origin is `offset` away."""
    truth, views = gaussian_scene()
    moved = []
    for view in views:
        pose = view.world_to_camera.copy()
        pose[:3, 3] -= pose[:3, :3] @ offset
        moved.append(replace(view, world_to_camera=pose))
    return moved, truth["means"].double().numpy() + offset


def test_georeferenced_cameras_see_the_same_where_the_world_is_not_normalised(tmp_path: Path) -> None:
    offset = np.array([512_345.25, 4_100_000.5, 220.0])
    truth, _ = gaussian_scene()
    views, points = far_scene(offset)
    frame = normalisation(np.array([view.center for view in views]), points, normalize=False)
    assert frame.scale == 1
    assert (frame.center == np.round(frame.center)).all()
    moved = {**truth, "means": torch.tensor(frame.points(points), dtype=torch.float32)}
    model = SplatModel(moved, TrainOptions(sh_degree=1))
    assert evaluate(model, views, frame, torch.zeros(3)).figures["mean"]["psnr"] > 50
    write_ply(tmp_path / "splat.ply", moved, frame)
    there = read_ply(tmp_path / "splat.ply")["means"].double().numpy() + frame.offset()
    np.testing.assert_allclose(there, points, atol=1e-5)


def test_a_world_that_is_not_normalised_keeps_its_origin_where_it_can() -> None:
    views, points = far_scene(np.array([40.0, 5.0, -30.0]))
    frame = normalisation(np.array([view.center for view in views]), points, normalize=False)
    assert (frame.center == 0).all()
    truth, _ = gaussian_scene()
    model = SplatModel({**truth, "means": torch.tensor(points, dtype=torch.float32)}, TrainOptions(sh_degree=1))
    assert frame_warnings(model, views, frame) == []


def test_random_points_lie_among_the_cameras_of_a_world_that_is_not_normalised(tmp_path: Path) -> None:
    views, points = far_scene(np.array([300.0, 0.0, 0.0]))
    centers = np.array([view.center for view in views])
    scene: Any = SimpleNamespace(centers=centers, points=points[:0], colors=points[:0])
    chosen = TrainOptions(init_type="random", init_num_pts=500, normalize_world_space=False)
    means = stage._initial_gaussians(scene, stage._frame(scene, chosen), chosen)["means"]
    assert (means.mean(dim=0) - torch.tensor(views[0].center)).norm() < 10


@pytest.mark.parametrize("every", [30, 1_000])
def test_the_last_step_is_among_those_that_validation_chooses_from(tmp_path: Path, every: int) -> None:
    """The tiny scene still gets better at its end, so that the last step is the best."""
    result = Training(tmp_path).run(options(validation_views=1, validate_every=every))
    assert (result.step, result.evaluations[-1]["step"]) == (60, 60)


def test_an_early_result_is_the_one_that_an_evaluation_takes(tmp_path: Path) -> None:
    data = write_gaussian_scene(tmp_path / "data")
    changes = {"max_steps": 300, "validation_views": 2, "validate_every": 5, "patience": 3, "opacities_lr": 2.0}
    chosen = options(test_every=4, disable_video=True, save_steps=list(range(1, 300)), **changes)
    stage.main(data, data / "sparse" / "0", tmp_path / "run", chosen, Job())
    published = read_ply(tmp_path / "run" / "splat.ply")
    path = last_checkpoint(tmp_path / "run")
    saved = torch.load(path, weights_only=True)["splats"]
    torch.testing.assert_close(saved["opacities"], published["opacities"])
    later = [int(other.stem.split("_")[1]) for other in path.parent.iterdir()]
    assert max(later) > int(path.stem.split("_")[1])
    (tmp_path / "run" / "manifest.json").unlink()
    assert last_checkpoint(tmp_path / "run").stem == f"ckpt_{max(later)}_rank0"


def test_a_new_run_removes_what_an_older_one_wrote_and_nothing_else(tmp_path: Path) -> None:
    frame = Normalisation(np.zeros(3), 1.0, 1.0)
    old = ["ckpts/ckpt_9_rank0.pt", "ply/point_cloud_9.ply", "stats/train_step0009_rank0.json",
           "stats/val_step0009.json", "renders/val_step9_0000.png", "videos/traj_9.mp4", "manifest.json"]  # fmt: skip
    foreign = ["videos/holiday.mp4", "renders/final/cover.png", "ckpts/other.pt", "notes.txt"]
    for name in old + foreign:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    files = RunFiles(tmp_path, TrainOptions(), frame, {"data_dir": "before"})
    files.begin(anew=False)
    assert all((tmp_path / name).exists() for name in old)
    RunFiles(tmp_path, TrainOptions(), frame, {"data_dir": "after"}).begin()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*foreign, "cfg.yml"}
    assert (tmp_path / "cfg.yml").read_text().startswith("data_dir: after\n")


def test_a_state_of_another_device_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_gaussian_scene(tmp_path / "data")
    keys: list[dict[str, str]] = []

    def no_training(*given: Any) -> None:
        keys.append(given[4].key)
        raise UserError("enough")

    monkeypatch.setattr(stage, "train", no_training)
    for device in ("cpu", "meta"):
        monkeypatch.setattr(run, "use_device", lambda count, threads, device=device: torch.device(device))
        with pytest.raises(UserError, match="enough"):
            stage.main(data, data / "sparse" / "0", tmp_path / "run", options(test_every=4), Job())
    assert {name for name in keys[0] if keys[0][name] != keys[1][name]} == {"device"}


def test_lpips_is_left_out_where_a_photo_is_too_small_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = Lpips("alex", {}, [])
    monkeypatch.setattr(lpips.Lpips, "load", lambda net, device: loaded)
    with caplog.at_level(logging.INFO):
        assert lpips_where_possible("alex", 31, CPU) is loaded
        assert lpips_where_possible("alex", 30, CPU) == NoLpips("alex needs 31 pixels, a photo has 30")
    assert caplog.messages == ["LPIPS is left out: alex needs 31 pixels, a photo has 30"]


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_is_measurable_where_ssim_has_a_figure(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    image, target = torch.rand((2, 20, 24, 3), generator=generator)
    for width in range(1, 6):
        mask = torch.zeros((20, 24), dtype=torch.bool)
        top, left = torch.randint(0, 14, (2,), generator=generator).tolist()
        mask[top : top + width, left : left + width] = True
        if is_measurable(mask):
            assert np.isfinite(ssim(image, target, mask))
        else:
            with pytest.raises(ValueError, match="no window"):
                ssim(image, target, mask)


def test_a_held_out_mask_that_leaves_too_little_stops_before_the_training(tmp_path: Path) -> None:
    view = Training(tmp_path).views[0]
    mask = torch.zeros((32, 48), dtype=torch.bool)
    with pytest.raises(UserError, match=rf"{view.name}: after scaling, its mask leaves 0 pixels"):
        check_views([replace(view, mask_HW=mask)])
    check_views([view, replace(view, mask_HW=~mask)])
    assert torch.equal(mean_color([view, replace(view, mask_HW=mask)]), mean_color([view]))
    with pytest.raises(UserError, match="leave nothing of any photo"):
        mean_color([replace(view, mask_HW=mask)])


def test_all_steps_of_the_strategy_are_scaled() -> None:
    chosen = TrainOptions(steps_scaler=0.1, average_steps=300, strategy={"pause_refine_after_reset": 500})
    assert chosen.scaled().strategy.pause_refine_after_reset == 50
    assert chosen.scaled().average_steps == 30
    assert chosen.notices() == []


UNUSED = [
    ({"init_type": "random", "max_init_points": 5}, "max_init_points: without effect, since init_type is random"),
    ({"disable_video": True, "render_traj_path": "raw"}, "render_traj_path: without effect, since disable_video is on"),
    ({"sh_degree": 0, "sh_degree_interval": 5}, "sh_degree_interval: without effect, since sh_degree is 0"),
    ({"app_opt": True, "shN_lr": 1.0}, "shN_lr: without effect, since app_opt is on"),
]


def test_evaluations_of_a_preset_that_a_shorter_run_does_not_reach_are_no_news() -> None:
    assert TrainOptions(preset="small", max_steps=300).notices() == []


@pytest.mark.parametrize(("given", "notice"), UNUSED)
def test_more_settings_without_effect_are_reported_but_not_those_of_a_preset(
    given: dict[str, Any], notice: str
) -> None:
    assert notice in TrainOptions(**given).notices()
    quiet = {
        key: value for key, value in given.items() if key in ("init_type", "disable_video", "sh_degree", "app_opt")
    }
    assert TrainOptions(preset="small", **quiet).notices() == []
