"""Photos made to do harm are refused in one line or harmless, in little time and memory."""

from __future__ import annotations

import io
import os
import re
import resource
import struct
import zlib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from hostile import MEMORY, is_refused, snakemake
from jobs import HANGS
from support.plans import SHEET
from support.scenes import write_gaussian_scene

from splatdag.workflow.errors import UserError


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, rows: bytes, *more: bytes, bits: int = 8, kind: int = 2) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _small(*more: bytes) -> bytes:
    return _png(4, 2, (b"\0" + bytes(12)) * 2, *more)


def _saved(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image = PIL.Image.fromarray(np.arange(24 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(24, 32, 3))
    image.save(file, format, **options)
    return file.getvalue()


def _animated() -> bytes:
    return _saved("PNG", save_all=True, append_images=[PIL.Image.new("RGB", (32, 24), "red")] * 3)


def _with_exif(entry: bytes) -> bytes:
    return _saved("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry)


def _deep() -> bytes:
    done, data = cv2.imencode(".png", np.full((24, 32, 3), 65535, np.uint16))
    assert done
    return data.tobytes()


HOSTILE_PHOTOS = {
    "mask": r"masks/.*\.png: not a regular file",
    "name": r"photo b'K\\xfcche\.png': its name is not UTF-8",
    "folders": "more than 100 folders inside one another",
    "transforms.json": "transforms.json: more than 256 MB",
}


@pytest.mark.parametrize("kind", HOSTILE_PHOTOS)
def test_hostile_photos_stop_a_run_before_anything_is_made(kind, project):
    message = HOSTILE_PHOTOS[kind]
    data = write_gaussian_scene(project / "data")
    plain = data / "images"
    if kind == "mask":
        (plain / "masks").mkdir()
        os.mkfifo(plain / "masks" / f"{next(plain.glob('*.*')).stem}.png")
    elif kind == "name":
        (plain / os.fsdecode(b"K\xfcche.png")).write_bytes(_saved("PNG"))
    elif kind == "folders":
        (plain / "/".join("a" * 200)).mkdir(parents=True)
    else:
        with (plain / "transforms.json").open("wb") as file:
            file.truncate(6 << 30)
    (project / SHEET).write_text("capture\tdata_dir\na\t../data/images\n")
    is_refused(snakemake(project, "-n"), project, message)


BOMB = _png(13_000, 13_000, (b"\0" + bytes(1625)) * 13_000, bits=1, kind=0)
"""169 million pixels in 21 kB, all of them there."""
PHOTOS: dict[str, tuple[bytes, str | tuple[int, int]]] = {
    "bomb": (BOMB, "claims 13000×13000 pixels"),
    "larger bomb": (_png(30_000, 30_000, bytes(3751) * 30_000, bits=1, kind=0), "claims more than"),
    "endless header": (_png(2**31 - 1, 2**31 - 1, bytes(100)), "claims more than|can't be decoded"),
    "header too large": (_png(100, 100, bytes(1000)), "can't be decoded"),
    "header too small": (_png(2, 2, bytes(10_000_000)), (2, 2)),
    "no size": (_png(0, 0, b""), "can't be decoded"),
    "empty": (b"", "it is empty"),
    "zeros": (bytes(10_000), "not a photo"),
    "cut short": (_saved("JPEG")[:-200], "can't be decoded"),
    "16 bits": (_deep(), (32, 24)),
    "animated": (_animated(), (32, 24)),
    "text of 100 MB": (_small(_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000)))), "can't be decoded"),
    "texts of 100 MB": (_small(*[_chunk(b"tEXt", b"a\0" + b"x" * 999_990)] * 100), "can't be decoded"),
    "colours of 100 MB": (_small(_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000)))), "can't be decoded"),
    "no EXIF": (_saved("JPEG", exif=b"Exif\0\0" + b"\xff" * 2000), (32, 24)),
    "EXIF in circles": (_with_exif(b"\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0"), (32, 24)),
    "another orientation": (_with_exif(b"\x12\x01\3\0\1\0\0\0\xff\xff\0\0\0\0\0\0"), (32, 24)),
    "drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a photo"),
    "archive": (b"PK\3\4" + bytes(99), "not a photo"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(CANARY) run\n", "decoded"),
}  # fmt: skip


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def read_photo(path: Path) -> tuple[tuple[int, int] | str, str | None, int]:
    """Size of a photo, or why it is refused; why the recorder refuses it; and the process's memory (kB)."""
    from splatdag.formats.images import read_header, read_pixels
    from splatdag.recording.images import read_image

    try:
        read_header(path)
        found: tuple[int, int] | str = read_pixels(path).size
    except UserError as error:
        found = str(error)
    recorded = None
    try:
        read_image(path)
    except UserError as error:
        recorded = str(error)
    status = Path("/proc/self/status").read_text()  # getrusage also knows what the process was forked from
    return found, recorded, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


@pytest.fixture(scope="module")
def reader():
    with ProcessPoolExecutor(1, get_context("spawn"), _limited) as pool:
        yield pool


@pytest.mark.parametrize("kind", PHOTOS)
def test_a_hostile_photo_is_refused_or_harmless(kind, reader, tmp_path):
    content, expected = PHOTOS[kind]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    found, _, memory = reader.submit(read_photo, path).result(timeout=HANGS)
    if isinstance(expected, tuple):
        assert found == expected
    else:
        assert isinstance(found, str)
        assert re.search(expected, found)
        assert "\n" not in found
    assert memory < 800_000
