"""Photos and masks from their files: 8-bit RGB pixels as stored, opacity apart, whatever the file's kind."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import PIL.TiffImagePlugin  # its libtiff must be loaded before pycolmap's, else writing TIFFs was seen to crash

from splatdag.workflow.errors import UserError

warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)
_EIGHT_BIT = frozenset({"1", "L", "P", "RGB", "LA", "PA", "RGBA", "La", "RGBa", "RGBX", "CMYK", "YCbCr"})
_SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_WITH_ALPHA = frozenset({"LA", "PA", "RGBA", "La", "RGBa"})
_ORIENTATION = 0x0112
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, OverflowError, struct.error)
"""Exceptions that Pillow raises for damaged files."""
_PIXELS_PER_BYTE = 1000
"""Largest number of pixels per byte of a large photo's file; the plainest real photos have about a hundred."""
_LARGE = 16_000_000
_TURNS: dict[int, tuple[tuple[int, ...], int]] = {
    # EXIF orientation: axes to flip, then quarter turns counter-clockwise
    2: ((1,), 0),
    3: ((), 2),
    4: ((0,), 0),
    5: ((1,), 1),
    6: ((), 3),
    7: ((1,), 3),
    8: ((), 1),
}


@dataclass(frozen=True)
class Header:
    """Size, orientation and transparency of a photo, from the header of its file."""

    size: tuple[int, int]
    """Width and height as stored (pixels)."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright as stored."""
    transparent: bool
    """Whether the file has opacity; all of it may be opaque."""


@dataclass(frozen=True)
class Pixels:
    """A decoded photo, as stored: not turned by EXIF, which is how COLMAP reads photos, too."""

    rgb: np.ndarray
    """[H, W, 3] uint8."""
    alpha: np.ndarray | None
    """[H, W] uint8 opacity, None where the photo is opaque; colours are not multiplied by it."""
    orientation: int
    """EXIF orientation, 1 to 8."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height (pixels)."""
        height, width = self.rgb.shape[:2]
        return width, height

    @property
    def quarter_turns(self) -> int:
        """Counter-clockwise quarter turns that make the photo upright; 0 for a photo that is mirrored as well."""
        flips, turns = _TURNS.get(self.orientation, ((), 0))
        return 0 if flips else turns

    def turned(self) -> Pixels:
        """Turn and mirror the photo upright, as its EXIF orientation says."""
        flips, turns = _TURNS.get(self.orientation, ((), 0))
        rgb, alpha = (
            None if plane is None else np.ascontiguousarray(np.rot90(np.flip(plane, flips), turns))
            for plane in (self.rgb, self.alpha)
        )
        assert rgb is not None
        return Pixels(rgb, alpha, 1)


def read_header(path: Path) -> Header:
    """Read size, orientation and transparency of a photo, without decoding it.

    Raises:
        UserError: the photo is missing, is none, or is larger than it can be.
    """
    with _opened(path) as image:
        orientation, size = _orientation(image), image.size
        if image.format == "TIFF" and orientation >= 5:  # Pillow gives the size of TIFFs after turning
            size = size[::-1]
        return Header(size, orientation, _has_opacity(image))


def read_pixels(path: Path) -> Pixels:
    """Decode a photo to 8 bits: grey, palette, CMYK and 16-bit photos become RGB; 16 bits are scaled.

    Raises:
        UserError: the photo is missing, damaged, truncated, or of a kind that has no defined brightness (float).
    """
    with _opened(path) as image:
        orientation, is_tiff = _orientation(image), image.format == "TIFF"
        transparent = _has_opacity(image)
        try:
            image.load()
            if image.mode in _SIXTEEN_BIT:
                grey = np.asarray(image).astype(np.uint32)
                rgb, alpha = np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2), None
            elif image.mode in _EIGHT_BIT:
                kind = "RGBA" if transparent else "RGB"
                whole = np.array(image if image.mode == kind else image.convert(kind))
                rgb, alpha = (whole[:, :, :3].copy(), whole[:, :, 3].copy()) if transparent else (whole, None)
            else:
                raise UserError(f"{path}: pixels of kind {image.mode} have no set white; save it with 8 or 16 bits")
        except _UNREADABLE as error:
            raise UserError(f"{path}: can't be decoded ({_reason(error)}); remove or replace this photo") from None
    pixels = Pixels(rgb, None if alpha is None or alpha.min() == 255 else alpha, orientation)
    # Pillow turns TIFFs by itself, and nothing else: turn them back.
    return _turned_back(pixels) if is_tiff and orientation != 1 else pixels


def read_mask(path: Path, size: tuple[int, int], photo: str) -> np.ndarray:
    """Decode a mask: [H, W] bool, True where it is white (more than half).

    Args:
        path: of the mask.
        size: width and height of its photo.
        photo: its photo's name, for messages.

    Raises:
        UserError: the mask can't be decoded, is of another size, or leaves nothing of the photo.
    """
    pixels = read_pixels(path)
    if pixels.size != size:
        raise UserError(f"{path}: the mask is {text(pixels.size)} pixels, but its photo {photo} is {text(size)}")
    mask = cv2.cvtColor(pixels.rgb, cv2.COLOR_RGB2GRAY) > 127
    if not mask.any():
        raise UserError(f"{path}: the mask is all black, so nothing of {photo} would count; white is what counts")
    return mask


def text(size: tuple[int, int]) -> str:
    """Format a size for people: 640×480."""
    return f"{size[0]}×{size[1]}"


def _opened(path: Path) -> PIL.Image.Image:
    if not path.is_file():
        raise UserError(f"{path}: no such photo")
    try:
        image = PIL.Image.open(path)
    except PIL.Image.DecompressionBombError:
        raise UserError(
            f"{path}: its header claims more than {2 * (PIL.Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels;"
            " remove it or scale it down"
        ) from None
    except _UNREADABLE as error:
        kind = "it is empty" if not path.stat().st_size else _unknown(path, error)
        raise UserError(f"{path}: can't be decoded ({kind}); remove or replace this photo") from None
    count = image.size[0] * image.size[1]
    if count > _LARGE and count > _PIXELS_PER_BYTE * path.stat().st_size:
        image.close()
        raise UserError(
            f"{path}: its header claims {text(image.size)} pixels, but the file has only {path.stat().st_size} bytes;"
            " remove or replace this photo"
        )
    return image


def _unknown(path: Path, error: Exception) -> str:
    """Return the reason why Pillow can't open a file; float TIFFs with colours are one kind that it can't."""
    if path.suffix.lower() in {".tif", ".tiff"} and _floats(path):
        return "its pixels are floats, which have no set white; save it with 8 or 16 bits"
    return "not a photo" if isinstance(error, PIL.UnidentifiedImageError) else _reason(error)


def _floats(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            directory = PIL.TiffImagePlugin.ImageFileDirectory_v2(stream.read(8))
            stream.seek(directory.next)
            directory.load(stream)
    except _UNREADABLE:
        return False
    sample_format = directory.get(339, (1,))
    return 3 in (sample_format if isinstance(sample_format, tuple) else (sample_format,))


def _has_opacity(image: PIL.Image.Image) -> bool:
    return image.mode in _WITH_ALPHA or "transparency" in image.info


def _orientation(image: PIL.Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _UNREADABLE:  # damaged EXIF says nothing of the pixels
        return 1
    return value if value in range(1, 9) else 1


def _turned_back(pixels: Pixels) -> Pixels:
    inverse = {6: 8, 8: 6}.get(pixels.orientation, pixels.orientation)
    back = Pixels(pixels.rgb, pixels.alpha, inverse).turned()
    return Pixels(back.rgb, back.alpha, pixels.orientation)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def encoded(image: np.ndarray, suffix: str, quality: int = 92) -> bytes:
    """Encode an image [H, W, 3] RGB or [H, W] uint8 as a file of the kind `suffix` (.jpg, of this quality, or .png)."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else []
    _, data = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image, settings)
    return data.tobytes()
