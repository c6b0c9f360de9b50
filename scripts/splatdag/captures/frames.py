"""Take sharp frames, spread over its length, from a video, as the photos of a capture."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from splatdag.captures.options import FrameOptions
from splatdag.formats.images import encoded
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete_folder, write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)
_SHARPNESS_SIDE = 640
"""Longest side of the grey image whose sharpness is measured (pixels); noise of single pixels is averaged away."""
_CHANGE_SIDE = 64
"""Longest side of the images that are compared with the frame before (pixels)."""
_QUALITY = 95
RECEIPT = "frames.json"
"""Beside the frames: when each of them is shown (seconds) and how sharp it is."""


@dataclass(frozen=True)
class _Candidate:
    """The sharpest frame so far of one part of the video."""

    part: int
    sharpness: float
    seconds: float
    frame: av.VideoFrame
    grey: np.ndarray


def main(video: Path, out: Path, options: FrameOptions, job: Job) -> None:
    """Take sharp frames, spread over its length, from a video.

    Args:
        video: file to read.
        out: folder to write frame_00001.jpg and so on to, and frames.json; it appears as a whole.
        options: how many frames.
        job: how to run.
    """
    if not video.is_file():
        raise UserError(f"{video}: no such video")
    if out.exists() and not _is_ours(out):
        raise UserError(f"{out}: holds other files than frames; name a new folder")
    with complete_folder(out) as folder:
        taken, still = _take(video, folder, options, job.threads)
        if len(taken) < 2:
            why = "the camera never moves" if still else "it is too short"
            raise UserError(f"{video}: only {len(taken)} frame could be taken, since {why}; at least two are needed")
        write_json(folder / RECEIPT, {"frames": taken})
    logger.info("%d frames taken; %d dropped, since the camera stood still", len(taken), still)


def _take(video: Path, folder: Path, options: FrameOptions, threads: int) -> tuple[list[dict[str, Any]], int]:
    """Write the sharpest frame of each part; returns facts about them, and the number dropped as unchanged."""
    taken: list[dict[str, Any]] = []
    still = 0
    before: np.ndarray | None = None
    for best in _sharpest(video, options.num_frames, threads):
        if before is not None and float(np.abs(best.grey - before).mean()) < options.min_change:
            still += 1
            continue
        before = best.grey
        name = f"frame_{len(taken) + 1:05d}.jpg"
        taken.append({"name": name, "seconds": round(best.seconds, 3), "sharpness": round(best.sharpness, 1)})
        _write(folder / name, best.frame)
    return taken, still


def _sharpest(video: Path, parts: int, threads: int) -> Iterator[_Candidate]:
    """Yield the sharpest frame of each part of the timeline, in order; one decoded frame is held at a time.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000, eq. 6, on a reduced grey image).

    Raises:
        UserError: the file is no video, has no frames, or is damaged.
    """
    best: _Candidate | None = None
    begin: int | None = None
    try:
        length = _length(video)
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
            for frame in container.decode(stream):
                time = _time(frame)
                begin = time if begin is None else begin
                part = min((time - begin) * parts // length, parts - 1)
                if best is not None and part > best.part:
                    yield best
                    best = None
                grey = _grey(frame, _SHARPNESS_SIDE)
                sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
                if best is None or sharpness > best.sharpness:
                    best = _Candidate(part, sharpness, float(time * (stream.time_base or 0)), frame, _small(grey))
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{video}: can't be decoded as a video: {error.strerror or error}") from None
    if best is None:
        raise UserError(f"{video}: no frames in it")
    yield best


def _length(video: Path) -> int:
    """Measure the time from the first frame to the end of the last, in units of the stream; headers may be wrong."""
    with av.open(str(video)) as container:
        if not container.streams.video:
            raise UserError(f"{video}: no video in it, only {len(container.streams)} other streams")
        packets = container.demux(container.streams.video[0])
        spans = [(_time(packet), packet.duration or 0) for packet in packets if packet.size]
    if not spans:
        raise UserError(f"{video}: no frames in it")
    return max(1, max(time + duration for time, duration in spans) - min(time for time, _ in spans))


def _time(of: av.VideoFrame | av.Packet) -> int:
    """Return the time at which a frame is shown, in units of the stream; AVI files have only that of its decoding."""
    time = of.dts if of.pts is None else of.pts
    return 0 if time is None else time


def _grey(frame: av.VideoFrame, side: int) -> np.ndarray:
    scale = min(1.0, side / max(frame.width, frame.height))
    width, height = (max(2, round(size * scale)) for size in (frame.width, frame.height))
    return frame.reformat(width, height, format="gray", interpolation="AREA").to_ndarray()


def _small(grey: np.ndarray) -> np.ndarray:
    height, width = grey.shape
    scale = min(1.0, _CHANGE_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _write(path: Path, frame: av.VideoFrame) -> None:
    """Write a frame upright, as the display matrix of phone videos says (degrees counter-clockwise)."""
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    path.write_bytes(encoded(pixels, ".jpg", _QUALITY))


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder has frames only; hidden files, such as those of Snakemake, may be there too."""
    return folder.is_dir() and all(
        path.name == RECEIPT or path.name.startswith(".") or (path.suffix == ".jpg" and path.name.startswith("frame_"))
        for path in folder.iterdir()
    )


if __name__ == "__main__":
    run(main)
