"""Rows of single images and the metrics of an evaluation, worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from splatdag.commands.runs import _Metrics
from splatdag.driving.evaluation.dynamic_masks import DEFINITIONS
from splatdag.driving.evaluation.scene_flow import Pair, pair_row
from splatdag.driving.evaluation.scores import GroundTruth, Rendered, image_row, summary
from splatdag.splats.metrics import ssim
from splatdag.workflow.errors import UserError

H, W = 24, 32
GREY = torch.full((3,), 0.5)


def plane(value: float) -> torch.Tensor:
    return torch.full((H, W), value)


def truth(dynamic: torch.Tensor | None = None, depth: torch.Tensor | None = None) -> GroundTruth:
    """Grey, and where it moves a little darker."""
    moves = torch.zeros((H, W), dtype=torch.bool) if dynamic is None else dynamic
    rgb = torch.where(moves[..., None], torch.tensor(0.4), torch.tensor(0.5)).expand(H, W, 3)
    return GroundTruth(rgb, plane(0) if depth is None else depth, moves)


def rendered(value: float, depth: float = 0.0) -> Rendered:
    return Rendered(torch.full((H, W, 3), value), plane(depth))


def row(recorded: GroundTruth, model: Rendered, initial: Rendered | None = None, kind="interpolation", frame=1):
    """Beside a grey image, a depth of 12 m, and the initial Gaussians."""
    baselines = {
        "mean_colour": Rendered(GREY.expand(H, W, 3), None),
        "mean_depth": Rendered(None, plane(12.0)),
        "init_only": initial or rendered(0.7),
    }
    return image_row("c", "001", frame, kind, recorded, model, baselines)


def test_an_image_s_scores_worked_out_by_hand():
    """Half of the image moves; the model is off by 0.1 where it stands still and by 0.2 where it moves."""
    moves = torch.zeros((H, W), dtype=torch.bool)
    moves[:, : W // 2] = True
    depth = plane(0)
    depth[0, 0], depth[5, 3], depth[2, W - 1] = 10.0, 14.0, 20.0
    found = row(truth(moves, depth), rendered(0.6, 13.0), rendered(0.5, 0.0))
    assert {name: found[name] for name in ("clip_id", "scene", "frame", "kind")} == {
        "clip_id": "c", "scene": "001", "frame": 1, "kind": "interpolation",
    }  # fmt: skip
    assert found["psnr"] == pytest.approx(-10 * np.log10((0.1**2 + 0.2**2) / 2), abs=1e-4)
    assert found["depth_rmse"] == pytest.approx(np.sqrt((3**2 + 1**2 + 7**2) / 3))
    assert found["dynamic"]["psnr"] == pytest.approx(-10 * np.log10(0.2**2), abs=1e-4)
    assert found["dynamic"]["depth_rmse"] == pytest.approx(np.sqrt((3**2 + 1**2) / 2))
    assert found["dynamic"]["pixels"] == H * W // 2
    # SSIM of two constants has the luminance term alone
    assert found["dynamic"]["ssim"] == pytest.approx((2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4), abs=1e-3)
    assert found["ssim"] == pytest.approx(ssim(rendered(0.6).rgb, truth(moves).rgb))
    start, flat = found["baselines"]["init_only"], found["baselines"]["mean_colour"]
    assert start["psnr"] == flat["psnr"] == pytest.approx(-10 * np.log10(0.1**2 / 2), abs=1e-4)
    assert start["depth_rmse"] == pytest.approx(np.sqrt((10**2 + 14**2 + 20**2) / 3))  # holes count
    assert flat["depth_rmse"] is flat["dynamic"]["depth_rmse"] is None
    assert flat["dynamic"]["psnr"] == pytest.approx(20, abs=1e-4)
    constant = found["baselines"]["mean_depth"]  # 12 m everywhere
    assert constant["depth_rmse"] == pytest.approx(np.sqrt((2**2 + 2**2 + 8**2) / 3))
    assert constant["dynamic"]["depth_rmse"] == pytest.approx(2)
    assert constant["psnr"] is constant["ssim"] is constant["dynamic"]["psnr"] is None


def test_where_nothing_moves_or_was_measured_there_is_no_score():
    found = row(truth(), rendered(0.6))
    assert found["dynamic"] is None
    assert found["depth_rmse"] is None
    assert found["psnr"] == pytest.approx(20, abs=1e-4)
    one = torch.zeros((H, W), dtype=torch.bool)
    one[4, 4] = True
    found = row(truth(one), rendered(0.6))
    assert found["dynamic"]["psnr"] == pytest.approx(-10 * np.log10(0.2**2), abs=1e-4)
    assert found["dynamic"]["ssim"] is None


def test_colours_outside_of_what_a_screen_shows_are_cut_and_equal_images_have_a_number():
    white = GroundTruth(torch.ones((H, W, 3)), plane(0), torch.zeros((H, W), dtype=torch.bool))
    found = row(white, rendered(1.3))
    assert (found["psnr"], found["ssim"]) == (100.0, pytest.approx(1.0))


def test_an_image_without_numbers_is_refused_by_name():
    broken = rendered(0.5)
    broken.depth[3, 3] = float("nan")
    with pytest.raises(UserError, match=r"^c: frame 1: the image of init_only has values that are no numbers$"):
        row(truth(), rendered(0.5), broken)


def test_the_means_are_over_images_and_kinds_stand_apart():
    images = [
        row(truth(), rendered(0.6), frame=1),  # 20 dB
        row(truth(), rendered(0.51), frame=3),  # 40 dB
        row(truth(depth=plane(5.0)), rendered(0.501, 7.0), kind="future", frame=11),  # 60 dB
        row(truth(), rendered(0.5), kind="input", frame=0),
    ]
    found = summary(images, [], {"camera_name": "front_camera", "dynamic_mask": DEFINITIONS["boxes"]})
    json.dumps(found, allow_nan=False)
    assert found["meta"]["num_eval_clips"] == 1
    assert found["meta"]["dynamic_mask"]["min_speed_mps"] == 1.0
    full = found["nvs"]["full"]
    assert (full["psnr_mean"], full["count"]) == (pytest.approx(40, abs=1e-3), 3)
    assert full["psnr_std"] == pytest.approx(np.std([20, 40, 60]), abs=1e-3)
    assert (full["depth_rmse_mean"], full["depth_rmse_std"]) == (pytest.approx(2.0), 0)
    assert found["nvs"]["interpolation"]["full"]["psnr_mean"] == pytest.approx(30, abs=1e-3)
    assert found["nvs"]["interpolation"]["full"]["depth_rmse_mean"] is None
    assert found["nvs"]["future"]["full"]["psnr_mean"] == pytest.approx(60, abs=1e-3)
    assert found["nvs"]["input"]["full"]["count"] == 1
    assert found["nvs"]["dynamic"] == {"count": 0} | {
        f"{name}_{of}": None for name in ("psnr", "ssim", "depth_rmse") for of in ("mean", "std")
    }
    assert found["baselines"]["init_only"]["nvs"]["full"]["psnr_mean"] == pytest.approx(-20 * np.log10(0.2), abs=1e-4)
    read = _Metrics.model_validate(found)
    assert read.mean["psnr"] == full["psnr_mean"]
    assert read.mean["dynamic_psnr"] is read.mean["epe3d"] is None
    assert read.baseline.keys() == read.mean.keys()
    there = {name: value for name, value in read.baseline.items() if value is not None}
    assert there == {"psnr": 100.0, "ssim": pytest.approx(1.0), "depth_rmse": pytest.approx(7.0)}


def flow_row(frame: int, flow: np.ndarray, labels: list[str], given: np.ndarray):
    count = len(flow)
    pair = Pair(
        frame, 0.1, np.arange(count), np.zeros((count, 3)), flow, np.ones(count, bool), np.array(labels, object)
    )
    about = {"clip_id": "c", "scene_id": "001", "frame0": frame, "frame1": frame + 1}
    return about | {"model": pair_row(pair, given), "zero_flow": pair_row(pair, np.zeros_like(flow))}


def test_flow_is_averaged_over_pairs_and_its_buckets_over_points():
    """One pair of a car (1 m, off by 0.5) and background, one of two cars (1.01 m, off by 0.2; 0.5 m, right)."""
    rows = [
        flow_row(0, np.array([[1.0, 0, 0], [0, 0, 0]]), ["Car", "background"], np.array([[0.5, 0, 0], [0, 0, 0]])),
        flow_row(
            2, np.array([[1.01, 0, 0], [0.5, 0, 0], [0.2, 0, 0]]), ["Car", "Car", "Bus"],
            np.array([[0.81, 0, 0], [0.5, 0, 0], [0, 0, 0]]),
        ),
    ]  # fmt: skip
    flow = summary([], rows, {})["scene_flow"]
    assert flow["count"] == len(flow["per_pair"]) == 2
    assert flow["epe3d_mean"] == pytest.approx((0.5 / 2 + 0.4 / 3) / 2)
    assert flow["acc5_mean"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert flow["theta_e_mean"] == pytest.approx(0, abs=1e-6)
    assert flow["epe_3way_mean"] == {"BS": 0, "FS": None, "FD": pytest.approx((0.5 + 0.2 + 0.2) / 4)}
    assert flow["epe_3way_count"] == {"BS": 1, "FS": 0, "FD": 4}
    assert flow["epe_3way_average"] == pytest.approx((0 + 0.225) / 2)
    buckets = flow["bucket_normalized_epe"]
    car = buckets["labels"]["Car"]
    assert (car["dynamic_points"], car["dynamic_buckets"]) == (3, 2)
    assert car["dynamic_nepe"] == pytest.approx(((0.5 + 0.2) / 2.01 + 0) / 2)
    assert buckets["labels"]["background"]["dynamic_nepe"] is None
    assert buckets["labels"]["background"]["static_epe"] == 0
    assert (buckets["mean"], buckets["buckets"]) == (pytest.approx((car["dynamic_nepe"] + 1.0) / 2), 3)
    row = flow["per_pair"][1]
    assert (row["scene_id"], row["frame0"], row["frame1"]) == ("001", 2, 3)
    assert row["epe3d"] == pytest.approx(0.4 / 3)
    assert row["epe_3way"] == {"BS": None, "FS": None, "FD": pytest.approx(0.4 / 3)}
    assert row["epe_3way_count"] == {"BS": 0, "FS": 0, "FD": 3}


def test_the_reproduction_s_bucketed_error_is_of_its_five_classes_and_of_each_point_s_own_flow():
    """Flows shorter than 5 cm count as 5 cm long; labels that it does not know are `other`."""
    labels = ["Car", "Bus", "Pedestrian", "Bicycle", "Towed Object", "background", "background"]
    true = np.array([[1.0, 0, 0], [0.2, 0, 0], [0.1, 0, 0], [0.01, 0, 0], [0.5, 0, 0], [0, 0, 0], [0, 0, 0]])
    wrong = np.array([[0.5, 0, 0], [0.1, 0, 0], [0, 0, 0], [0.02, 0, 0], [0.5, 0, 0], [0.02, 0, 0], [0, 0, 0]])
    flow = summary([], [flow_row(0, true, labels, true + wrong), flow_row(2, true, labels, true)], {})["scene_flow"]
    assert flow["bucketed_nepe_mean"] == {
        "background": pytest.approx(0.4 / 4), "vehicle": pytest.approx((0.5 + 0.5) / 4), "pedestrian": 0,
        "cyclist": pytest.approx(0.4 / 2), "other": pytest.approx(1 / 2),
    }  # fmt: skip
    assert flow["bucketed_nepe_count"] == {
        "background": 4, "vehicle": 4, "pedestrian": 2, "cyclist": 2, "other": 2,
    }  # fmt: skip


def test_no_flow_has_a_bucketed_error_of_one():
    rows = [flow_row(0, np.array([[1.0, 0, 0], [0.3, 0, 0], [0, 0, 0]]), ["Car", "Bus", "Bus"], np.zeros((3, 3)))]
    found = summary([], rows, {})
    zero = found["baselines"]["zero_flow"]["scene_flow"]
    assert zero == found["scene_flow"]
    assert zero["bucket_normalized_epe"]["mean"] == pytest.approx(1.0)
    assert zero["bucketed_nepe_mean"]["vehicle"] == pytest.approx(2 / 3)  # the bus that stands has an error of 0
    assert found["mean"]["epe_fd"] == found["baseline"]["epe_fd"] == pytest.approx(0.65)


def test_an_evaluation_of_nothing_has_no_numbers():
    found = summary([], [], {})
    json.dumps(found, allow_nan=False)
    assert found["mean"]["psnr"] is found["scene_flow"]["epe3d_mean"] is found["scene_flow"]["epe_3way_average"] is None
    assert found["scene_flow"]["epe_3way_mean"] == dict.fromkeys(("BS", "FS", "FD"))
    assert set(found["baseline"].values()) == {None}
    assert found["scene_flow"]["count"] == found["nvs"]["full"]["count"] == 0
