"""transforms.json of nerfstudio and instant-ngp gives the cameras it means."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import plyfile
import pycolmap
import pytest
from support.transforms import NERFSTUDIO, POSES, opengl, write

from splatdag.captures import pose
from splatdag.captures.options import PoseOptions
from splatdag.formats.photoset import PhotoSet
from splatdag.formats.transforms_model import posed_model
from splatdag.samples.room import make_room
from splatdag.scene.load import Scene
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job

POINTS = np.array([[0.1, 0.2, 0.3], [-0.4, 0.5, -0.6]])


def changed(folder: Path, change: Any) -> Path:
    content = json.loads((folder / "transforms.json").read_text())
    change(content)
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def posed(folder: Path) -> pycolmap.Reconstruction:
    return posed_model(PhotoSet(folder).transforms)


@pytest.mark.parametrize(("applied", "scale"), [(None, None), (NERFSTUDIO, None), (NERFSTUDIO, 0.25)])
def test_poses_are_those_of_the_original_world(tmp_path: Path, applied: list | None, scale: float | None) -> None:
    model = posed(write(tmp_path, applied, scale))
    for index, expected in enumerate(POSES):
        found = model.find_image_with_name(f"images/{index}.png").cam_from_world().matrix()
        np.testing.assert_allclose(found, expected[:3], atol=1e-9)


def test_points_of_the_ply_file_share_the_world_of_the_poses(tmp_path: Path) -> None:
    write(tmp_path, NERFSTUDIO, ply_file_path="points.ply")
    saved = POINTS @ np.array(NERFSTUDIO, float)[:, :3].T
    kinds = [(axis, "f4") for axis in "xyz"] + [(channel, "u1") for channel in ("red", "green", "blue")]
    vertices = np.array([(*point, 10, 20, 30) for point in saved], dtype=kinds)
    plyfile.PlyData([plyfile.PlyElement.describe(vertices, "vertex")]).write(str(tmp_path / "points.ply"))
    out = tmp_path / "out" / "registration.json"
    pose.main(tmp_path, out, PoseOptions(), Job())
    assert json.loads(out.read_text())["source"] == "transforms.json"
    scene = Scene(out.parent / "sparse" / "0", PhotoSet(tmp_path))
    np.testing.assert_allclose(np.sort(scene.points, axis=0), np.sort(POINTS, axis=0), atol=1e-6)
    np.testing.assert_allclose(scene.colors, np.tile([10, 20, 30], (2, 1)) / 255)
    assert scene.names == [f"images/{index}.png" for index in range(3)]
    np.testing.assert_allclose(scene.load(scene.names, threads=1).views[0].K, [[35, 0, 19], [0, 36, 16], [0, 0, 1]])


def test_intrinsics_for_another_size_are_scaled_to_the_photos(tmp_path: Path) -> None:
    model = posed(write(tmp_path, w=80.0, h=60.0))
    (camera,) = model.cameras.values()
    assert (camera.width, camera.height) == (40, 30)
    np.testing.assert_allclose(camera.params, [17.5, 18, 9.5, 8])


@pytest.mark.parametrize(
    ("values", "model"),
    [
        ({"k1": 0.1, "p2": 0.01}, "OPENCV"),
        ({"k1": 0.1, "k2": 0.02, "k3": 0.03, "k4": 0.04, "p1": 0.001}, "FULL_OPENCV"),
        ({}, "PINHOLE"),
    ],
)
def test_distortion_is_opencv_s(tmp_path: Path, values: dict[str, float], model: str) -> None:
    (camera,) = posed(write(tmp_path, **values)).cameras.values()
    assert camera.model.name == model
    k1, k2, k3, k4, p1, p2 = (values.get(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    ray = np.array([[0.3, -0.2, 1.0]])
    K = np.array([[35.0, 0, 19], [0, 36, 16], [0, 0, 1]])
    expected, _ = cv2.projectPoints(ray, np.zeros(3), np.zeros(3), K, np.array([k1, k2, p1, p2, k3, k4, 0, 0]))
    np.testing.assert_allclose(np.asarray(camera.img_from_cam(ray)).ravel(), expected.ravel(), atol=1e-6)


def test_blender_s_angle_and_names_without_suffix_are_understood(tmp_path: Path) -> None:
    def as_blender(content: dict[str, Any]) -> None:
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            del content[key]
        content["camera_angle_x"] = 0.9
        for frame in content["frames"]:
            frame["file_path"] = frame["file_path"].removesuffix(".png")

    model = posed(changed(write(tmp_path), as_blender))
    (camera,) = model.cameras.values()
    focal = 20 / math.tan(0.45)
    np.testing.assert_allclose(camera.params, [focal, focal, 20, 15])


def test_a_frame_may_have_its_own_camera(tmp_path: Path) -> None:
    model = posed(changed(write(tmp_path), lambda content: content["frames"][1].update(fl_x=50.0)))
    focal = {image.name: model.cameras[image.camera_id].params[0] for image in model.images.values()}
    assert focal == {"images/0.png": 35, "images/1.png": 50, "images/2.png": 35}


def test_frames_without_photos_are_left_out(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images" / "1.png").unlink()
    assert PhotoSet(tmp_path).names == ["images/0.png", "images/2.png"]
    assert posed(tmp_path).num_reg_images() == 2


def wrong(key: str, value: Any) -> Any:
    return lambda content: content["frames"][1].update({key: value})


NAN = opengl(POSES[1]).tolist()
NAN[0][3] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wrong("transform_matrix", NAN), r"images/1\.png: transform_matrix: not finite"),
        (wrong("transform_matrix", np.diag([1, 1, 2, 1]).tolist()), r"images/1\.png: .* not rigid"),
        (wrong("transform_matrix", np.diag([1, 1, -1, 1]).tolist()), r"images/1\.png: .* not rigid"),
        (wrong("transform_matrix", [[1, 2]]), r"images/1\.png: .*expected 4 rows of 4 numbers"),
        (wrong("camera_model", "OPENCV_FISHEYE"), r"images/1\.png: camera_model OPENCV_FISHEYE .*undistort"),
        (wrong("fl_x", -3), r"images/1\.png: .*no focal length"),
        (wrong("w", 30), r"images/1\.png: the photo is 40×30 pixels, but its camera has w 30, h 30"),
        (wrong("k1", "0.1"), r"images/1\.png: k1 is '0\.1', expected a number"),
        (wrong("file_path", "images/0.png"), r"images/0\.png is in two frames"),
        (wrong("file_path", "../1.png"), r"frames\[1\]: file_path \.\./1\.png lies outside"),
        (wrong("mask_path", "m.png"), r"frames\[1\]: no such mask"),
        (lambda content: content.update(frames=[]), "no frames"),
        (lambda content: content.update(ply_file_path="x.ply"), r"no such file: .*x\.ply"),
        (lambda content: content.update(applied_transform=[[1, 0, 0, 0]] * 3), "applied_transform is no rotation"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_frame(tmp_path: Path, change: Any, message: str) -> None:
    changed(write(tmp_path), change)
    with pytest.raises(UserError, match=message) as caught:
        pose.main(tmp_path, tmp_path / "out" / "registration.json", PoseOptions(), Job())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_digest_covers_cameras_photos_and_masks_named_in_the_file(tmp_path: Path) -> None:
    write(tmp_path)
    cv2.imwrite(str(tmp_path / "m.png"), np.full((30, 40), 255, np.uint8))
    (tmp_path / "images" / "stray.png").write_bytes(b"not in the file")
    PhotoSet(tmp_path).check("row 1")
    seen = [PhotoSet(tmp_path).digest(tmp_path / "cache")]
    for change in (wrong("mask_path", "m.png"), lambda content: content.update(k1=0.1)):
        changed(tmp_path, change)
        seen.append(PhotoSet(tmp_path).digest(tmp_path / "cache"))
    for name in ("m.png", "images/1.png"):
        cv2.imwrite(str(tmp_path / name), np.full((30, 40), 200, np.uint8))
        seen.append(PhotoSet(tmp_path).digest(tmp_path / "cache"))
    assert len(set(seen)) == 5
    (tmp_path / "images" / "stray.png").unlink()
    assert PhotoSet(tmp_path).digest(tmp_path / "cache") == seen[-1]


@pytest.mark.slow
def test_points_are_triangulated_between_fixed_cameras(tmp_path: Path) -> None:
    make_room(tmp_path, 240, 180, photos=8)
    truth = json.loads((tmp_path / "cameras.json").read_text())
    poses = {f"images/{photo['name']}": np.array(photo["world_to_camera"]) for photo in truth["photos"]}
    frames = [{"file_path": name, "transform_matrix": opengl(matrix).tolist()} for name, matrix in poses.items()]
    names = {"fx": "fl_x", "fy": "fl_y", "cx": "cx", "cy": "cy", "width": "w", "height": "h"}
    content = {new: truth[old] for old, new in names.items()} | {"k1": truth["distortion"][0], "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    out = tmp_path / "out" / "registration.json"
    pose.main(tmp_path, out, PoseOptions(), Job())
    model = pycolmap.Reconstruction(str(out.parent / "sparse" / "0"))
    assert model.num_points3D() > 100
    assert model.compute_mean_reprojection_error() < 1
    for name, matrix in poses.items():
        found = model.find_image_with_name(name).cam_from_world().matrix()
        np.testing.assert_allclose(found, matrix[:3], atol=1e-9)
    xyz = np.array([point.xyz for point in model.points3D.values()])
    assert (np.abs(np.median(xyz, axis=0)) < 3).all()  # metres: inside the room
