"""The clips to train on, or those to measure on, in an index of their own: an edit of a log reruns what reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from splatdag.driving.clips.clips import write_index
from splatdag.driving.clips.index import cut_clips, meta_of, write_report
from splatdag.driving.options import IndexOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job, run


def main(
    data_root: Path,
    split: Literal["train", "test"],
    scenes: tuple[str, ...],
    out: Path,
    report: Path,
    options: IndexOptions,
    job: Job,
) -> None:
    """Write the index of some logs; only metadata and names of files are read.

    Args:
        data_root: folder of the logs (001, 002, …).
        split: whether their clips are to train on, or to measure on.
        scenes: names of the logs.
        out: pickle to write; JSON lines of the same name lie beside it.
        report: JSON file to write: how many clips there are, and what was left out for which reason.
        options: which clips; which logs is said by `scenes`.
        job: how to run.
    """
    if not scenes:
        raise UserError(f"{data_root}: no {split} log; driving.index.val_scenes names the logs to measure on")
    tests = scenes if split == "test" else ()
    index = cut_clips([data_root / scene for scene in scenes], tests, options, job.threads)
    if not index.clips:
        raise UserError(f"{data_root}: no clip of a {split} log can be used: {index.most_frequent()}")
    write_index(out, meta_of(data_root, scenes, tests, options, len(index.clips)), index.clips)
    write_report(report, len(scenes), index, {})


if __name__ == "__main__":
    run(main)
