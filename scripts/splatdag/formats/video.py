"""Videos from pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete

logger = logging.getLogger(__name__)

_Codec = Literal["libx264", "libvpx-vp9"]
_CODECS: tuple[_Codec, ...] = ("libx264", "libvpx-vp9")  # what browsers play in an MP4, best first
_THREADS = 2  # of the encoder; fixed, since the bytes depend on it


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    """Write an MP4 that browsers play, complete or not at all; frames [H, W, 3] uint8 are taken one at a time.

    H.264 with 4:2:0 colours needs even sizes: an odd one is made even by repeating the last row or column.

    Raises:
        ValueError: no frame, or one of another shape or type than the first.
        UserError: PyAV was built without a codec that browsers play.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("a video of no frames")
    if first.ndim != 3 or first.shape[2] != 3:
        raise ValueError(f"frames {first.shape}; expected [H, W, 3]")
    height, width = first.shape[:2]
    codec = _codec()
    with complete(path) as temporary, av.open(temporary, "w", format="mp4", options={"movflags": "+faststart"}) as file:
        stream = file.add_stream(codec, rate=Fraction(fps), options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.codec_context.thread_count = _THREADS
        # Without these, players guess from the size which of two matrices the colours went through.
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        stream.codec_context.color_trc = ColorTrc.BT709
        stream.codec_context.color_range = ColorRange.MPEG
        for number, pixels in enumerate(chain([first], frames)):
            if pixels.shape != first.shape or pixels.dtype != np.uint8:
                raise ValueError(f"frame {number}: {pixels.shape} {pixels.dtype}; expected {first.shape} uint8")
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            picture = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            file.mux(stream.encode(picture))
        file.mux(stream.encode())


def _codec() -> _Codec:
    for name in _CODECS:
        try:
            av.Codec(name, "w")
        except av.codec.codec.UnknownCodecError:
            logger.info("PyAV has no %s", name)
        else:
            return name
    raise UserError(f"PyAV was built without {' and '.join(_CODECS)}; install av from envs/core.txt, or disable_video")
