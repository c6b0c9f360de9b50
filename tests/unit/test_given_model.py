"""Poses that come with the photos are checked and used as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from support.poses import MODEL_FILES, published, solve, write_noise
from support.scenes import arc, colmap_model, write_model

from splatdag.workflow.errors import UserError

NAMES = ["0.jpg", "1.jpg", "2.jpg"]  # those of the `photos` fixture


def given_model() -> pycolmap.Reconstruction:
    rng = np.random.default_rng(3)
    poses = dict(zip(NAMES, arc(3), strict=True))
    camera = pycolmap.Camera(model="OPENCV", width=32, height=24, params=[30.1, 30.2, 16, 12, 0.01, 0.02, 1e-3, -1e-3])
    return colmap_model(poses, camera, rng.normal(size=(20, 3)), rng.integers(0, 255, (20, 3)))


@pytest.fixture
def dataset(photos: Path, tmp_path: Path) -> Path:
    """A COLMAP dataset whose model is still to be written."""
    photos.rename(tmp_path / "images")
    return tmp_path


@pytest.mark.parametrize("kind", ["bin", "txt"])
@pytest.mark.parametrize("folder", ["sparse", "sparse/0"])
def test_a_given_model_is_used_as_it_is(dataset: Path, folder: str, kind: str) -> None:
    source = pycolmap.Reconstruction(str(write_model(dataset / folder, given_model(), kind)))
    solve(dataset, dataset / "out" / "registration.json")
    assert published(dataset / "out") == [
        "registration.json", "registration.txt", *(f"sparse/0/{name}" for name in MODEL_FILES),
    ]  # fmt: skip
    used = pycolmap.Reconstruction(str(dataset / "out" / "sparse" / "0"))
    assert used.reg_image_ids() == source.reg_image_ids()
    for index, image in source.images.items():
        assert used.images[index].name == image.name
        expected, found = image.cam_from_world(), used.images[index].cam_from_world()
        np.testing.assert_array_equal(found.rotation.quat, expected.rotation.quat)
        np.testing.assert_array_equal(found.translation, expected.translation)
    assert set(used.points3D) == set(source.points3D)
    for index, point in source.points3D.items():
        np.testing.assert_array_equal(used.points3D[index].xyz, point.xyz)
        np.testing.assert_array_equal(used.points3D[index].color, point.color)
        assert used.points3D[index].track.length() == point.track.length()
    np.testing.assert_array_equal(used.cameras[1].params, source.cameras[1].params)


def test_the_model_can_be_read_without_colmap_s_newer_files(dataset: Path) -> None:
    """Older readers know cameras, images and points only; poses must not hang on frames.bin."""
    write_model(dataset / "sparse", given_model())
    solve(dataset, dataset / "out" / "registration.json")
    alone = pycolmap.Reconstruction(str(dataset / "out" / "sparse" / "0"))
    assert not (dataset / "out" / "sparse" / "0" / "frames.bin").exists()
    for name, expected in zip(NAMES, arc(3), strict=True):
        matrix = alone.find_image_with_name(name).cam_from_world().matrix()
        np.testing.assert_allclose(matrix, expected[:3], atol=1e-12)


def test_the_report_counts_what_the_model_holds_and_names_what_it_lacks(dataset: Path) -> None:
    write_model(dataset / "sparse" / "0", given_model())
    write_noise(dataset / "images" / "extra.jpg", 0, (24, 32))
    facts = solve(dataset, dataset / "out" / "registration.json")
    assert facts.pop("seconds") >= 0
    assert facts == {
        "source": "given",
        "photos": 4,
        "registered": 3,
        "not_registered": ["extra.jpg"],
        "points": 20,
        "mean_reprojection_error_px": 0.0,
        "mean_track_length": 3.0,
        "cameras": [
            {"model": "OPENCV", "width": 32, "height": 24, "params": [30.1, 30.2, 16, 12, 0.01, 0.02, 1e-3, -1e-3]}
        ],
    }
    text = (dataset / "out" / "registration.txt").read_text()
    assert "registered 3 of 4 photos (given poses)" in text
    assert "20 points, seen in 3.0 photos on average" in text
    assert "camera OPENCV 32×24: 30.1, 30.2, 16, 12, 0.01, 0.02, 0.001, -0.001" in text
    assert "not registered: extra.jpg" in text


def test_a_model_of_photos_that_are_not_there_lists_them_and_publishes_nothing(dataset: Path) -> None:
    write_model(dataset / "sparse" / "0", given_model())
    for name in ("0.jpg", "2.jpg"):
        (dataset / "images" / name).unlink()
    with pytest.raises(UserError, match=r"^2 photos of the COLMAP model are not in .*images: 0\.jpg, 2\.jpg$"):
        solve(dataset, dataset / "out" / "registration.json")
    assert published(dataset / "out") == []


def test_a_damaged_given_model_is_an_error_and_not_replaced_by_an_estimate(dataset: Path) -> None:
    write_model(dataset / "sparse" / "0", given_model())
    path = dataset / "sparse" / "0" / "images.bin"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"images\.bin: damaged or cut short"):
        solve(dataset, dataset / "out" / "registration.json")
    assert published(dataset / "out") == []


def test_one_registered_photo_is_too_few(dataset: Path) -> None:
    model = given_model()
    for index in (2, 3):
        model.deregister_frame(model.images[index].frame_id)
    write_model(dataset / "sparse" / "0", model)
    with pytest.raises(UserError, match="only one registered image"):
        solve(dataset, dataset / "out" / "registration.json")


def test_a_given_fisheye_camera_is_refused_before_anything_is_published(dataset: Path) -> None:
    camera = pycolmap.Camera(model="THIN_PRISM_FISHEYE", width=32, height=24, params=[30, 30, 16, 12] + [0.0] * 8)
    poses = dict(zip(NAMES, arc(3), strict=True))
    write_model(dataset / "sparse" / "0", colmap_model(poses, camera, np.zeros((1, 3)), np.zeros((1, 3))))
    with pytest.raises(UserError, match=r"0\.jpg: camera model THIN_PRISM_FISHEYE is not supported; undistort"):
        solve(dataset, dataset / "out" / "registration.json")
    assert published(dataset / "out") == []
