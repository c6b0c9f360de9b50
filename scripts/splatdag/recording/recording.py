"""A recording as a file: complete or absent, and the same by content whenever it is made from the same files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("RERUN_ANALYTICS", "0")  # read when the package is imported

import rerun as rr
import rerun.blueprint as rrb
from rerun.blueprint.components import AbsoluteTimeRange

from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import write_bytes

FPS = 20.0
"""Frames a second at which recordings are played."""


@contextmanager
def recording(
    path: Path, application: str, name: str, blueprint: rrb.Blueprint, max_size_mb: float
) -> Iterator[rr.RecordingStream]:
    """Write a recording; it appears when the block ends well.

    Data is sent in columns and nothing is taken from the clock, so that two recordings of the same files are equal
    (`rerun rrd compare --unordered`; the ids of rows differ).

    Args:
        path: the file.
        application: id by which viewers remember the layout of windows; one for each kind of recording.
        name: id of the recording, which viewers show.
        blueprint: what is shown, and where.
        max_size_mb: size (MB) beyond which the file is refused.

    Raises:
        UserError: the file would be too large; what to lower.
    """
    stream = rr.RecordingStream(application, recording_id=name, send_properties=False)
    rr.set_log_time_enabled(False, recording=stream)
    # In memory: where a disk is full, Rerun's own writer waits for ever.
    encoded = rr.binary_stream(stream)
    try:
        stream.send_blueprint(blueprint, make_active=True, make_default=True)
        stream.send_recording_name(name)
        yield stream
        data = encoded.read() or b""
    finally:
        stream.disconnect()
    size_mb = len(data) / 1e6
    if size_mb > max_size_mb:
        raise UserError(
            f"{path}: would have {size_mb:.0f} MB, max_size_mb is {max_size_mb:g}; raise downscale or"
            " frame_stride, lower jpeg_quality or (of a capture) sh_degree, or raise max_size_mb"
        )
    write_bytes(path, data)


def at(frames: Iterable[int], timeline: str = "frame") -> list[rr.TimeColumn]:
    """The times of columns."""
    return [rr.TimeColumn(timeline, sequence=list(frames))]


def blueprint(
    *views: rrb.Container | rrb.View, timeline: str = "frame", fps: float = FPS, loop: tuple[int, int] | None = None
) -> rrb.Blueprint:
    """A layout whose frames are played in a loop.

    Args:
        views: what is shown.
        timeline: that is played.
        fps: numbers of the timeline that are played in a second.
        loop: first and last number that are played; None plays all.
    """
    time = rrb.TimePanel(
        state="expanded",
        timeline=timeline,
        fps=fps,
        play_state="playing",
        loop_mode="all" if loop is None else "selection",
        time_selection=None if loop is None else AbsoluteTimeRange(min=loop[0], max=loop[1]),
    )
    return rrb.Blueprint(
        *views,
        rrb.BlueprintPanel(state="expanded"),
        rrb.SelectionPanel(state="collapsed"),
        time,
        auto_views=False,
        auto_layout=False,
    )
