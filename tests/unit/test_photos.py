"""Photos and COLMAP models become views: geometry exact, no invalid pixels, every wrong input named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image, ImageOps
from scenes import arc, colmap_model, look_at, write_model

from splatdag.captures.photos import Scene, load_scene
from splatdag.captures.pixels import read_pixels
from splatdag.workflow.errors import UserError

WIDTH, HEIGHT = 200, 150
LENSES = {
    "barrel": ("SIMPLE_RADIAL", [150, 100, 75, -0.2]),
    "pincushion": ("SIMPLE_RADIAL", [150, 100, 75, 0.2]),
    "radial, off centre": ("RADIAL", [140, 93.3, 80.7, -0.25, 0.08]),
    "tangential": ("OPENCV", [150, 140, 103, 72, 0.12, -0.05, 0.012, -0.015]),
    "rational": ("FULL_OPENCV", [150, 150, 100, 75, 0.3, 0.05, 0.002, 0.001, 0.01, 0.15, 0.02, 0.001]),
}
lenses = pytest.mark.parametrize("lens", LENSES)


def camera_of(lens: str) -> pycolmap.Camera:
    model, params = LENSES[lens]
    return pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=params)


def pinhole() -> pycolmap.Camera:
    return pycolmap.Camera(model="SIMPLE_PINHOLE", width=WIDTH, height=HEIGHT, params=[150, 100, 75])


def dataset(
    folder: Path, photos: dict[str, np.ndarray], camera: pycolmap.Camera, points: np.ndarray | None = None
) -> Path:
    """Photos (BGR, as OpenCV writes them), posed on an arc, and their model; returns the model's folder."""
    for name, pixels in photos.items():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / name), pixels)
    points = np.zeros((1, 3)) if points is None else points
    poses = dict(zip(photos, arc(max(2, len(photos))), strict=False))
    return write_model(folder / "model", colmap_model(poses, camera, points, np.full((len(points), 3), 128)))


def loaded(folder: Path, data_factor: int = 1) -> Scene:
    return load_scene(folder / "model", folder / "images", data_factor, threads=1)


def white() -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 255, np.uint8)


def distorted(camera: pycolmap.Camera, pixels: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Where a pixel of a pinhole view lies in the photo, by COLMAP's own camera."""
    rays = np.column_stack([(pixels - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones(len(pixels))])
    return np.asarray(camera.img_from_cam(rays))


def in_photo(pixels: np.ndarray) -> np.ndarray:
    """Whether bilinear interpolation has all its pixels."""
    return ((pixels >= 0.5 - 1e-3) & (pixels <= np.array([WIDTH, HEIGHT]) - 0.5 + 1e-3)).all(axis=1)


@lenses
def test_an_undistorted_photo_has_no_invalid_pixels(tmp_path: Path, lens: str) -> None:
    dataset(tmp_path, {"a.png": white()}, camera_of(lens))
    assert int(loaded(tmp_path).views[0].image_HW3.min()) == 255


def grid(left: float, top: float, right: float, bottom: float, step: float = 1.0) -> np.ndarray:
    """Pixel centres of a rectangle, given by those of its corners."""
    x, y = np.meshgrid(np.arange(left, right + 1e-6, step), np.arange(top, bottom + 1e-6, step))
    return np.column_stack([x.ravel(), y.ravel()])


@lenses
def test_an_undistorted_photo_cannot_grow_by_two_pixels_on_any_side(tmp_path: Path, lens: str) -> None:
    camera = camera_of(lens)
    dataset(tmp_path, {"a.png": white()}, camera)
    view = loaded(tmp_path).views[0]
    height, width = view.image_HW3.shape[:2]
    box = np.array([0.5, 0.5, width - 0.5, height - 0.5])
    assert in_photo(distorted(camera, grid(*box), view.K)).all()
    for side in np.diag([-2.0, -2.0, 2.0, 2.0]):
        assert not in_photo(distorted(camera, grid(*(box + side)), view.K)).all()


def largest_rectangle(valid: np.ndarray) -> int:
    """Area of the largest rectangle of True, by the textbook histogram sweep."""
    best, heights = 0, np.zeros(valid.shape[1] + 1, int)
    for row in valid:
        heights[:-1] = np.where(row, heights[:-1] + 1, 0)
        stack: list[int] = []
        for i, height in enumerate(heights):
            while stack and heights[stack[-1]] >= height:
                top = heights[stack.pop()]
                best = max(best, top * (i - (stack[-1] + 1 if stack else 0)))
            stack.append(i)
    return best


@lenses
def test_an_undistorted_photo_shows_nearly_the_largest_rectangle_there_is(tmp_path: Path, lens: str) -> None:
    camera = camera_of(lens)
    dataset(tmp_path, {"a.png": white()}, camera)
    view = loaded(tmp_path).views[0]
    seen = view.image_HW3.shape[0] * view.image_HW3.shape[1] / (view.K[0, 0] * view.K[1, 1])
    K = np.array(camera.calibration_matrix())
    pixels = grid(-60.5, -60.5, WIDTH + 60.5, HEIGHT + 60.5)
    valid = in_photo(distorted(camera, pixels, K)).reshape(HEIGHT + 122, WIDTH + 122)
    assert seen > 0.95 * largest_rectangle(valid) / (K[0, 0] * K[1, 1])


DOTS = np.array(
    [[0, 0, 0], [0.6, 0.4, 0.2], [-0.7, 0.35, 0], [0.5, -0.5, 0.3], [-0.5, -0.5, -0.2], [1.1, 0.0, 0.5]], float
)


def photo_with_dots(centers: np.ndarray, fine: int = 8) -> np.ndarray:
    """Round blurred dots at pixel positions (first pixel's centre 0.5, 0.5), integrated over each pixel."""
    x = (np.arange(WIDTH * fine) + 0.5) / fine
    y = (np.arange(HEIGHT * fine) + 0.5) / fine
    image = np.zeros((HEIGHT, WIDTH))
    for cx, cy in centers:
        bell_x = np.exp(-0.5 * ((x - cx) / 1.7) ** 2).reshape(WIDTH, fine).mean(axis=1)
        bell_y = np.exp(-0.5 * ((y - cy) / 1.7) ** 2).reshape(HEIGHT, fine).mean(axis=1)
        image += 250 * np.outer(bell_y, bell_x)
    return np.repeat(image.clip(0, 255).round().astype(np.uint8)[:, :, None], 3, axis=2)


def centroid(image: np.ndarray, near: np.ndarray, radius: int) -> np.ndarray:
    """Centre of brightness around a position; pixel centres are at half-integers."""
    column, row = np.floor(near).astype(int)
    top, left = row - radius, column - radius
    patch = image[top : row + radius + 1, left : column + radius + 1].astype(float)
    assert patch.shape == (2 * radius + 1, 2 * radius + 1)
    y, x = np.indices(patch.shape)
    return np.array([(patch * (x + left + 0.5)).sum(), (patch * (y + top + 0.5)).sum()]) / patch.sum()


@pytest.mark.parametrize("data_factor", [1, 2])
@pytest.mark.parametrize("lens", ["none", *LENSES])
def test_a_point_is_seen_where_the_view_s_camera_projects_it(tmp_path: Path, lens: str, data_factor: int) -> None:
    camera = pinhole() if lens == "none" else camera_of(lens)
    poses = [look_at(np.array([0.3 * i, -0.2, -2.6])) for i in range(2)]
    names = ["a.png", "b.png"]
    photos = tmp_path / "images"
    photos.mkdir()
    for name, pose in zip(names, poses, strict=True):
        local = DOTS @ pose[:3, :3].T + pose[:3, 3]
        cv2.imwrite(str(photos / name), photo_with_dots(np.asarray(camera.img_from_cam(local))))
    write_model(
        tmp_path / "model",
        colmap_model(dict(zip(names, poses, strict=True)), camera, DOTS, np.full((len(DOTS), 3), 255)),
    )
    for view, pose in zip(loaded(tmp_path, data_factor).views, poses, strict=True):
        np.testing.assert_allclose(view.world_to_camera, pose, atol=1e-12)
        local = DOTS @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
        expected = (local / local[:, 2:]) @ view.K.T
        image = view.image_HW3.numpy()[:, :, 0]
        found = [centroid(image, at[:2], 8 // data_factor) for at in expected]
        np.testing.assert_allclose(found, expected[:, :2], atol=0.1)


def test_an_odd_size_scales_each_axis_by_what_it_really_shrank(tmp_path: Path) -> None:
    camera = pycolmap.Camera(model="PINHOLE", width=201, height=151, params=[150, 140, 99, 70])
    dataset(tmp_path, {"a.png": np.zeros((151, 201, 3), np.uint8)}, camera)
    view = loaded(tmp_path, data_factor=4).views[0]
    height, width = view.image_HW3.shape[:2]
    assert (width, height) == (50, 38)
    np.testing.assert_allclose(view.K, np.diag([50 / 201, 38 / 151, 1]) @ camera.calibration_matrix())


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("OPENCV_FISHEYE", [150, 150, 100, 75, 0.1, 0, 0, 0]),
        ("SIMPLE_RADIAL_FISHEYE", [150, 100, 75, 0.1]),
        ("FOV", [150, 150, 100, 75, 0.9]),
    ],
)
def test_a_fisheye_camera_is_refused_in_one_line_with_advice(tmp_path: Path, model: str, params: list[float]) -> None:
    dataset(tmp_path, {"a.png": white()}, pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=params))
    with pytest.raises(UserError, match=rf"{model} is not supported.*image_undistorter") as caught:
        loaded(tmp_path)
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize("damage", ["empty folder", "bytes changed"])
def test_a_model_that_cannot_be_read_is_one_line(tmp_path: Path, damage: str) -> None:
    dataset(tmp_path, {"a.png": white()}, pinhole())
    for path in (tmp_path / "model").iterdir():
        if damage == "bytes changed":
            path.write_bytes(path.read_bytes()[:8] + b"?" * (path.stat().st_size - 8))
        else:
            path.unlink()
    with pytest.raises(UserError, match="can't read the COLMAP model") as caught:
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
    scene = loaded(tmp_path)
    order = scene.points[:, 0].astype(int).tolist()
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    np.testing.assert_allclose(scene.colors, colors[order] / 255)


def test_views_are_in_name_order_and_only_registered_photos_count(tmp_path: Path) -> None:
    photos = {name: white() for name in ("c.png", "sub/a.png", "b.png")}
    dataset(tmp_path, photos, pinhole())
    model = pycolmap.Reconstruction(str(tmp_path / "model"))
    model.add_image_with_trivial_frame(pycolmap.Image(name="lost.png", camera_id=1, image_id=9))
    write_model(tmp_path / "model", model)
    assert [view.name for view in loaded(tmp_path).views] == ["b.png", "c.png", "sub/a.png"]


def colours(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), mask)


def with_data_dir(folder: Path, data_factor: int = 1, **options: int) -> Scene:
    return load_scene(folder / "model", folder / "images", data_factor, threads=2, data_dir=folder, **options)


@pytest.mark.parametrize("place", ["masks/sub/a.png", "masks/sub/a.jpg.png", "images/sub/a_mask.png"])
def test_a_mask_is_found_where_people_put_it(tmp_path: Path, place: str) -> None:
    dataset(tmp_path, {"b.png": white(), "sub/a.jpg": white()}, pinhole())
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 50:] = 255
    write_mask(tmp_path / place, mask)
    without, masked = with_data_dir(tmp_path).views
    assert without.mask_HW is None
    assert masked.mask_HW is not None
    assert masked.mask_HW.dtype == torch.bool
    np.testing.assert_array_equal(masked.mask_HW.numpy(), mask > 127)


@pytest.mark.parametrize("data_factor", [1, 2])
@lenses
def test_a_mask_is_undistorted_with_its_photo(tmp_path: Path, lens: str, data_factor: int) -> None:
    disc = cv2.circle(np.zeros((HEIGHT, WIDTH), np.uint8), (90, 80), 45, 255, -1)
    dataset(tmp_path, {"a.png": np.repeat(disc[:, :, None], 3, axis=2)}, camera_of(lens))
    write_mask(tmp_path / "masks" / "a.png", disc)
    view = with_data_dir(tmp_path, data_factor).views[0]
    assert view.mask_HW is not None
    photo = view.image_HW3.numpy()[:, :, 0] > 127
    differ = view.mask_HW.numpy() != photo
    assert view.mask_HW.shape == photo.shape
    assert differ.sum() < 0.25 * np.hypot(*photo.shape)  # single pixels of the rim
    assert view.mask_HW.float().mean() > 0.1


@pytest.mark.parametrize(("shape", "message"), [((75, 100), "100×75 pixels.*200×150"), ((HEIGHT, WIDTH), "all black")])
def test_a_mask_that_cannot_be_meant_is_named(tmp_path: Path, shape: tuple[int, int], message: str) -> None:
    dataset(tmp_path, {"a.png": white()}, pinhole())
    write_mask(tmp_path / "masks" / "a.png", np.zeros(shape, np.uint8))
    with pytest.raises(UserError, match=rf"masks/a\.png: .*{message}"):
        with_data_dir(tmp_path)


@pytest.mark.parametrize("lens", ["none", "barrel"])
def test_transparent_pixels_lend_no_colour_to_their_neighbours(tmp_path: Path, lens: str) -> None:
    photo = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    photo[:] = (0, 0, 255, 0)  # hidden red
    photo[:, 61:] = (40, 200, 0, 255)
    dataset(tmp_path, {"a.png": photo}, pinhole() if lens == "none" else camera_of(lens))
    for data_factor in (1, 3):
        view = loaded(tmp_path, data_factor).views[0]
        assert view.alpha_HW is not None
        assert view.alpha_HW.dtype == torch.uint8
        seen = view.alpha_HW.numpy() > 0
        assert 0.2 < seen.mean() < 0.9
        assert np.abs(view.image_HW3.numpy()[seen].astype(int) - (0, 200, 40)).max() <= 1


def test_a_photo_without_transparency_has_no_opacity(tmp_path: Path) -> None:
    dataset(tmp_path, {"a.png": np.dstack([white(), np.full((HEIGHT, WIDTH), 255, np.uint8)])}, pinhole())
    assert loaded(tmp_path).views[0].alpha_HW is None


def save_turned(path: Path, upright: np.ndarray) -> None:
    """Store a photo lying on its side, with the EXIF orientation that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise when shown
    Image.fromarray(np.rot90(upright)).save(path, exif=exif)


def test_a_camera_is_turned_with_its_photo_unless_it_was_estimated_upright(tmp_path: Path) -> None:
    upright, other = colours(1), colours(2)
    dataset(tmp_path, {"a.png": upright, "b.png": other}, pinhole())
    save_turned(tmp_path / "images" / "a.png", upright)  # stored 150×200, the camera is 200×150
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(other).save(tmp_path / "images" / "b.png", exif=exif)  # stored as the camera saw it
    write_mask(tmp_path / "masks" / "a.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    first, second = with_data_dir(tmp_path).views
    np.testing.assert_array_equal(first.image_HW3.numpy(), upright)
    np.testing.assert_array_equal(second.image_HW3.numpy(), np.rot90(other, 2))
    np.testing.assert_allclose(first.world_to_camera, arc(2)[0], atol=1e-12)
    np.testing.assert_allclose(second.world_to_camera, np.diag([-1, -1, 1, 1]) @ arc(2)[1], atol=1e-12)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photo_seen_on_its_side_is_turned_upright_with_its_camera(tmp_path: Path, orientation: int) -> None:
    camera, pose = (
        pycolmap.Camera(model="PINHOLE", width=WIDTH, height=HEIGHT, params=[150, 140, 93, 80]),
        look_at(np.array([0.3, -0.2, -2.6])),
    )
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = photo_with_dots(np.asarray(camera.img_from_cam(DOTS @ pose[:3, :3].T + pose[:3, 3])))
    Image.fromarray(stored).save(tmp_path / "images" / "a.png", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "images" / "a.png")))
    write_mask(tmp_path / "masks" / "a.png", stored if stored.ndim == 2 else stored[:, :, 0])
    poses = {"a.png": pose, "b.png": pose}
    cv2.imwrite(str(tmp_path / "images" / "b.png"), stored)
    write_model(tmp_path / "model", colmap_model(poses, camera, DOTS, np.full((len(DOTS), 3), 255)))
    view, plain = with_data_dir(tmp_path).views
    np.testing.assert_array_equal(view.image_HW3.numpy()[:, :, 0], upright if upright.ndim == 2 else upright[:, :, 0])
    np.testing.assert_array_equal(view.mask_HW, view.image_HW3[:, :, 0] > 127)
    np.testing.assert_allclose(view.center, plain.center, atol=1e-12)
    local = DOTS @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
    expected = (local / local[:, 2:]) @ view.K.T
    found = [centroid(view.image_HW3.numpy()[:, :, 0], at[:2], 8) for at in expected]
    np.testing.assert_allclose(found, expected[:, :2], atol=0.1)


def test_scaled_photos_scale_the_intrinsics_of_their_camera(tmp_path: Path) -> None:
    dataset(tmp_path, {"a.png": colours()[:75, :100]}, pinhole())
    view = loaded(tmp_path).views[0]
    assert view.image_HW3.shape == (75, 100, 3)
    np.testing.assert_allclose(view.K, [[75, 0, 50], [0, 75, 37.5], [0, 0, 1]])


def test_photos_that_were_scaled_down_before_are_read_in_place_of_the_large(tmp_path: Path) -> None:
    camera = pycolmap.Camera(model="PINHOLE", width=201, height=151, params=[150, 140, 99, 70])
    dataset(tmp_path, {"sub/a.jpg": np.zeros((151, 201, 3), np.uint8)}, camera)
    small = colours()[:38, :50]
    (tmp_path / "images_4" / "sub").mkdir(parents=True)
    Image.fromarray(small).save(tmp_path / "images_4" / "sub" / "a.png")
    write_mask(tmp_path / "masks" / "sub" / "a.png", np.full((151, 201), 255, np.uint8))
    view = with_data_dir(tmp_path, 4).views[0]
    np.testing.assert_array_equal(view.image_HW3.numpy(), small)
    np.testing.assert_allclose(view.K, np.diag([50 / 201, 38 / 151, 1]) @ camera.calibration_matrix())
    assert view.mask_HW is not None
    assert view.mask_HW.shape == (38, 50)
    (tmp_path / "images_4" / "sub" / "a.png").rename(tmp_path / "images_4" / "a.png")
    with pytest.raises(UserError, match=r"images_4: lacks sub/a\.jpg;"):
        with_data_dir(tmp_path, 4)


def test_a_view_knows_the_points_seen_in_it(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(3)]
    (tmp_path / "images").mkdir()
    for name in names:
        cv2.imwrite(str(tmp_path / "images" / name), white())
    points = np.arange(12.0).reshape(4, 3) / 10
    model = colmap_model(dict(zip(names, arc(3), strict=True)), pinhole(), points, np.zeros((4, 3)), [3, 1, 2, 2])
    write_model(tmp_path / "model", model)
    assert loaded(tmp_path).views[0].points_M3 is None
    views = load_scene(tmp_path / "model", tmp_path / "images", 1, threads=1, with_points=True).views
    for view, expected in zip(views, ([0, 1, 2, 3], [0, 2, 3], [0]), strict=True):
        np.testing.assert_array_equal(view.points_M3, points[expected])
