"""Masks, opacity and turned photos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image, ImageOps
from support.photosets import (
    DOTS,
    HEIGHT,
    WIDTH,
    camera_of,
    centroid,
    colours,
    dataset,
    lenses,
    loaded,
    photo_with_dots,
    pinhole,
    white,
    write_mask,
)
from support.scenes import arc, colmap_model, look_at, write_model

from splatdag.workflow.errors import UserError


@pytest.mark.parametrize("place", ["masks/sub/a.png", "masks/sub/a.jpg.png", "images/sub/a_mask.png"])
def test_a_mask_is_found_where_people_put_it(tmp_path: Path, place: str) -> None:
    dataset(tmp_path, {"b.png": white(), "sub/a.jpg": white()}, pinhole())
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 50:] = 255
    write_mask(tmp_path / place, mask)
    without, masked = loaded(tmp_path)
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
    view = loaded(tmp_path, data_factor)[0]
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
        loaded(tmp_path)


@pytest.mark.parametrize("lens", ["none", "barrel"])
def test_transparent_pixels_lend_no_colour_to_their_neighbours(tmp_path: Path, lens: str) -> None:
    photo = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    photo[:] = (0, 0, 255, 0)  # hidden red
    photo[:, 61:] = (40, 200, 0, 255)
    dataset(tmp_path, {"a.png": photo}, pinhole() if lens == "none" else camera_of(lens))
    for data_factor in (1, 3):
        view = loaded(tmp_path, data_factor)[0]
        assert view.alpha_HW is not None
        assert view.alpha_HW.dtype == torch.uint8
        seen = view.alpha_HW.numpy() > 0
        assert 0.2 < seen.mean() < 0.9
        assert np.abs(view.image_HW3.numpy()[seen].astype(int) - (0, 200, 40)).max() <= 1


def test_a_photo_without_transparency_has_no_opacity(tmp_path: Path) -> None:
    dataset(tmp_path, {"a.png": np.dstack([white(), np.full((HEIGHT, WIDTH), 255, np.uint8)])}, pinhole())
    assert loaded(tmp_path)[0].alpha_HW is None


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
    first, second = loaded(tmp_path)
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
    view, plain = loaded(tmp_path)
    np.testing.assert_array_equal(view.image_HW3.numpy()[:, :, 0], upright if upright.ndim == 2 else upright[:, :, 0])
    np.testing.assert_array_equal(view.mask_HW, view.image_HW3[:, :, 0] > 127)
    np.testing.assert_allclose(view.center, plain.center, atol=1e-12)
    local = DOTS @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
    expected = (local / local[:, 2:]) @ view.K.T
    found = [centroid(view.image_HW3.numpy()[:, :, 0], at[:2], 8) for at in expected]
    np.testing.assert_allclose(found, expected[:, :2], atol=0.1)
