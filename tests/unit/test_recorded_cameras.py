"""Cameras of recordings: as large as their pictures, also where the principal point is off the middle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rerun.blueprint as rrb
from PIL import Image
from support.rrd import entities

from splatdag.recording.cameras import Cameras, camera_names, log_camera, log_frusta, read_cameras
from splatdag.recording.colmap import ColmapModel
from splatdag.recording.recording import Layout, recording

FOCAL, CENTER, SIZE = 50.0, (10.0, 30.0), (100, 80)
K = np.array([[FOCAL, 0, CENTER[0]], [0, FOCAL, CENTER[1]], [0, 0, 1]])
CAMERAS = Cameras(K[None], np.eye(3, 4)[None], np.array([SIZE]))


@pytest.fixture
def drawn(tmp_path: Path) -> dict[str, dict[str, list]]:
    """A camera at the origin, and its frustum down to 2 m."""
    with recording(tmp_path / "x.rrd", "test", "x", Layout(rrb.Spatial3DView()), 1) as stream:
        log_camera(stream, "camera", [0], CAMERAS, 1.0)
        log_frusta(stream, "frusta", CAMERAS, 2.0, (255, 0, 0))
    return entities(tmp_path / "x.rrd")


def test_a_camera_has_the_size_of_its_pictures(drawn: dict[str, dict[str, list]]) -> None:
    assert np.array(drawn["camera"]["Pinhole:resolution"][0]).ravel().tolist() == [100, 80]


def test_a_frustum_ends_at_the_corners_of_the_picture(drawn: dict[str, dict[str, list]]) -> None:
    outline = np.array(drawn["frusta"]["LineStrips3D:strips"][0][0], np.float64)
    corners = [(2 * (x - 10) / FOCAL, 2 * (y - 30) / FOCAL, 2) for x, y in ((0, 0), (100, 0), (100, 80), (0, 80))]
    np.testing.assert_allclose(outline, [*corners, corners[0]], atol=1e-6)


def test_a_picture_of_half_the_size_has_half_the_camera() -> None:
    model = ColmapModel(["a.jpg", "b.jpg"], CAMERAS.at([0, 0]), np.empty((0, 3)), np.empty((0, 3), np.uint8))
    half = model.camera("b.jpg", (50, 40))
    assert half.sizes.tolist() == [[50, 40]]
    np.testing.assert_allclose(half.Ks[0], np.diag([0.5, 0.5, 1]) @ K)
    assert len(model.without(["b.jpg"]).Ks) == 1


@pytest.mark.parametrize("pictures", [True, False])
def test_cameras_of_files_are_as_large_as_what_they_took(tmp_path: Path, pictures: bool) -> None:
    for frame in (1, 2):
        np.savez(tmp_path / f"{frame:06d}.npz", intrinsics=K[None], extrinsics=np.eye(3, 4)[None])
    if pictures:
        (tmp_path / "images").mkdir()
        Image.new("RGB", SIZE).save(tmp_path / "images" / "000001.jpg")
    frames, cameras = read_cameras(tmp_path, 1, tmp_path / "images")
    assert frames == [1, 2]
    assert cameras.sizes.tolist() == ([[100, 80]] * 2 if pictures else [[20, 60]] * 2)


def test_cameras_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("100", "28", "left", "4", "back"):
        (tmp_path / name).mkdir()
    assert camera_names(tmp_path) == ["4", "28", "100", "back", "left"]
    assert camera_names(tmp_path / "nowhere") == []


def test_a_camera_that_only_changes_its_size_is_recorded_for_every_frame(tmp_path: Path) -> None:
    grows = Cameras(np.stack([K, K]), np.stack([np.eye(3, 4)] * 2), np.array([SIZE, (200, 160)]))
    with recording(tmp_path / "x.rrd", "test", "x", Layout(rrb.Spatial3DView()), 1) as stream:
        log_camera(stream, "camera", [3, 4], grows, 1.0)
    found = entities(tmp_path / "x.rrd")["camera"]
    assert found["frame"] == [3, 4]
    assert np.array(found["Pinhole:resolution"]).reshape(-1, 2).tolist() == [[100, 80], [200, 160]]
