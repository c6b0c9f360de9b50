"""Videos become sharp frames, spread over their length, upright, all or none."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from splatdag.captures import frames
from splatdag.captures.options import FrameOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job

SIZE = (160, 96)
RATE = 10


def picture(index: int, shift: int = 6) -> np.ndarray:
    """A wide random texture seen through a window that moves; bits of the index are blocks along the top."""
    texture = np.random.default_rng(7).integers(0, 255, (SIZE[1] // 4, 400), dtype=np.uint8)
    texture = cv2.resize(texture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    image = np.repeat(texture[:, index * shift : index * shift + SIZE[0], None], 3, axis=2)
    for bit in range(8):
        image[:16, bit * 20 : bit * 20 + 20] = 255 if index >> bit & 1 else 0
    return image


def index_of(image: np.ndarray) -> int:
    return sum((image[4:12, bit * 20 + 6 : bit * 20 + 14].mean() > 127) << bit for bit in range(8))


def write_video(path: Path, pictures: list[np.ndarray], rotation: int = 0) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height = pictures[0].shape[1::-1]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        stream.time_base = Fraction(1, RATE)
        for pixels in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    if rotation:
        _set_rotation(path, rotation)
    return path


def _set_rotation(path: Path, degrees: int) -> None:
    """Write a rotation (clockwise, as players turn it) into the track header of an MP4 file: ISO 14496-12, 8.3.2."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # of version 0: after flags, times, id, duration, layer, volume
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    for place, value in {0: a * one, 1: b * one, 3: -b * one, 4: a * one}.items():
        data[matrix + 4 * place : matrix + 4 * place + 4] = int(value).to_bytes(4, "big", signed=True)
    path.write_bytes(data)


def taken(video: Path, out: Path, **options: float) -> list[np.ndarray]:
    frames.main(video, out, FrameOptions(**options), Job())
    found = sorted(out.glob("*.jpg"))
    assert [path.name for path in found] == [f"frame_{i:05d}.jpg" for i in range(1, len(found) + 1)]
    assert [frame["name"] for frame in told(out)] == [path.name for path in found]
    return [cv2.imread(str(path)) for path in found]


def told(out: Path) -> list[dict[str, Any]]:
    return json.loads((out / "frames.json").read_text())["frames"]


def test_of_each_part_the_sharpest_frame_is_taken(tmp_path: Path) -> None:
    pictures = [picture(index) for index in range(24)]
    sharp = {1, 7, 8, 14, 21, 22}
    blurred = []
    for index, image in enumerate(pictures):
        soft = cv2.GaussianBlur(image, (0, 0), 2.5)
        soft[:16] = image[:16]
        blurred.append(image if index in sharp else soft)
    found = [
        index_of(image) for image in taken(write_video(tmp_path / "a.mp4", blurred), tmp_path / "out", num_frames=6)
    ]
    assert len(found) == 6
    assert set(found) <= sharp | set(range(16, 20))  # the part of frames 16 to 19 has no sharp one
    assert [index // 4 for index in found] == [0, 1, 2, 3, 4, 5]
    assert [round(frame["seconds"] * RATE) for frame in told(tmp_path / "out")] == found
    assert min(frame["sharpness"] for frame in told(tmp_path / "out")) > 0


def test_frames_where_the_camera_stands_still_are_dropped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = [picture(index) for index in [*range(4), *[4] * 12, *range(5, 9)]]
    with caplog.at_level("INFO"):
        found = taken(write_video(tmp_path / "a.mp4", pictures), tmp_path / "out", num_frames=20)
    assert sorted({index_of(image) for image in found}) == list(range(9))
    assert len(found) == 9
    assert "9 frames taken; 11 dropped" in caplog.text


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_phone_videos_are_turned_as_players_turn_them(tmp_path: Path, rotation: int) -> None:
    pictures = [picture(index) for index in range(4)]
    upright = taken(write_video(tmp_path / "a.mp4", pictures), tmp_path / "upright", num_frames=4)
    turned = taken(write_video(tmp_path / "b.mp4", pictures, rotation), tmp_path / "turned", num_frames=4)
    for plain, found in zip(upright, turned, strict=True):
        expected = np.rot90(plain, -rotation // 90)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_a_short_video_gives_all_its_frames(tmp_path: Path, suffix: str) -> None:
    video = write_video(tmp_path / f"a{suffix}", [picture(i) for i in range(3)])
    found = taken(video, tmp_path / "out", num_frames=50)
    assert [index_of(image) for image in found] == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 99, b"RIFF"])
def test_what_is_no_video_is_one_line_and_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.mp4") as caught:
        taken(tmp_path / "a.mp4", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(("count", "why"), [(1, "too short"), (12, "never moves")])
def test_a_video_of_one_place_is_refused(tmp_path: Path, count: int, why: str) -> None:
    video = write_video(tmp_path / "a.mp4", [picture(3)] * count)
    with pytest.raises(UserError, match=rf"a\.mp4: only 1 frame .*{why}"):
        taken(video, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_frames_of_an_earlier_run_are_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [picture(index) for index in range(8)])
    assert len(taken(video, tmp_path / "out", num_frames=8)) == 8
    (tmp_path / "out" / ".snakemake_timestamp").touch()
    assert len(taken(video, tmp_path / "out", num_frames=3)) == 3
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        taken(video, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"frame_0000{number}.jpg" for number in (1, 2, 3)),
        "frames.json",
        "mine.txt",
    }
