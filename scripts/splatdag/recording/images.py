"""Pictures of a recording: JPEG, each put together or scaled down only where it has to be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import rerun as rr

from splatdag.formats.images import read_header
from splatdag.recording.options import RecordingOptions
from splatdag.recording.recording import at
from splatdag.workflow.errors import UserError
from splatdag.workflow.small_file import read_small

SUFFIXES = (".jpg", ".jpeg", ".png")
_MAX_BYTES = 1 << 30
"""Largest size of a picture's or mesh's file (bytes)."""
_JPEG_BEGINS, _JPEG_ENDS = b"\xff\xd8", b"\xff\xd9"
T = TypeVar("T")
U = TypeVar("U")


def frames_in(folder: Path, stride: int = 1, suffixes: Iterable[str] = SUFFIXES) -> dict[int, Path]:
    """List files of a folder by frame number, in order: `000001.jpg` is frame 1; none if there is no such folder.

    Args:
        folder: where to look.
        stride: every so many-th file is taken, from the first.
        suffixes: of the files that count.

    Raises:
        UserError: a file's name is not a number, or two have the same.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if not re.fullmatch(r"\d+", path.stem, re.ASCII):
            raise UserError(f"{path}: files of frames are named by number, such as 000001{path.suffix}")
        if int(path.stem) in found:
            raise UserError(f"{path}: frame {int(path.stem)} is there twice, also as {found[int(path.stem)].name}")
        found[int(path.stem)] = path
    return dict(sorted(found.items())[::stride])


def in_threads(function: Callable[[T], U], items: Iterable[T], threads: int) -> list[U]:
    """Apply a function to each item in threads; returns the results in the order of the items."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def read_image(path: Path) -> np.ndarray:
    """Read pixels [H, W, 3] uint8, in OpenCV's order (blue, green, red).

    Raises:
        UserError: the file is missing, cut short, or no image.
    """
    return _decoded(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """Read the bytes of a file.

    Raises:
        UserError: it can't be read.
    """
    try:
        return read_small(path, _MAX_BYTES)
    except OSError as error:
        raise UserError(f"{path}: can't be read: {error.strerror}") from None


def _decoded(data: bytes, path: Path) -> np.ndarray:
    read_header(path)  # refuses what is much larger than its file
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:
        pixels = None
    # A JPEG file that was cut short is decoded, grey where pixels are missing.
    if pixels is None or (data.startswith(_JPEG_BEGINS) and _JPEG_ENDS not in data[len(data) // 2 :]):
        raise UserError(f"{path}: can't be decoded; the file is damaged, cut short or no image")
    return pixels


def jpeg(pixels: np.ndarray, options: RecordingOptions) -> bytes:
    """Encode pixels [H, W, 3] (blue, green, red) as JPEG, scaled down as the options say."""
    if options.downscale > 1:
        height, width = (max(1, side // options.downscale) for side in pixels.shape[:2])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality])
    assert done
    return data.tobytes()


def recorded(path: Path, options: RecordingOptions) -> bytes:
    """Read a picture for a recording: the bytes of a JPEG file itself, unless it is scaled down.

    Raises:
        UserError: as `read_image`.
    """
    data = read_bytes(path)
    pixels = _decoded(data, path)
    return data if data.startswith(_JPEG_BEGINS) and options.downscale == 1 else jpeg(pixels, options)


def side_by_side(paths: Iterable[Path], options: RecordingOptions) -> bytes:
    """Join pictures of one size, from left to right.

    Raises:
        UserError: as `read_image`, or their sizes differ.
    """
    images = {path: read_image(path) for path in paths}
    first = next(iter(images))
    for path, image in images.items():
        if image.shape != images[first].shape:
            sizes = [f"{shape[1]}×{shape[0]}" for shape in (image.shape, images[first].shape)]
            raise UserError(f"{path}: {sizes[0]} pixels, but {first} has {sizes[1]}")
    return jpeg(np.hstack(list(images.values())), options)


def log_images(
    stream: rr.RecordingStream, entity: str, frames: Iterable[int], blobs: list[bytes], timeline: str = "frame"
) -> None:
    """Record one JPEG per frame."""
    columns = rr.EncodedImage.columns(blob=blobs, media_type=["image/jpeg"] * len(blobs))
    stream.send_columns(entity, indexes=at(frames, timeline), columns=columns)
