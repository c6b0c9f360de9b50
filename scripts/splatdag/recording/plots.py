"""Curves of a recording."""

from __future__ import annotations

from collections.abc import Sequence

import rerun as rr

from splatdag.recording.recording import at


def log_curve(
    stream: rr.RecordingStream,
    entity: str,
    steps: Sequence[int],
    values: Sequence[float],
    name: str,
    color: Sequence[int],
    as_points: bool = False,
    timeline: str = "step",
) -> None:
    """Record numbers over steps.

    Args:
        stream: the recording.
        entity: the curve's; curves below one entity share a plot.
        steps: at which there is a number.
        values: the numbers.
        name: in the legend.
        color: [3]
        as_points: draw each number by itself, where there are few.
        timeline: of the steps.
    """
    look = rr.SeriesPoints if as_points else rr.SeriesLines
    stream.log(entity, look(names=name, colors=color), static=True)
    stream.send_columns(entity, indexes=at(steps, timeline), columns=rr.Scalars.columns(scalars=list(values)))
