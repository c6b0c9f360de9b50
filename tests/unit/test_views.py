"""The frame of training: a shift and a scale that change nothing that a camera sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.scenes import arc, intrinsics

from splatdag.scene.views import View, camera_tensors
from splatdag.splats.normalisation import Normalisation, normalisation


def view_at(pose: np.ndarray) -> View:
    return View("a.png", torch.zeros(32, 48, 3, dtype=torch.uint8), pose, intrinsics())


def moved(pose: np.ndarray, offset: np.ndarray, scale: float) -> np.ndarray:
    """The same camera in a world that is scaled, then shifted."""
    result = pose.copy()
    result[:3, 3] = scale * pose[:3, 3] - pose[:3, :3] @ offset
    return result


def pixels(world_to_camera: np.ndarray, K: np.ndarray, points: np.ndarray) -> np.ndarray:
    local = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    projected = local @ K.T
    return projected[:, :2] / projected[:, 2:]


def make(offset: np.ndarray, scale: float) -> tuple[list[View], np.ndarray, Normalisation]:
    views = [view_at(moved(pose, offset, scale)) for pose in arc(7)]
    points = scale * np.random.default_rng(0).normal(0, 0.4, (50, 3)) + offset
    return views, points, normalisation(np.array([view.center for view in views]), points)


WORLDS = [
    pytest.param(np.zeros(3), 1.0, id="around the origin"),
    pytest.param(np.array([12.0, -7.0, 3.0]), 0.01, id="small"),
    pytest.param(np.array([5e5, 4.1e6, 220.0]), 25.0, id="georeferenced"),
]


@pytest.mark.parametrize(("offset", "scale"), WORLDS)
def test_the_cameras_centre_becomes_the_origin_and_their_median_distance_one(offset: np.ndarray, scale: float) -> None:
    views, _, frame = make(offset, scale)
    centers = frame.points(np.array([view.center for view in views]))
    np.testing.assert_allclose(centers.mean(axis=0), 0, atol=1e-7)
    distances = np.linalg.norm(centers, axis=1)
    assert np.median(distances) == pytest.approx(1, rel=1e-7)
    assert frame.extent == pytest.approx(1.1 * distances.max(), rel=1e-7)


@pytest.mark.parametrize(("offset", "scale"), WORLDS)
def test_rotations_stay_and_every_point_keeps_its_pixel_even_in_single_precision(
    offset: np.ndarray, scale: float
) -> None:
    views, points, frame = make(offset, scale)
    for view in views:
        matrix, K = camera_tensors(view, frame, torch.device("cpu"))
        np.testing.assert_array_equal(frame.world_to_camera(view.world_to_camera)[:3, :3], view.world_to_camera[:3, :3])
        expected = pixels(view.world_to_camera, view.K, points)
        single = frame.points(points).astype(np.float32)
        np.testing.assert_allclose(pixels(matrix[0].numpy(), K[0].numpy(), single), expected, atol=2e-4)


def test_depth_is_divided_by_the_scale() -> None:
    views, points, frame = make(np.array([3.0, 4.0, 5.0]), 8.0)
    local = points @ views[0].world_to_camera[:3, :3].T + views[0].world_to_camera[:3, 3]
    matrix = frame.world_to_camera(views[0].world_to_camera)
    normalised = frame.points(points) @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(normalised * frame.scale, local, atol=1e-9)


def test_normalising_leaves_the_view_itself_alone() -> None:
    views, _, frame = make(np.array([3.0, 4.0, 5.0]), 8.0)
    before = views[0].world_to_camera.copy()
    frame.world_to_camera(views[0].world_to_camera)
    np.testing.assert_array_equal(views[0].world_to_camera, before)


@pytest.mark.parametrize("count", [1, 5])
def test_cameras_in_one_place_are_scaled_by_the_distance_of_the_points(count: int) -> None:
    center = np.array([2.0, 3.0, 4.0])
    points = center + 6.0 * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    frame = normalisation(np.repeat(center[None], count, axis=0), points)
    np.testing.assert_allclose(frame.center, center)
    assert frame.scale == pytest.approx(6)
    assert frame.extent > 0


@pytest.mark.parametrize(
    "points", [np.zeros((0, 3)), np.zeros((3, 3))], ids=["no points", "all points in the camera's place"]
)
def test_one_camera_without_a_usable_point_still_has_a_scale(points: np.ndarray) -> None:
    frame = normalisation(np.zeros((1, 3)), points)
    assert frame.scale == 1
    assert np.isfinite(frame.extent)
    assert frame.extent > 0


def test_cameras_whose_places_differ_by_rounding_only_count_as_one_place() -> None:
    centers = np.array([1.0, 2.0, 3.0]) + 1e-12 * np.random.default_rng(0).normal(size=(6, 3))
    frame = normalisation(centers, centers[0] + 5 * np.eye(3))
    assert frame.scale == pytest.approx(5, rel=1e-6)


def test_only_a_scene_far_from_the_origin_has_an_offset() -> None:
    assert (make(np.array([12.0, -7.0, 3.0]), 1.0)[2].offset() == 0).all()
    far = make(np.array([5e5, 4.1e6, 220.0]), 25.0)[2]
    assert (far.offset() == np.round(far.center)).all()
