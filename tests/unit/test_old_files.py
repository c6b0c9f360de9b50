"""Files that tools of the Flux4D reproduction read: their keys, of the types and in the places that they had there."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.flux4d import INDEX, overfitted, street, trained

from splatdag.driving.checks import voxelization
from splatdag.driving.clips.clips import Clip, clips_digest, read_index
from splatdag.driving.clips.index import main as make_index
from splatdag.driving.clips.lift import pixels_of
from splatdag.driving.evaluation import flow
from splatdag.driving.logs.pandaset import PANDAR64, Log
from splatdag.driving.network_options import VoxelizationOptions
from splatdag.driving.options import IndexOptions
from splatdag.driving.training_options import FlowOptions
from splatdag.formats.images import read_header
from splatdag.workflow.stage import Job

NUMBER = (int, float, type(None))
"""A figure; null where there is nothing to measure."""
SPREAD = {f"{name}_{of}": NUMBER for name in ("psnr", "ssim", "depth_rmse") for of in ("mean", "std")} | {"count": int}
THREE_WAY, COUNTS = dict.fromkeys(("BS", "FS", "FD"), NUMBER), dict.fromkeys(("BS", "FS", "FD"), int)
CLASSES = ("background", "vehicle", "pedestrian", "cyclist", "other")
PAIR = {
    "clip_id": str, "scene_id": str, "frame0": int, "frame1": int, "epe3d": NUMBER, "acc5": NUMBER, "acc10": NUMBER,
    "theta_e": NUMBER, "epe_3way": THREE_WAY, "epe_3way_count": COUNTS,
}  # fmt: skip
METRICS = {
    "meta": {"created_at": str, "ckpt": str, "index_path": str, "num_eval_clips": int, "camera_name": str},
    "nvs": {"full": SPREAD, "dynamic": SPREAD},
    "scene_flow": {
        "epe3d_mean": NUMBER, "acc5_mean": NUMBER, "acc10_mean": NUMBER, "theta_e_mean": NUMBER, "count": int,
        "epe_3way_mean": THREE_WAY, "epe_3way_count": COUNTS,
        "bucketed_nepe_mean": dict.fromkeys(CLASSES, NUMBER), "bucketed_nepe_count": dict.fromkeys(CLASSES, int),
        "per_pair": [PAIR],
    },
}  # fmt: skip


def assert_has(content: Any, form: Any, where: str = "") -> None:
    """Every key of a form is there, and what it holds is of its type."""
    if isinstance(form, dict):
        assert isinstance(content, dict), where
        for key, value in form.items():
            assert key in content, f"{where}.{key}"
            assert_has(content[key], value, f"{where}.{key}")
    elif isinstance(form, list):
        assert isinstance(content, list), where
        assert content, where
        for number, entry in enumerate(content):
            assert_has(entry, form[0], f"{where}[{number}]")
    else:
        assert isinstance(content, form), f"{where} is {content!r}"
        assert not isinstance(content, bool), where


@pytest.mark.parametrize("made", [trained, overfitted])
def test_metrics_have_every_old_key_of_its_old_type(made: Callable[[], Path]) -> None:
    metrics = json.loads((made() / "metrics.json").read_text())
    assert_has(metrics, METRICS)
    found = metrics["scene_flow"]
    points = sum(found["epe_3way_count"].values())
    assert points == sum(found["bucketed_nepe_count"].values()) == sum(row["points"] for row in found["per_pair"])
    assert [(row["frame0"], row["frame1"]) for row in found["per_pair"]] == [(n, n + 1) for n in (0, 2, 4, 6, 8, 10)]


def test_a_summary_of_flow_has_every_old_key(tmp_path: Path) -> None:
    options = FlowOptions(render_frames="2", mode="fixed_pose")
    flow.main(street() / INDEX, street(), trained() / "ckpt_last.pt", tmp_path, options, Job())
    summary = json.loads((tmp_path / "summary.json").read_text())
    numbers = dict.fromkeys(("clip_index", "frame_ref", "num_gaussians"), int)
    assert_has(summary, dict.fromkeys(("mode", "index_path", "clip_id", "camera", "ckpt"), str) | numbers)
    assert (summary["mode"], summary["render_frames"]) == ("fixed_pose", [2])
    assert (tmp_path / "fixed_pose" / "frame_002" / "vr_hsv.png").is_file()


def test_counts_of_voxels_have_every_old_key(tmp_path: Path) -> None:
    options = VoxelizationOptions(num_sky_points=50, max_gaussians=200, clip_index=1)
    voxelization.main(street() / INDEX, street(), tmp_path / "voxels.json", tmp_path, options, Job())
    counts = ("num_points", "num_valid_points", "num_voxels", "feature_dim", "clip_index", "ego0_frame_index")
    form = dict.fromkeys(("clip_id", "index_path", "data_root"), str) | dict.fromkeys(counts, int)
    facts = json.loads((tmp_path / "voxels.json").read_text())
    assert_has(facts, form | {"voxel_shape_xyz": [int], "valid_ratio": float})
    assert facts["clip_index"] == 1


def rotation(heading: dict[str, float]) -> np.ndarray:
    """Of a unit quaternion: v turned is v + 2 q x (q x v + w v)."""
    w, *q = (heading[part] for part in "wxyz")
    turned = [v + 2 * np.cross(q, np.cross(q, v) + w * np.array(v)) for v in np.eye(3)]
    return np.stack(turned, axis=1)


def old_reader_s_pixels(path: Path, root: Path, number: int, frame: int, view: int) -> np.ndarray:
    """Project a clip's points as the reproduction does, from its index and the files that this names alone."""
    with path.open("rb") as file:
        clip = pickle.load(file)["clips"][number]
    name = clip["views"][view]
    pose, intrinsics = clip["extrinsics"]["camera"][name][frame], clip["intrinsics"][name]
    assert isinstance(clip["extrinsics"]["lidar"], list)
    assert set(clip["extrinsics"]["lidar"][frame]) == {"position", "heading"}
    assert isinstance(clip["timestamps"]["lidar"][frame], float)
    assert (root / clip["image_paths"][name][frame]).is_file()
    table = pd.read_pickle(root / clip["lidar_paths"][frame])
    points = table.loc[table["d"] == 0, ["x", "y", "z"]].to_numpy(np.float64)
    position = np.array([pose["position"][axis] for axis in "xyz"])
    x, y, z = ((points - position) @ rotation(pose["heading"])).T
    x, y, z = (values[z > 0.1] for values in (x, y, z))
    u, v = intrinsics["fx"] * x / z + intrinsics["cx"], intrinsics["fy"] * y / z + intrinsics["cy"]
    return np.stack([u, v], axis=1)


@pytest.mark.parametrize("packed", ["full.pkl", "full.jsonl"])
def test_the_old_reader_of_an_index_projects_the_points_as_we_do(tmp_path: Path, packed: str) -> None:
    root, index = street(), tmp_path / "index.pkl"
    if packed == "full.pkl":
        index.write_bytes((root / INDEX).read_bytes())
    else:
        lines = (root / packed).read_text().splitlines()
        index.write_bytes(pickle.dumps({"clips": [json.loads(line) for line in lines]}))
    clip, frame = read_index(root / INDEX)[0], 3
    log, number = Log(root / clip.scene_id), clip.start + frame
    points = log.sweep(number).of(PANDAR64).points
    camera = log.cameras[clip.cameras[0]]
    pixels, depths, _ = pixels_of(camera, number, points, *read_header(camera.images[number]).size)
    np.testing.assert_allclose(old_reader_s_pixels(index, root, 0, frame, 0), pixels[depths > 0.1], atol=1e-6)


def test_the_head_of_an_index_says_what_the_old_one_said(tmp_path: Path) -> None:
    full = pickle.loads((street() / INDEX).read_bytes())
    setting = {
        "name": str, "clip_len_frames": int, "stride_frames": int, "input_frame_indices": [int],
        "target_frame_indices": [int], "splits": [str],
    }  # fmt: skip
    strings = dict.fromkeys(("data_root", "preset", "created_at"), str)
    lists = {key: [str] for key in ("scene_ids", "test_scenes", "camera_names")}
    assert_has(full["meta"], strings | lists | {"settings": [setting], "total_clips": int, "target_fps": float})
    names = ["train_interpolation", "train_future", "eval_future"]
    assert [setting["name"] for setting in full["meta"]["settings"]] == names
    lengths = {clip["setting"]: (clip["clip_len_s"], clip["stride_s"]) for clip in full["clips"]}
    assert lengths == {
        "train_interpolation": (pytest.approx(1.0), pytest.approx(0.6)),
        "train_future": (pytest.approx(1.5), pytest.approx(1.1)),
        "eval_future": (pytest.approx(1.5), pytest.approx(2.0)),
    }
    files = [tmp_path / name for name in ("full.pkl", "tiny.pkl", "report.json")]
    make_index(street(), *files, IndexOptions(tiny_scenes=("002",)), Job())
    tiny = pickle.loads(files[1].read_bytes())["meta"]
    assert (tiny["scene_ids"], tiny["test_scenes"], tiny["total_clips"]) == (["002"], [], len(read_index(files[1])))


def test_an_index_that_we_wrote_before_is_read(tmp_path: Path) -> None:
    """With matrices for poses and intrinsics, and a view for each frame."""
    index = pickle.loads((street() / INDEX).read_bytes())
    for clip in index["clips"]:
        frames = range(clip["clip_len_frames"])
        clip["intrinsics"] = {name: np.eye(3).tolist() for name in clip["intrinsics"]}
        clip["extrinsics"]["lidar"] = [np.eye(4).tolist() for _ in frames]
        clip["views"] = [{"camera": "front_camera", "frame_index": frame, "role": "input"} for frame in frames]
    (tmp_path / "earlier.pkl").write_bytes(pickle.dumps(index))
    assert read_index(tmp_path / "earlier.pkl") == read_index(street() / INDEX)


def test_equal_clips_have_one_digest_whenever_their_index_was_written(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("full.pkl", "tiny.pkl", "report.json")]
    make_index(street(), *files, IndexOptions(), Job())
    index = pickle.loads(files[0].read_bytes())
    index["meta"]["created_at"] = "2001-01-01T00:00:00Z"
    (tmp_path / "later.pkl").write_bytes(pickle.dumps(index))
    clips = read_index(street() / INDEX)
    assert clips_digest(read_index(tmp_path / "later.pkl")) == clips_digest(clips)
    changed = Clip(**vars(clips[0]) | {"inputs": clips[0].inputs[1:]})
    assert clips_digest([changed, *clips[1:]]) != clips_digest(clips)
