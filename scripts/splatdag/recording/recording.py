"""A recording as a file: complete or absent, and the same by content whenever it is made from the same files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("RERUN_ANALYTICS", "0")  # read when the package is imported

import rerun as rr
import rerun.blueprint as rrb
from rerun.blueprint.components import AbsoluteTimeRange

from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import sample_line
from splatdag.workflow.publish import write_bytes

FPS = 20.0
"""Frames a second at which recordings are played."""
_ABOUT = "about"
"""Entity of the line that names a bundled sample."""


@dataclass(frozen=True)
class Layout:
    """Views that are shown at first, their frames played in a loop."""

    view: rrb.Container | rrb.View
    """All that is shown."""
    timeline: str = "frame"
    """Timeline that is played."""
    fps: float = FPS
    """Numbers of the timeline that are played in a second."""
    loop: tuple[int, int] | None = None
    """First and last number that are played; None plays all."""


@contextmanager
def recording(
    path: Path, application: str, name: str, layout: Layout, max_size_mb: float, sample: str = ""
) -> Iterator[rr.RecordingStream]:
    """Write a recording; it appears when the block ends well.

    Data is sent in columns and nothing is taken from the clock, so that two recordings of the same files are equal
    (`rerun rrd compare --unordered`; the ids of rows differ).

    Args:
        path: the file.
        application: id by which viewers remember the layout of windows; one for each kind of recording.
        name: id of the recording, which viewers show.
        layout: what is shown, and where.
        max_size_mb: size (MB) beyond which the file is refused.
        sample: bundled sample that is shown, as manifests have it; the recording's first line says so.

    Raises:
        UserError: the file would be too large; what to lower.
    """
    stream = rr.RecordingStream(application, recording_id=name, send_properties=False)
    rr.set_log_time_enabled(False, recording=stream)
    # In memory: where a disk is full, Rerun's own writer waits for ever.
    encoded = rr.binary_stream(stream)
    try:
        stream.send_blueprint(_blueprint(layout, sample), make_active=True, make_default=True)
        stream.send_recording_name(f"sample: {name}" if sample else name)
        if sample:
            stream.log(_ABOUT, rr.TextDocument(sample_line(sample)), static=True)
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
    """Return the time column of data sent in columns."""
    return [rr.TimeColumn(timeline, sequence=list(frames))]


def _blueprint(layout: Layout, sample: str) -> rrb.Blueprint:
    view = layout.view
    if sample:
        about = rrb.TextDocumentView(origin=_ABOUT, name="bundled sample")
        view = rrb.Vertical(about, view, row_shares=[1, 9])
    time = rrb.TimePanel(
        state="expanded",
        timeline=layout.timeline,
        fps=layout.fps,
        play_state="playing",
        loop_mode="all" if layout.loop is None else "selection",
        time_selection=None if layout.loop is None else AbsoluteTimeRange(min=layout.loop[0], max=layout.loop[1]),
    )
    return rrb.Blueprint(
        view,
        rrb.BlueprintPanel(state="expanded"),
        rrb.SelectionPanel(state="collapsed"),
        time,
        auto_views=False,
        auto_layout=False,
    )
