"""Files of every kind give the pixels that COLMAP sees; what is none is named before memory is spent."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pycolmap
import pytest

from splatdag.formats.images import read_header, read_mask, read_pixels
from splatdag.workflow.errors import UserError

COLOURS = cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8), (45, 30))


def opaque(kind: str) -> PIL.Image.Image:
    return PIL.Image.fromarray(COLOURS).convert(kind)


def save_kinds(folder: Path) -> list[Path]:
    """One photo of each kind that people have."""
    for kind, names in {
        "RGB": ["rgb.png", "rgb.tif", "rgb.jpg", "rgb.bmp"],
        "L": ["grey.png", "grey.jpg", "grey.tif"],
        "P": ["palette.png"],
        "CMYK": ["cmyk.jpg"],
        "RGBA": ["rgba.png", "rgba.tif"],
        "1": ["bits.png"],
    }.items():
        for name in names:
            opaque(kind).save(folder / name)
    rising = np.linspace(0, 65535, COLOURS.size).reshape(COLOURS.shape).astype(np.uint16)
    for suffix in (".png", ".tif"):
        cv2.imwrite(str(folder / f"deep{suffix}"), rising)
        cv2.imwrite(str(folder / f"deep_grey{suffix}"), rising[:, :, 0])
    return sorted(folder.iterdir())


def test_every_kind_has_the_pixels_that_colmap_sees(tmp_path: Path) -> None:
    for path in save_kinds(tmp_path):
        pixels = read_pixels(path)
        expected = pycolmap.Bitmap.read(path, True).to_array()
        assert np.abs(pixels.rgb.astype(int) - expected).max() <= 1, path.name
        assert pixels.alpha is None, path.name


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_as_stored_and_turn_as_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    opaque("RGB").save(path, **({"tiffinfo": {274: orientation}} if suffix == ".tif" else {"exif": exif}))
    pixels = read_pixels(path)
    assert (read_header(path).size, read_header(path).orientation) == ((45, 30), orientation)
    np.testing.assert_array_equal(pixels.rgb, pycolmap.Bitmap.read(path, True).to_array())
    upright = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(path)))
    np.testing.assert_array_equal(pixels.turned().rgb, upright)


def test_opacity_is_kept_apart_with_the_colours_as_stored(tmp_path: Path) -> None:
    alpha = np.full((30, 45), 255, np.uint8)
    alpha[:10] = 0
    alpha[10:20] = 100
    photo = opaque("RGB")
    photo.putalpha(PIL.Image.fromarray(alpha))
    for name in ("a.png", "a.tif"):
        photo.save(tmp_path / name)
        pixels = read_pixels(tmp_path / name)
        assert pixels.alpha is not None
        np.testing.assert_array_equal(pixels.alpha, alpha)
        np.testing.assert_array_equal(pixels.rgb, COLOURS)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims this size, over a few bytes of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    done, data = cv2.imencode(".jpg", COLOURS)
    assert done
    return data.tobytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jpg", b"", "it is empty"),
        ("a.jpg", b"<html><body>404</body></html>", "not a photo"),
        ("a.jpg", jpeg()[: len(jpeg()) // 2], "truncated"),
        ("a.png", png_claiming(9_000, 9_000), "claims 9000×9000 pixels, but the file has only"),
        ("a.png", png_claiming(60_000, 60_000), "claims more than"),
        ("a.png", png_claiming(100, 100), "can't be decoded"),
    ],
)
def test_what_is_no_photo_is_one_line_with_its_name(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: .*{message}") as caught:
        read_pixels(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(30, 45), (30, 45, 3)])
def test_floats_are_refused_since_their_white_is_unknown(tmp_path: Path, shape: tuple[int, ...]) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), np.ones(shape, np.float32))
    with pytest.raises(UserError, match=r"a\.tif.*no set white"):
        read_pixels(tmp_path / "a.tif")


def test_a_mask_counts_where_it_is_white(tmp_path: Path) -> None:
    mask = np.array([[0, 127, 128], [255, 1, 200]], np.uint8)
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", (3, 2), "a.jpg"), mask > 127)
    with pytest.raises(UserError, match=r"m\.png: the mask is 3×2 pixels, but its photo a\.jpg is 2×3"):
        read_mask(tmp_path / "m.png", (2, 3), "a.jpg")
    cv2.imwrite(str(tmp_path / "m.png"), mask // 3)
    with pytest.raises(UserError, match=r"m\.png: the mask is all black"):
        read_mask(tmp_path / "m.png", (3, 2), "a.jpg")
