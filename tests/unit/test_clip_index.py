"""Clip indices: which clips are cut, what is left out and why, and indices that others wrote."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import pytest
import yaml
from support.pandaset_logs import all_names, write_json, write_metadata
from support.processes import run_module

from splatdag.driving.clips import index_split
from splatdag.driving.clips.clips import Clip, read_index
from splatdag.driving.clips.index import main
from splatdag.driving.options import IndexOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.options import validated
from splatdag.workflow.stage import Job


def indexed(tmp_path, **options):
    full, tiny, report = (tmp_path / name for name in ("full.pkl", "tiny.pkl", "report.json"))
    main(tmp_path / "data", full, tiny, report, IndexOptions(**options), Job())
    return full, tiny, json.loads(report.read_text())


@pytest.fixture
def two_logs(tmp_path):
    """The first test log of the paper, and one to train on."""
    return [write_metadata(tmp_path / "data", name) for name in ("001", "002")]


def test_the_paper_s_clips(tmp_path, two_logs):
    full, tiny, report = indexed(tmp_path)
    clips = read_index(full)
    assert Counter((clip.scene_id, clip.split, clip.setting) for clip in clips) == {
        ("001", "test", "eval_future"): 4,
        ("002", "train", "train_interpolation"): 12,
        ("002", "train", "train_future"): 6,
    }
    assert [clip.start for clip in clips if clip.split == "test"] == [0, 20, 40, 60]
    assert {clip.inputs for clip in clips} == {(0, 2, 4, 6, 8, 10)}
    assert clips[0].targets == (1, 3, 5, 7, 9, 11, 12, 13, 14, 15)
    assert clips[0].clip_id == "001_eval_future_s000_e015"
    assert read_index(tiny) == clips == read_index(full.with_suffix(".jsonl"))
    assert (report["clips"], report["left_out"]) == (22, [])


def test_all_103_logs_have_1714_clips():
    starts = {"test": [range(0, 65, 20)], "train": [range(0, 70, 6), range(0, 65, 11)]}
    from splatdag.driving.clips.clips import PAPER_EVALUATION, PAPER_TRAINING
    from splatdag.driving.targets import TEST_LOGS

    assert [setting.starts(80) for setting in PAPER_EVALUATION] == starts["test"]
    assert [setting.starts(80) for setting in PAPER_TRAINING] == starts["train"]
    names = all_names()
    assert len(names) == 103
    tests = sum(name in TEST_LOGS for name in names)
    assert 4 * tests + 18 * (len(names) - tests) == 1714


def test_the_fields_of_the_old_index(tmp_path, two_logs):
    full, _, _ = indexed(tmp_path)
    index = pickle.loads(full.read_bytes())
    assert index["meta"]["coord"]["pose_convention"] == "sensor_to_world"
    assert (index["meta"]["total_clips"], index["meta"]["test_scenes"]) == (22, ["001"])
    clip = index["clips"][1]
    assert clip["image_paths"]["front_camera"][0] == "001/camera/front_camera/20.jpg"
    assert clip["lidar_paths"][15] == "001/lidar/35.pkl.gz"
    assert (clip["frame_start"], clip["frame_end"], clip["input_frame_ids"][:2]) == (20, 35, [20, 22])
    assert clip["fps_actual"] == pytest.approx(10, rel=1e-6)
    assert len(clip["timestamps"]["camera"]["front_camera"]) == len(clip["extrinsics"]["lidar"]) == 16


@pytest.mark.parametrize(
    ("options", "tests", "tiny"),
    [
        ({}, {"001"}, {"001", "002"}),
        ({"val_scenes": "003,002"}, {"002", "003"}, {"001", "002"}),
        ({"val_num_scenes": 2}, {"001", "003"}, {"001", "002"}),
        ({"tiny_scenes": "003"}, {"001"}, {"003"}),
        ({"tiny_num_scenes": 1, "max_scenes": 2}, {"001"}, {"001"}),
    ],
)
def test_which_logs_are_for_tests_and_which_are_tiny(tmp_path, two_logs, options, tests, tiny):
    write_metadata(tmp_path / "data", "003")
    full, few, _ = indexed(tmp_path, **options)
    assert {clip.scene_id for clip in read_index(full) if clip.split == "test"} == tests
    assert {clip.scene_id for clip in read_index(few)} == tiny


@pytest.mark.parametrize("given", ["[011, 016]", "011"])
def test_names_that_yaml_takes_for_numbers_are_refused(given):
    """011 is 9 to YAML, so another log would be meant."""
    with pytest.raises(UserError, match="index.val_scenes: write names in quotes"):
        validated(IndexOptions, yaml.safe_load(f"val_scenes: {given}"), "index")
    quoted = "[" + ", ".join(f"'{word.strip()}'" for word in given.strip("[]").split(",")) + "]"
    found = validated(IndexOptions, yaml.safe_load(f"val_scenes: {quoted}"), "index")
    assert found.val_scenes[0] == "011"
    assert validated(IndexOptions, yaml.safe_load("val_scenes: 158"), "index").val_scenes == ("158",)


def test_clips_of_a_length_in_seconds(tmp_path, two_logs):
    full, _, _ = indexed(tmp_path, preset="debug", clip_len_s=1.0, stride_s=2.0)
    clips = [clip for clip in read_index(full) if clip.scene_id == "002"]
    assert ([clip.start for clip in clips], clips[0].inputs, clips[0].targets) == (
        [0, 20, 40, 60],
        (0, 2, 4, 6, 8),
        (1, 3, 5, 7, 9),
    )


def cut_list(log):
    path = log / "camera" / "front_camera" / "timestamps.json"
    write_json(path, json.loads(path.read_text())[:70])


def nan_pose(log):
    poses = json.loads((log / "lidar" / "poses.json").read_text())
    poses[76]["heading"] = dict.fromkeys("wxyz", 0)
    write_json(log / "lidar" / "poses.json", poses)


BROKEN = {
    "no image": (lambda log: (log / "camera" / "front_camera" / "76.jpg").unlink(), "no image of front_camera", 1),
    "short list": (cut_list, "front_camera: timestamps.json or poses.json is too short", 2),
    "pose": (nan_pose, "lidar/poses.json or timestamps.json has a value that is no number", 1),
    "no table": (lambda log: (log / "lidar" / "00.pkl.gz").unlink(), "no lidar/00.pkl.gz", 2),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_clip_that_cannot_be_used_is_left_out_and_counted(tmp_path, two_logs, name):
    breaks, reason, count = BROKEN[name]
    breaks(two_logs[1])
    full, _, report = indexed(tmp_path)
    assert report["reasons"] == {reason: len(report["left_out"])}
    assert all(left["what"].startswith("002_train_") for left in report["left_out"])
    assert len(report["left_out"]) >= count
    assert len(read_index(full)) == 22 - len(report["left_out"])
    with pytest.raises(UserError, match=reason):
        indexed(tmp_path, strict=True)


def test_a_log_that_cannot_be_read_is_left_out(tmp_path, two_logs):
    (two_logs[1] / "lidar" / "poses.json").write_text("[")
    full, _, report = indexed(tmp_path)
    assert {clip.scene_id for clip in read_index(full)} == {"001"}
    assert [left["what"] for left in report["left_out"]] == ["002"]


def test_a_log_of_another_rate_is_left_out_unless_its_own_is_asked_for(tmp_path, two_logs):
    path = two_logs[1] / "lidar" / "timestamps.json"
    write_json(path, [1557539924.5 + frame / 8 for frame in range(80)])
    full, _, report = indexed(tmp_path)
    assert report["reasons"] == {"8.00 frames a second, not 10": 1}
    full, _, report = indexed(tmp_path, target_fps=0)
    assert report["left_out"] == []
    assert len(read_index(full)) == 22


def test_nothing_usable_is_an_error(tmp_path, two_logs):
    for log in two_logs:
        (log / "camera" / "front_camera" / "intrinsics.json").unlink()
    with pytest.raises(UserError, match=r"no clip can be used: no camera front_camera \(22\)"):
        indexed(tmp_path)


def test_an_index_of_the_old_scripts_is_read(tmp_path):
    """With numpy numbers and paths, poses in another form, and without most of our fields."""
    import numpy as np

    clip = {
        "clip_id": "002_train_interpolation_s006_e016", "scene_id": "002", "split": "train",
        "setting": "train_interpolation", "fps": np.float64(10), "frame_start": np.int64(6), "frame_end": 16,
        "input_frame_indices": np.array([0, 2, 4]), "target_frame_indices": [1, 3], "frame_ids": list(range(6, 17)),
        "intrinsics": {"front_camera": {"fx": 1.0}}, "image_paths": {"front_camera": []}, "views": [],
    }  # fmt: skip
    (tmp_path / "old.pkl").write_bytes(pickle.dumps({"meta": {"data_root": tmp_path}, "clips": [clip]}, protocol=4))
    expected = Clip(
        "002_train_interpolation_s006_e016",
        "002",
        "train",
        "train_interpolation",
        6,
        11,
        (0, 2, 4),
        (1, 3),
        ("front_camera",),
    )
    assert read_index(tmp_path / "old.pkl") == [expected]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([], "no index of clips"),
        ({"clips": []}, "no clips"),
        ({"clips": [{"clip_id": "a"}]}, "clip 0: no clip .KeyError"),
        ({"clips": [3]}, "clip 0: no clip .TypeError"),
    ],
)
def test_what_is_no_index_is_refused(tmp_path, index, message):
    (tmp_path / "index.pkl").write_bytes(pickle.dumps(index))
    with pytest.raises(UserError, match=message):
        read_index(tmp_path / "index.pkl")


def test_the_command_line_takes_the_old_flags(tmp_path, two_logs):
    flags = ["--preset", "debug", "--clip-len-s", "1.5", "--stride-s", "1.5"]
    flags += ["--tiny-scenes", "002", "--val-scenes", "001"]
    files = [
        f"--{name}={tmp_path / path}" for name, path in (("out-full", "f.pkl"), ("out-tiny", "t.pkl"), ("report", "r"))
    ]
    flags += ["--data-root", tmp_path / "data", "--camera-names", "front_camera,back_camera"]
    done = run_module("splatdag.driving.clips.index", *files, *flags)
    assert done.returncode == 0, done.stderr
    assert {clip.cameras for clip in read_index(tmp_path / "t.pkl")} == {("front_camera", "back_camera")}
    assert {clip.scene_id for clip in read_index(tmp_path / "t.pkl")} == {"002"}


def test_the_clips_of_a_split_are_those_of_the_whole_index(tmp_path, two_logs):
    full, _, _ = indexed(tmp_path)
    for split, scene in (("train", "002"), ("test", "001")):
        out, report = tmp_path / f"{split}.pkl", tmp_path / f"{split}.json"
        index_split.main(tmp_path / "data", split, (scene,), out, report, IndexOptions(), Job())
        assert read_index(out) == [clip for clip in read_index(full) if clip.split == split]
        assert json.loads(report.read_text())["clips"] == len(read_index(out))
    with pytest.raises(UserError, match="no test log; driving.index.val_scenes names the logs to measure on"):
        index_split.main(tmp_path / "data", "test", (), out, report, IndexOptions(), Job())
