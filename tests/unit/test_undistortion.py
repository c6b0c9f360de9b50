"""Photos are freed of lens distortion, without invalid pixels and with cameras that fit."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from support.photosets import (
    DOTS,
    HEIGHT,
    LENSES,
    WIDTH,
    camera_of,
    centroid,
    dataset,
    lenses,
    loaded,
    photo_with_dots,
    pinhole,
    white,
)
from support.scenes import colmap_model, look_at, write_model

from splatdag.workflow.errors import UserError


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
    assert int(loaded(tmp_path)[0].image_HW3.min()) == 255


def grid(left: float, top: float, right: float, bottom: float, step: float = 1.0) -> np.ndarray:
    """Pixel centres of a rectangle, given by those of its corners."""
    x, y = np.meshgrid(np.arange(left, right + 1e-6, step), np.arange(top, bottom + 1e-6, step))
    return np.column_stack([x.ravel(), y.ravel()])


@lenses
def test_an_undistorted_photo_cannot_grow_by_two_pixels_on_any_side(tmp_path: Path, lens: str) -> None:
    camera = camera_of(lens)
    dataset(tmp_path, {"a.png": white()}, camera)
    view = loaded(tmp_path)[0]
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
    view = loaded(tmp_path)[0]
    seen = view.image_HW3.shape[0] * view.image_HW3.shape[1] / (view.K[0, 0] * view.K[1, 1])
    K = np.array(camera.calibration_matrix())
    pixels = grid(-60.5, -60.5, WIDTH + 60.5, HEIGHT + 60.5)
    valid = in_photo(distorted(camera, pixels, K)).reshape(HEIGHT + 122, WIDTH + 122)
    assert seen > 0.95 * largest_rectangle(valid) / (K[0, 0] * K[1, 1])


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
    for view, pose in zip(loaded(tmp_path, data_factor), poses, strict=True):
        np.testing.assert_allclose(view.world_to_camera, pose, atol=1e-12)
        local = DOTS @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
        expected = (local / local[:, 2:]) @ view.K.T
        image = view.image_HW3.numpy()[:, :, 0]
        found = [centroid(image, at[:2], 8 // data_factor) for at in expected]
        np.testing.assert_allclose(found, expected[:, :2], atol=0.1)


def test_an_odd_size_scales_each_axis_by_what_it_really_shrank(tmp_path: Path) -> None:
    camera = pycolmap.Camera(model="PINHOLE", width=201, height=151, params=[150, 140, 99, 70])
    dataset(tmp_path, {"a.png": np.zeros((151, 201, 3), np.uint8)}, camera)
    view = loaded(tmp_path, data_factor=4)[0]
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
