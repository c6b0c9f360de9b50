"""Recordings of the human trainer's results, read back."""

from __future__ import annotations

import io
import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image
from support.human_trees import EPOCHS, FRAMES, record, run_of
from support.rrd import contents, entities, layout, rerun, views

from splatdag.humans.record_epoch import main
from splatdag.recording.options import RecordingOptions
from splatdag.samples.humans_options import HUMANS_RUN
from splatdag.workflow.stage import Job

LOOP_ALL, PLAYING = 3, 2


def pixels(blob):
    return np.asarray(Image.open(io.BytesIO(bytes(blob))))


def blobs(rows):
    """JPEG files of an entity."""
    return [bytes(row[0]) for row in rows["EncodedImage:blob"]]


@pytest.mark.parametrize("task", EPOCHS)
def test_a_recording_is_valid_plays_at_20_frames_a_second_in_a_loop_and_is_the_same_again(shared_tree, tmp_path, task):
    first, again = (tmp_path / name for name in ("first.rrd", "again.rrd"))
    for out in (first, again):
        main(run_of(shared_tree), task, EPOCHS[task], out, shared_tree / "scenes", RecordingOptions(), Job())
    assert rerun("verify", first).returncode == 0
    assert rerun("compare", "--unordered", first, again).returncode == 0
    assert contents(first) == contents(again)
    panel = layout(first)["time_panel"]
    assert (panel["fps"], panel["loop_mode"], panel["play_state"]) == (20.0, LOOP_ALL, PLAYING)
    assert panel["timeline"] == "frame"
    timelines = {name for rows in entities(first).values() for name in rows if ":" not in name}
    assert timelines == {"frame"}, "no time of day"


def test_novel_views_are_prediction_beside_ground_truth_with_the_source_camera_visible(tree):
    path = record(tree, "nvs")
    origins = {f"cam_{camera}": f"evaluation/epoch_0015/nvs/cam_{camera}/pred_gt" for camera in (4, 28, 52)}
    assert views(path) == {name: (origin, name == "cam_28") for name, origin in origins.items()}
    found = entities(path)
    folder = run_of(tree) / "evaluation" / "epoch_0015" / "nvs"
    for camera, origin in origins.items():
        rows = found[origin]
        assert rows["frame"] == FRAMES
        for frame, blob in zip(FRAMES, blobs(rows), strict=True):
            parts = [folder / side / camera / "metrics_input" / f"{frame:06d}.jpg" for side in ("pred", "gt_inputs")]
            wanted = np.hstack([np.asarray(Image.open(part)) for part in parts]).astype(float)
            assert np.abs(pixels(blob) - wanted).mean() < 4


@pytest.mark.parametrize(
    ("scene", "manifest", "visible"),
    [
        ({"cam_id": 52}, {"source_camera_id": 4}, "cam_52"),
        (None, {"source_camera_id": 52}, "cam_52"),
        ({"cam_id": 99}, None, "cam_4"),
        (None, None, "cam_4"),
    ],
)
def test_the_source_camera_is_that_of_the_scene_else_of_the_manifest_else_the_first(tree, scene, manifest, visible):
    for path, content in (
        (tree / "scenes" / f"{HUMANS_RUN[0]}.json", scene),
        (run_of(tree) / "manifest.json", manifest),
    ):
        path.unlink()
        if content is not None:
            path.write_text(json.dumps(content))
    assert [name for name, (_, shown) in views(record(tree, "nvs")).items() if shown] == [visible]


def test_poses_are_meshes_of_everyone_twice_in_two_worlds_and_the_source_view(tree):
    path = record(tree, "pose")
    top = "evaluation/epoch_0015/pose_smplx"
    assert views(path) == {
        "root-aligned": (f"{top}/root_aligned", True),
        "world-aligned": (f"{top}/world_aligned", False),
        "source view: cam_28": (f"{top}/source_view/rgb", True),
    }
    found = entities(path)
    colors = {"pred": [(199, 129, 0), (255, 165, 0)], "gt_inputs": [(0, 156, 0), (0, 200, 0)]}
    folder = run_of(tree) / "evaluation" / "epoch_0015" / "pose_smplx"
    for aligned in ("root_aligned", "world_aligned"):
        for side, of_people in colors.items():
            for person, color in enumerate(of_people):
                rows = found[f"{top}/{aligned}/{side}/meshes/person_{person:02d}"]
                assert rows["frame"] == FRAMES
                value = rows["Mesh3D:albedo_factor"][0][0]
                assert tuple(value >> shift & 255 for shift in (24, 16, 8, 0)) == (*color, 255)
                obj = folder / side / aligned / "posed_smplx_meshes_per_frame" / str(person) / "000003.obj"
                lines = [line.split() for line in obj.read_text().splitlines()]
                wanted = np.array([line[1:] for line in lines if line[0] == "v"], np.float32)
                np.testing.assert_array_equal(np.array(rows["Mesh3D:vertex_positions"][2], np.float32), wanted)
                triangles = np.array([line[1:] for line in lines if line[0] == "f"], int) - 1
                np.testing.assert_array_equal(rows["Mesh3D:triangle_indices"][0], triangles)
                assert len(rows["Mesh3D:triangle_indices"]) == 1, "once, not for every frame"
    camera = found[f"{top}/world_aligned/source_camera"]
    given = np.load(folder / "viz" / "all_cameras" / "28" / "000001.npz")
    rotation = np.array(camera["Transform3D:mat3x3"][0][0]).reshape(3, 3).T  # columns in the file
    center = np.array(camera["Transform3D:translation"][0][0])
    np.testing.assert_allclose(given["extrinsics"][0, :, :3] @ rotation, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(given["extrinsics"][0] @ [*center, 1], 0, atol=1e-6)
    photos = [folder / "viz" / "images" / "28" / f"{frame:06d}.jpg" for frame in FRAMES]
    assert blobs(found[f"{top}/source_view/rgb"]) == [photo.read_bytes() for photo in photos], "the files themselves"


def test_the_root_aligned_view_begins_with_everyone_in_sight_upright(tree):
    path = record(tree, "pose")
    [eye] = [value for name, value in layout(path).items() if name.endswith("EyeControls3D")]
    position, up = np.array(eye["position"]), np.array(eye["eye_up"])
    forward = np.array(eye["look_target"]) - position
    rows = [rows for name, rows in entities(path).items() if "/root_aligned/" in name and "/meshes/" in name]
    assert len(rows) == 4
    seen = np.concatenate([np.reshape(frame, (-1, 3)) for row in rows for frame in row["Mesh3D:vertex_positions"]])
    directions = (seen - position) / np.linalg.norm(seen - position, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(directions @ forward / np.linalg.norm(forward)))
    assert 10 < angles.max() < 27.5, "the viewer's eye sees 55 degrees"
    assert up[1] > 0.9, "the sample's y points up"


def test_training_views_are_the_world_beside_triplets_and_their_parts(tree):
    levels = np.full((64, 144, 3), 120, np.uint8)
    levels[:, :48], levels[:, 96:] = 20, 220
    whole = run_of(tree) / "input_data/train/misc/nv_generation/est_images_debug/101/000002.png"
    Image.fromarray(levels).save(whole)
    path = record(tree, "trn_nv_generation")
    top = "trn_nv_generation/epoch_0016"
    parts = ("triplet", "reference", "rendered", "refined")
    assert views(path) == {
        "world": (f"{top}/world", True),
        **{f"{part}, cam_{c}": (f"{top}/debug/cam_{c}/{part}", True) for c in (100, 101) for part in parts},
    }
    found = entities(path)
    assert found[f"{top}/world/meshes/person_01"]["frame"] == FRAMES
    for camera in ("028", "100", "101"):
        assert "Pinhole:image_from_camera" in found[f"{top}/world/cameras/cam_{camera}"]
        assert found[f"{top}/world/cameras/cam_{camera}/image"]["frame"] == FRAMES
    debug = found[f"{top}/debug/cam_101/triplet"]
    assert [pixels(blob).shape for blob in blobs(debug)] == [(64, 144, 3)] * 3
    for part, level in zip(parts[1:], (20, 120, 220), strict=True):
        assert np.abs(pixels(blobs(found[f"{top}/debug/cam_101/{part}"])[1]).astype(float) - level).max() < 5


def test_triplets_of_many_cameras_are_in_two_columns(tree):
    train = run_of(tree) / "input_data" / "train"
    for folder in (train / "misc/nv_generation/est_images_debug", train / "all_cameras"):
        for camera in (102, 103):
            shutil.copytree(folder / "100", folder / str(camera))
    [triplets] = [box for box in layout(record(tree, "trn_nv_generation")).values() if "grid_columns" in box]
    assert (triplets["display_name"], triplets["grid_columns"]) == ("triplets", 2)


def test_triplets_that_cannot_be_divided_are_recorded_whole(tree):
    folder = run_of(tree) / "input_data/train/misc/nv_generation/est_images_debug/100"
    for path in folder.iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path))[:, :-1])
    path = record(tree, "trn_nv_generation")
    assert {name for name in views(path) if "cam_100" in name} == {"triplet, cam_100"}
    assert "refined, cam_101" in views(path)


def test_a_moving_camera_is_recorded_for_every_frame(tree):
    folder = run_of(tree) / "evaluation/epoch_0015/pose_smplx/viz/all_cameras/28"
    with np.load(folder / "000003.npz") as given:
        np.savez(folder / "000003.npz", intrinsics=given["intrinsics"], extrinsics=given["extrinsics"] + 0.25)
    camera = entities(record(tree, "pose"))["evaluation/epoch_0015/pose_smplx/world_aligned/source_camera"]
    assert camera["frame"] == FRAMES
    first, _, last = camera["Transform3D:translation"]
    assert first != last


def test_pictures_are_smaller_and_fewer_when_asked_for(tree):
    origin = "evaluation/epoch_0015/nvs/cam_4/pred_gt"
    full = entities(record(tree, "nvs"))[origin]
    small = entities(record(tree, "nvs", downscale=2, frame_stride=2))[origin]
    assert small["frame"] == [1, 3]
    assert pixels(blobs(full)[0]).shape == (64, 96, 3)
    assert pixels(blobs(small)[0]).shape == (32, 48, 3)
    rgb = "evaluation/epoch_0015/pose_smplx/source_view/rgb"
    assert pixels(blobs(entities(record(tree, "pose", downscale=2))[rgb])[0]).shape == (32, 24, 3)


def test_an_epoch_may_be_given_by_its_number(tree):
    assert "evaluation/epoch_0000/nvs/cam_4/pred_gt" in entities(record(tree, "nvs", "0"))
