"""The stages of Flux4D end to end on a small sample log: what they publish, and what they say of bad input."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData
from support.flux4d import INDEX, TINY, overfitted, scene, street, tiny, trained
from support.pandaset_logs import pack, table
from support.processes import run_module

from splatdag.commands.runs import read_runs
from splatdag.driving.clips.clip_reader import Reader
from splatdag.driving.clips.clips import read_index
from splatdag.driving.clips.index import main as make_index
from splatdag.driving.evaluation import evaluate, flow, merge
from splatdag.driving.evaluation.evaluation import flow_of
from splatdag.driving.evaluation.scene_flow import pair_of
from splatdag.driving.logs.pickles import read_table
from splatdag.driving.network.model import Flux4D
from splatdag.driving.options import IndexOptions
from splatdag.driving.training import flux4d_training, overfit
from splatdag.driving.training.step import initial_state
from splatdag.driving.training_options import EvaluateOptions, FlowOptions
from splatdag.samples.options import StreetOptions
from splatdag.samples.street import make_street
from splatdag.samples.street_truth import Truth
from splatdag.splats.ply import read_ply
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import Manifest
from splatdag.workflow.stage import Job


def json_of(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("made", [overfitted, trained])
def test_a_run_is_whole(made: Any) -> None:
    run = made()
    files = {"ckpt_last.pt", "ckpt_step_000006.pt", "train.log", "meta.json", "curves.png", "curves.json",
             "metrics.json", "preview.jpg", "manifest.json", "001" if made is trained else "clip_0"}  # fmt: skip
    assert {path.name for path in run.iterdir()} == files | {"state"}
    assert (run / "ckpt_last.pt").samefile(run / "ckpt_step_000006.pt")
    manifest = Manifest.model_validate(json_of(run / "manifest.json"))
    assert manifest.steps == 6
    assert manifest.gaussians > 500
    assert {"startup", "train", "eval", "total"} <= manifest.seconds.keys()
    assert "clip time" in json_of(run / "meta.json")["velocity_unit"]
    found = read_runs(run.parent.parent)
    assert [row.fault for row in found] == [""]
    assert found[0].cells["psnr"] == json_of(run / "metrics.json")["mean"]["psnr"]


def test_what_a_training_leaves_has_the_old_keys_of_the_old_types() -> None:
    """As train_flux4d.py wrote them; of many clips none is the one, and each has Gaussians of its own."""
    old = {
        "config": None,
        "index_path": str(street() / INDEX),
        "camera_name": "front_camera",
        "resume_from": None,
        "resume_optimizer": True,
        "save_ckpt_every": 1_000,
    }
    of_clip = {
        "clip_index": 0,
        "clip_id": read_index(street() / INDEX)[0].clip_id,
        "num_gaussians": json_of(overfitted() / "manifest.json")["gaussians"],
    }
    meta = json_of(overfitted() / "meta.json")
    assert {key: meta.get(key) for key in old | of_clip} == old | of_clip
    meta = json_of(trained() / "meta.json")
    assert {key: meta[key] for key in old} == old
    assert not meta.keys() & of_clip.keys()


def test_metrics_have_the_old_keys_and_what_is_trivial_beside_them() -> None:
    metrics = json_of(trained() / "metrics.json")
    assert metrics["meta"]["num_eval_clips"] == 1
    assert metrics["meta"]["camera_name"] == "front_camera"
    assert metrics["meta"]["dynamic_mask"]["name"] == "boxes"
    for part in (metrics["nvs"], metrics["baselines"]["init_only"]["nvs"], metrics["baselines"]["mean_colour"]["nvs"]):
        assert part["full"]["count"] == 10
        assert part["interpolation"]["full"]["count"] == part["future"]["full"]["count"] == 5
        assert 5 < part["full"]["psnr_mean"] < 40
    assert metrics["scene_flow"]["count"] == 6
    assert metrics["baselines"]["zero_flow"]["scene_flow"]["epe_3way_mean"]["BS"] == 0
    rows = json_of(trained() / "001" / "metrics.json")["rows"]
    novel = [row["psnr"] for row in rows["images"] if row["kind"] != "input"]
    assert metrics["mean"]["psnr"] == pytest.approx(np.mean(novel))


def test_a_clip_leaves_splats_of_each_time_pictures_and_a_video() -> None:
    (clip,) = (trained() / "001").glob("001_*")
    numbered = [f"{number:02d}" for number in range(16)]
    names = {f"{kind}_{number}.{end}" for number in numbered for kind, end in
             (("splat", "ply"), ("pred", "jpg"), ("gt", "jpg"))}  # fmt: skip
    assert {path.name for path in clip.iterdir()} == names | {"cameras.json", "motion.npz", "video.mp4"}
    with np.load(clip / "motion.npz") as motion:
        assert {name: motion[name].shape[1:] for name in motion.files} == {
            "points": (3,), "colors": (3,), "seconds": (), "velocities": (3,), "coefficients": (2, 3)
        }  # fmt: skip
        count = len(motion["points"])
    splat = read_ply(clip / "splat_03.ply")
    assert len(splat["means"]) > count  # the sky is there, too
    assert PlyData.read(clip / "splat_03.ply").comments[0] == "splatdag"


def test_splats_show_what_was_drawn_when_they_are_seen_from_the_files_cameras() -> None:
    from splatdag.splats.render import render

    (clip,) = (trained() / "001").glob("001_*")
    view = json_of(clip / "cameras.json")["views"][5]
    splat = read_ply(clip / "splat_05.ply")
    world_to_camera = torch.linalg.inv(torch.tensor(view["camera_to_world"], dtype=torch.float64)).float()
    image, _, _ = render(
        splat["means"], splat["quats"], splat["scales"].exp(), torch.sigmoid(splat["opacities"]),
        (splat["sh0"][:, 0] * 0.28209479177387814 + 0.5).clamp(0, 1), world_to_camera[None],
        torch.tensor(view["K"])[None], view["width"], view["height"], near_plane=0.1, antialiased=True,
    )  # fmt: skip
    drawn = np.asarray(Image.open(clip / "pred_05.jpg"), np.float64) / 255
    assert np.abs(image[0].clamp(0, 1).numpy() - drawn).mean() < 0.02


def test_the_flow_of_gaussians_that_move_as_they_do_is_the_true_one() -> None:
    """Exact velocities put in: what is measured as flow is what the sample log says, but for the clip's own clock."""
    given = scene(num_image_points=0)
    reader = Reader(street(), tiny())
    log, truth = reader.log(given.clip), Truth.read(street(), "001")
    moving = initial_state(Flux4D(tiny(motion_degree=0)), given)
    ego = log.ego_to_world[0]
    points = given.start.means.double().numpy() @ ego[:3, :3].T + ego[:3, 3]
    times = given.start.times.double().numpy() * given.clock.seconds + given.clock.begin
    things = truth.within(points, times)
    things[given.start.backdrop.numpy()] = -1
    speeds = truth.velocities(points, times, things) @ ego[:3, :3] * given.clock.seconds
    moving = replace(moving, velocities=torch.from_numpy(speeds[:, None].astype(np.float32)))
    pair = pair_of(log, given.clip.inputs[2])
    assert pair is not None
    told = flow_of(given, log, moving, pair)
    fast = np.linalg.norm(pair.flow, axis=1) > 0.3
    assert fast.sum() > 20
    errors = np.linalg.norm(told - pair.flow, axis=1)[fast] / np.linalg.norm(pair.flow, axis=1)[fast]
    assert np.median(errors) < 0.05


def test_flow_is_drawn_from_one_pose_and_from_each(tmp_path: Path) -> None:
    options = FlowOptions(render_frames="0,2-4")
    flow.main(street() / INDEX, street(), overfitted() / "ckpt_last.pt", tmp_path, options, Job())
    summary = json_of(tmp_path / "summary.json")
    for mode in ("fixed_pose", "per_frame_pose"):
        assert [row["frame"] for row in summary[mode]["frames"]] == [0, 2, 3, 4]
        for frame in (0, 2, 3, 4):
            names = {path.stem for path in (tmp_path / mode / f"frame_{frame:03d}").iterdir()}
            assert names == {"pred_rgb", "gt_rgb", "pred_depth", "vr_mag", "vr_hsv", "rgb_diff_prev"}
        assert summary[mode]["background_median"] < 1
    first, last = (
        np.asarray(Image.open(tmp_path / "fixed_pose" / f"frame_{frame:03d}" / "pred_rgb.png"), np.float64)
        for frame in (0, 4)
    )
    there = np.asarray(Image.open(tmp_path / "per_frame_pose" / "frame_004" / "pred_rgb.png"), np.float64)
    assert np.abs(first - last).mean() < np.abs(first - there).mean()  # nothing has learnt to move yet


def test_flow_is_seen_through_another_camera_than_was_learnt_from(tmp_path: Path) -> None:
    cameras = ("front_camera", "back_camera")
    make_street(tmp_path, StreetOptions(logs=1, frames=16, width=96, points=1500, cameras=cameras))
    make_index(
        tmp_path, tmp_path / INDEX, tmp_path / "tiny.pkl", tmp_path / "x.json", IndexOptions(val_num_scenes=0), Job()
    )
    options = FlowOptions(render_frames="2", camera="back_camera", mode="per_frame_pose")
    flow.main(tmp_path / INDEX, tmp_path, overfitted() / "ckpt_last.pt", tmp_path / "flow", options, Job())
    summary = json_of(tmp_path / "flow/summary.json")
    assert summary["camera"] == "back_camera"
    with Image.open(tmp_path / "flow/per_frame_pose/frame_002/gt_rgb.png") as drawn:
        [there] = sorted((tmp_path / "001/camera/back_camera").glob("02.jpg"))
        assert np.array_equal(np.asarray(drawn), np.asarray(Image.open(there)))


@pytest.mark.parametrize("given", ["16", "a", "3-", ""])
def test_frames_that_a_clip_does_not_have_are_named(given: str) -> None:
    with pytest.raises(UserError, match="render_frames"):
        flow.frames_of(given, 16)


def test_without_splats_the_first_clip_still_has_pictures_and_the_run_its_preview(tmp_path: Path) -> None:
    ckpt, options = trained() / "ckpt_last.pt", EvaluateOptions(save_renders=False)
    evaluate.main(street() / INDEX, street(), ckpt, "001", tmp_path / "001", options, Job())
    (clip,) = (tmp_path / "001").glob("001_*")
    assert {path.suffix for path in clip.iterdir()} == {".jpg", ".json"}
    merge.main(tmp_path, ckpt, street() / INDEX, ("001",), Job())
    assert np.asarray(Image.open(tmp_path / "preview.jpg")).std() > 20


def test_a_log_without_test_clips_leaves_no_rows_and_a_run_needs_some(tmp_path: Path) -> None:
    ckpt = trained() / "ckpt_last.pt"
    evaluate.main(street() / INDEX, street(), ckpt, "002", tmp_path / "002", EvaluateOptions(), Job())
    assert json_of(tmp_path / "002" / "metrics.json")["rows"]["images"] == []
    with pytest.raises(UserError, match="no test clip"):
        merge.main(tmp_path, ckpt, street() / INDEX, ("002",), Job())
    with pytest.raises(UserError, match=r"001.metrics\.json: No such file"):
        merge.main(tmp_path, ckpt, street() / INDEX, ("001",), Job())


def test_without_the_pandar64_no_depth_is_learnt_or_measured_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    overfit.main(street() / INDEX, street(), tmp_path, tiny(iters=1, lidar_sensor_id=1), Job())
    reason = "since lidar_sensor_id is 1, and depths are those that the Pandar64 (0) measures"
    said = [record.message for record in caplog.records]
    assert f"projected_depth: without effect, {reason}" in said
    assert f"depth_rmse is null, {reason}" in said
    metrics = json_of(tmp_path / "metrics.json")
    assert metrics["mean"]["depth_rmse"] is None
    assert metrics["mean"]["psnr"] > 5
    assert tiny().notices() == []


def test_a_kill_while_the_clip_is_measured_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(overfit, "measure_scene", killed)
    with pytest.raises(KeyboardInterrupt):
        overfit.main(street() / INDEX, street(), tmp_path, tiny(iters=2), Job())
    monkeypatch.undo()
    monkeypatch.setattr(flux4d_training, "training_step", None)
    overfit.main(street() / INDEX, street(), tmp_path, tiny(iters=2), Job())
    assert json_of(tmp_path / "manifest.json")["steps"] == 2


def test_a_clip_that_cannot_be_measured_is_left_out_with_its_reason_or_stops(tmp_path: Path) -> None:
    """One of its tables of boxes has a place that is no number, which only the measuring reads."""
    logs = shutil.copytree(street(), tmp_path / "logs")
    (path,) = (logs / "001" / "annotations" / "cuboids").glob("03.pkl*")
    given = {name: list(column) for name, column in read_table(path).items()}
    given["position.x"][0] = float("nan")
    path.write_bytes(pack(table(given)) if path.suffix == ".gz" else table(given))
    ckpt = trained() / "ckpt_last.pt"
    evaluate.main(logs / INDEX, logs, ckpt, "001", tmp_path / "001", EvaluateOptions(), Job())
    rows = json_of(tmp_path / "001" / "metrics.json")["rows"]
    (reason,) = rows["left_out"].values()
    assert "1 boxes have values that are no number in position.x" in reason
    assert rows["images"] == []
    with pytest.raises(UserError, match="1 boxes have values"):
        evaluate.main(logs / INDEX, logs, ckpt, "001", tmp_path / "strict", EvaluateOptions(strict=True), Job())


def test_a_frame_to_learn_from_is_of_the_clip(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fixed_target_frame: 16 is no input or target frame"):
        overfit.main(street() / INDEX, street(), tmp_path, tiny(fixed_target_frame=16), Job())
    with pytest.raises(UserError, match="clip_index: 99, but"):
        overfit.main(street() / INDEX, street(), tmp_path, tiny(clip_index=99), Job())


def test_the_old_flags_and_a_yaml_config_are_taken_and_python_is_refused(tmp_path: Path) -> None:
    stage, shared = "splatdag.driving.training.overfit", ["--index-path", street() / INDEX, "--data-root", street()]
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in TINY.items()}
    (tmp_path / "flat.yaml").write_text(json.dumps(given | {"iters": 9}))
    (tmp_path / "whole.yaml").write_text(json.dumps({"driving": {"overfit": given | {"iters": 9}}}))
    (tmp_path / "flux4d.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    old = ["--camera", "front_camera", "--num-sky-points", "100", "--max-gaussians", "500", "--iters", "2",
           "--grad-accum-steps", "2", "--fixed-target-frame", "1", "--no-projected-depth", "--log-every", "1",
           "--save-every", "1", "--save-ckpt-every", "2", "--clip-index", "0"]  # fmt: skip
    for name in ("flat", "whole"):
        run = tmp_path / name
        done = run_module(stage, *shared, "--output-dir", run, "--config", f"{run}.yaml", *old)
        assert done.returncode == 0, done.stderr
        options = json_of(run / "meta.json")["options"]
        assert (options["iters"], options["channels"], options["projected_depth"]) == (2, [8, 8], False)
        assert (run / "step_000001" / "rgb_weight.png").is_file()
    done = run_module(stage, *shared, "--output-dir", tmp_path / "no", "--config", tmp_path / "flux4d.py")
    assert done.returncode == 2
    assert "flux4d.py: a Python file is never run; write YAML" in done.stderr
    assert "voxel_size" in done.stderr
    assert not (tmp_path / "mark").exists()
