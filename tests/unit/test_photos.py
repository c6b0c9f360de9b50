"""Photos and COLMAP models become views, and every wrong input is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image
from support.photosets import colours, dataset, loaded, pinhole, scene_of, white, write_mask
from support.scenes import arc, colmap_model, write_model

from splatdag.formats.images import read_pixels
from splatdag.workflow.errors import UserError


def test_a_missing_photo_is_named(tmp_path: Path) -> None:
    dataset(tmp_path, {"a.png": white(), "b.png": white()}, pinhole())
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(UserError, match=r"images/b\.png.*no such photo"):
        loaded(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no photo", b"\x89PNG\r\n\x1a\n"])
def test_a_photo_that_is_not_one_is_named(tmp_path: Path, content: bytes) -> None:
    dataset(tmp_path, {"a.png": white(), "b.png": white()}, pinhole())
    (tmp_path / "images" / "b.png").write_bytes(content)
    with pytest.raises(UserError, match=r"images/b\.png.*can't be decoded"):
        loaded(tmp_path)


def test_a_photo_of_another_size_than_its_camera_is_named(tmp_path: Path) -> None:
    dataset(tmp_path, {"a.png": white(), "b.png": np.zeros((20, 30, 3), np.uint8)}, pinhole())
    with pytest.raises(UserError, match=r"b\.png.*30×20.*200×150"):
        loaded(tmp_path)


def test_a_pose_that_is_not_finite_names_its_photo(tmp_path: Path) -> None:
    dataset(tmp_path, {"a.png": white(), "b.png": white()}, pinhole())
    model = pycolmap.Reconstruction(str(tmp_path / "model"))
    lost = model.images[2].frame
    lost.set_cam_from_world(1, pycolmap.Rigid3d(np.array([[1, 0, 0, np.nan], [0, 1, 0, 0], [0, 0, 1, 0]])))
    write_model(tmp_path / "model", model)
    with pytest.raises(UserError, match=r"b\.png.*not finite"):
        loaded(tmp_path)


def test_camera_parameters_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    dataset(tmp_path, {"a.png": white()}, pinhole())
    model = pycolmap.Reconstruction(str(tmp_path / "model"))
    model.cameras[1].params = [float("nan"), 100, 75]
    write_model(tmp_path / "model", model)
    with pytest.raises(UserError, match=r"a camera of the COLMAP model .*not finite"):
        loaded(tmp_path)


def test_a_model_without_registered_images_is_refused(tmp_path: Path) -> None:
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(pinhole())
    write_model(tmp_path / "model", model)
    with pytest.raises(UserError, match=r"model.*no registered images"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [("empty folder", "can't read the COLMAP model"), ("bytes changed", r"rigs\.bin: damaged or cut short")],
)
def test_a_model_that_cannot_be_read_is_one_line(tmp_path: Path, damage: str, message: str) -> None:
    dataset(tmp_path, {"a.png": white()}, pinhole())
    for path in (tmp_path / "model").iterdir():
        if damage == "bytes changed":
            path.write_bytes(path.read_bytes()[:8] + b"?" * (path.stat().st_size - 8))
        else:
            path.unlink()
    with pytest.raises(UserError, match=message) as caught:
        loaded(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("left", [0, 20])
def test_a_model_s_file_that_was_cut_short_is_named(tmp_path: Path, part: str, left: int) -> None:
    dataset(tmp_path, {"a.png": white()}, pinhole())
    path = tmp_path / "model" / f"{part}.bin"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UserError, match=rf"{part}\.bin: damaged or cut short, it has only {left} bytes; export"):
        loaded(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_points_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    dataset(tmp_path, {"a.png": white()}, pinhole(), np.array([[0, 0, 0], [0, value, 0]]))
    with pytest.raises(UserError, match=r"points of the COLMAP model are not finite"):
        loaded(tmp_path)


def test_a_colour_photo_keeps_red_first(tmp_path: Path) -> None:
    bgr = np.zeros((4, 6, 3), np.uint8)
    bgr[:] = (10, 20, 200)
    cv2.imwrite(str(tmp_path / "a.png"), bgr)
    assert (read_pixels(tmp_path / "a.png").rgb == (200, 20, 10)).all()


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        pytest.param(np.full((4, 6), 77, np.uint8), (77, 77, 77), id="grey"),
        pytest.param(np.full((4, 6, 3), (0x0A11, 0x1422, 0xC833), np.uint16), (200, 20, 10), id="16 bit"),
        pytest.param(np.full((4, 6), 0x4D80, np.uint16), (77, 77, 77), id="16 bit grey"),
        pytest.param(np.full((4, 6, 4), (10, 20, 200, 255), np.uint8), (200, 20, 10), id="alpha"),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_other_kinds_of_photos_load_as_8_bit_rgb(
    tmp_path: Path, pixels: np.ndarray, expected: tuple[int, int, int], suffix: str
) -> None:
    cv2.imwrite(str(tmp_path / f"a{suffix}"), pixels)
    read = read_pixels(tmp_path / f"a{suffix}").rgb
    assert read.dtype == np.uint8
    assert read.shape == (4, 6, 3)
    assert (abs(read.astype(int) - expected) <= 1).all()


def test_a_photo_is_not_turned_by_its_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_pixels(tmp_path / "a.jpg").rgb.shape == (20, 30, 3)


def test_points_seen_in_most_photos_come_first(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(5)]
    for name in names:
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), white())
    lengths = [2, 5, 3, 4, 5]
    points = np.column_stack([np.arange(5), np.zeros(5), np.zeros(5)]).astype(float)
    colors = np.arange(15).reshape(5, 3) * 17
    model = colmap_model(dict(zip(names, arc(5), strict=True)), pinhole(), points, colors, lengths)
    write_model(tmp_path / "model", model)
    scene = scene_of(tmp_path)
    order = scene.points[:, 0].astype(int).tolist()
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    np.testing.assert_allclose(scene.colors, colors[order] / 255)


def test_views_are_in_name_order_and_only_registered_photos_count(tmp_path: Path) -> None:
    photos = {name: white() for name in ("c.png", "sub/a.png", "b.png")}
    dataset(tmp_path, photos, pinhole())
    model = pycolmap.Reconstruction(str(tmp_path / "model"))
    model.add_image_with_trivial_frame(pycolmap.Image(name="lost.png", camera_id=1, image_id=9))
    write_model(tmp_path / "model", model)
    assert [view.name for view in loaded(tmp_path)] == ["b.png", "c.png", "sub/a.png"]


def test_scaled_photos_scale_the_intrinsics_of_their_camera(tmp_path: Path) -> None:
    dataset(tmp_path, {"a.png": colours()[:75, :100]}, pinhole())
    view = loaded(tmp_path)[0]
    assert view.image_HW3.shape == (75, 100, 3)
    np.testing.assert_allclose(view.K, [[75, 0, 50], [0, 75, 37.5], [0, 0, 1]])


def test_photos_that_were_scaled_down_before_are_read_in_place_of_the_large(tmp_path: Path) -> None:
    camera = pycolmap.Camera(model="PINHOLE", width=201, height=151, params=[150, 140, 99, 70])
    dataset(tmp_path, {"sub/a.jpg": np.zeros((151, 201, 3), np.uint8)}, camera)
    small = colours()[:38, :50]
    (tmp_path / "images_4" / "sub").mkdir(parents=True)
    Image.fromarray(small).save(tmp_path / "images_4" / "sub" / "a.png")
    write_mask(tmp_path / "masks" / "sub" / "a.png", np.full((151, 201), 255, np.uint8))
    view = loaded(tmp_path, 4)[0]
    np.testing.assert_array_equal(view.image_HW3.numpy(), small)
    np.testing.assert_allclose(view.K, np.diag([50 / 201, 38 / 151, 1]) @ camera.calibration_matrix())
    assert view.mask_HW is not None
    assert view.mask_HW.shape == (38, 50)
    (tmp_path / "images_4" / "sub" / "a.png").rename(tmp_path / "images_4" / "a.png")
    with pytest.raises(UserError, match=r"images_4: lacks sub/a\.jpg;"):
        loaded(tmp_path, 4)


def test_a_view_knows_the_points_seen_in_it(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(3)]
    (tmp_path / "images").mkdir()
    for name in names:
        cv2.imwrite(str(tmp_path / "images" / name), white())
    points = np.arange(12.0).reshape(4, 3) / 10
    model = colmap_model(dict(zip(names, arc(3), strict=True)), pinhole(), points, np.zeros((4, 3)), [3, 1, 2, 2])
    write_model(tmp_path / "model", model)
    assert loaded(tmp_path)[0].points_M3 is None
    views = scene_of(tmp_path).load(names, threads=1, with_points=True).views
    for view, expected in zip(views, ([0, 1, 2, 3], [0, 2, 3], [0]), strict=True):
        np.testing.assert_array_equal(view.points_M3, points[expected])
