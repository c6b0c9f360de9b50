"""Videos, decoded back."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from splatdag.formats import video
from splatdag.formats.video import write_video
from splatdag.workflow.errors import UserError


def frames(count, height=48, width=64):
    """A gradient with a block of pure colour that moves."""
    y, x = np.mgrid[:height, :width]
    still = np.stack([255 * x / width, 255 * y / height, 128 + 0 * x], axis=2).astype(np.uint8)
    for number in range(count):
        picture = still.copy()
        picture[8:24, 2 * number : 2 * number + 16] = 230, 20, 40
        yield picture


def decoded(path):
    with av.open(path) as file:
        stream = file.streams.video[0]
        return stream, list(file.decode(stream))


def rgb(frame):
    """Colours by the formula of BT.709 for limited range, not by the library that wrote them."""
    y, u, v = (plane.astype(float) for plane in frame.to_ndarray(format="yuv444p"))
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    red, blue = y + 1.5748 * v, y + 1.8556 * u
    green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
    return 255 * np.stack([red, green, blue], axis=2)


def test_what_is_read_back_is_what_was_written(tmp_path):
    write_video(tmp_path / "traj.mp4", frames(12), fps=25)
    stream, pictures = decoded(tmp_path / "traj.mp4")
    assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", Fraction(25))
    assert (stream.width, stream.height, len(pictures)) == (64, 48, 12)
    for picture, expected in zip(pictures, frames(12), strict=True):
        assert np.abs(rgb(picture) - expected).mean() < 4
    inside = rgb(pictures[5])[12:20, 13:23].mean(axis=(0, 1))
    np.testing.assert_allclose(inside, [230, 20, 40], atol=6)


def test_players_are_told_the_colours_and_find_the_index_in_front(tmp_path):
    write_video(tmp_path / "traj.mp4", frames(3), fps=30)
    stream, _ = decoded(tmp_path / "traj.mp4")
    assert stream.codec_context.colorspace == Colorspace.ITU709
    assert stream.codec_context.color_range == ColorRange.MPEG
    data = (tmp_path / "traj.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("size", [(47, 64), (48, 63), (1, 1)])
def test_an_odd_size_is_made_even_by_repeating_the_last_row_or_column(size, tmp_path):
    write_video(tmp_path / "traj.mp4", frames(2, *size), fps=30)
    stream, pictures = decoded(tmp_path / "traj.mp4")
    assert (stream.height, stream.width) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    expected = next(frames(1, *size))
    assert np.abs(rgb(pictures[0])[: size[0], : size[1]] - expected).mean() < 6
    assert np.abs(rgb(pictures[0])[-1, -1] - expected[-1, -1]).max() < 12


def test_a_single_frame_is_a_video(tmp_path):
    write_video(tmp_path / "traj.mp4", frames(1), fps=30)
    stream, pictures = decoded(tmp_path / "traj.mp4")
    assert len(pictures) == 1
    assert stream.average_rate == 30


def test_frames_are_let_go_as_they_are_written(tmp_path):
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def watched():
        nonlocal most
        for number in range(100):
            picture = np.full((32, 32, 3), number, np.uint8)
            alive.append(weakref.ref(picture))
            most = max(most, sum(reference() is not None for reference in alive))
            yield picture

    write_video(tmp_path / "traj.mp4", watched(), fps=30)
    assert most <= 3


def test_the_same_frames_give_the_same_bytes(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames(20), fps=30)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_failure_in_the_middle_keeps_the_old_video(tmp_path):
    (tmp_path / "traj.mp4").write_bytes(b"old")

    def breaking():
        yield from frames(5)
        raise RuntimeError("the renderer failed")

    with pytest.raises(RuntimeError, match="the renderer failed"):
        write_video(tmp_path / "traj.mp4", breaking(), fps=30)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("traj.mp4", b"old")]


def test_a_kill_leaves_no_video(tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path; import numpy as np\n"
        "from splatdag.formats.video import write_video\n"
        "def frames():\n"
        "    for _ in range(90):\n"
        "        yield np.random.randint(0, 255, (64, 64, 3)).astype(np.uint8)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_video(Path(sys.argv[1]), frames(), 30)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "traj.mp4")], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


def test_wrong_frames_are_refused_and_nothing_is_written(tmp_path):
    first = next(frames(1))
    for wrong, message in [
        ([], "no frames"),
        ([first[..., 0]], r"expected \[H, W, 3\]"),
        ([first, first[1:]], r"frame 1: \(47, 64, 3\) uint8; expected \(48, 64, 3\) uint8"),
        ([first / 255], "frame 0: .* float64"),
    ]:
        with pytest.raises(ValueError, match=message):
            write_video(tmp_path / "traj.mp4", wrong, fps=30)
    assert list(tmp_path.iterdir()) == []


def test_without_x264_the_video_is_vp9_and_the_log_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(video, "_CODECS", ("no264", "libvpx-vp9"))
    with caplog.at_level(logging.INFO):
        write_video(tmp_path / "traj.mp4", frames(5), fps=30)
    stream, pictures = decoded(tmp_path / "traj.mp4")
    assert stream.codec_context.name == "vp9"
    assert np.abs(rgb(pictures[0]) - next(frames(1))).mean() < 5
    assert "no no264" in caplog.text


def test_without_any_codec_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "_CODECS", ("no264", "novp9"))
    with pytest.raises(UserError, match="disable_video"):
        write_video(tmp_path / "traj.mp4", frames(5), fps=30)
    assert list(tmp_path.iterdir()) == []
