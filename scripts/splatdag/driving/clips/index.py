"""Clip indices of PandaSet: which frames of which logs are inputs, and which are targets."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from splatdag.driving.clips import clips
from splatdag.driving.logs.pandaset import Log, sequences
from splatdag.driving.options import IndexOptions
from splatdag.driving.targets import test_logs
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import now
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)


def main(data_root: Path, out_full: Path, out_tiny: Path, report: Path, options: IndexOptions, job: Job) -> None:
    """Write the index of all logs and that of a few; only metadata and names of files are read.

    Args:
        data_root: folder of the logs (001, 002, …).
        out_full: pickle to write; JSON lines of the same name lie beside it.
        out_tiny: the same of the logs in `tiny_scenes`.
        report: JSON file to write: how many clips there are, and what was left out for which reason.
        options: which clips.
        job: how to run.
    """
    folders = sequences(data_root)[: options.max_scenes]
    names = [folder.name for folder in folders]
    tests = test_logs(names, options)
    tiny = options.tiny_scenes or tuple(names[: options.tiny_num_scenes])
    for key, chosen in (("val_scenes", options.val_scenes), ("tiny_scenes", options.tiny_scenes)):
        missing = [name for name in chosen if name not in names]
        if missing:
            raise UserError(f"{key}: {data_root} has no log {missing[0]}")
    index = cut_clips(folders, tests, options, job.threads)
    if not index.clips:
        raise UserError(f"{data_root}: no clip can be used: {index.most_frequent()}")
    few = [clip for clip in index.clips if clip["scene_id"] in tiny]
    clips.write_index(out_full, meta_of(data_root, names, tests, options, len(index.clips)), index.clips)
    clips.write_index(out_tiny, meta_of(data_root, sorted(tiny), tests, options, len(few)), few)
    write_report(report, len(names), index, {"tiny_clips": len(few)})


def cut_clips(folders: Sequence[Path], tests: Sequence[str], options: IndexOptions, threads: int) -> Index:
    """Cut the clips of logs.

    Args:
        folders: of the logs.
        tests: names of those to measure on; all others are to train on.
        options: which clips.
        threads: to read with.

    Raises:
        UserError: a log or clip can't be used, and `strict` is set.
    """
    with ThreadPoolExecutor(threads) as pool:
        logs = list(pool.map(_log, folders))
    index = Index(options, tests)
    for folder, log in zip(folders, logs, strict=True):
        index.add(folder.name, log)
    return index


def write_report(path: Path, logs: int, index: Index, more: Mapping[str, int]) -> None:
    """Write and log how many clips there are of so many logs, and what was left out for which reason."""
    by_setting = dict(Counter(clip["setting"] for clip in index.clips))
    write_json(
        path,
        {"logs": logs, "clips": len(index.clips), **more, "by_setting": by_setting}
        | {"left_out": index.left_out, "reasons": dict(Counter(left["reason"] for left in index.left_out))},
    )
    logger.info("%d logs, %d clips (%s)", logs, len(index.clips), by_setting)
    if index.left_out:
        logger.warning("%d left out, most often: %s; all in %s", len(index.left_out), index.most_frequent(), path)


def _log(folder: Path) -> Log | UserError:
    try:
        return Log(folder)
    except UserError as error:
        return error


class Index:
    """The clips of the logs so far, and what was left out."""

    def __init__(self, options: IndexOptions, tests: Sequence[str]) -> None:
        self.options, self.tests = options, tests
        self.clips: list[dict[str, Any]] = []
        self.left_out: list[dict[str, str]] = []
        """Logs and clips that are left out: `what` (a log or a clip) and `reason` of each."""

    def add(self, name: str, log: Log | UserError) -> None:
        """Cut the clips of one log."""
        if isinstance(log, UserError):
            self._leave_out(name, str(log))
            return
        rate = clips.measured_rate(log.lidar_times)
        wanted = self.options.target_fps or rate
        if rate is None or wanted is None or abs(rate - wanted) > 0.5:
            self._leave_out(name, f"{rate or 0:.2f} frames a second, not {self.options.target_fps:g}")
            return
        split = "test" if name in self.tests else "train"
        reasons = [log.reason_against(frame, self.options.camera_names) for frame in range(log.frames)]
        if len(log.tables) > log.frames:
            reason = f"lidar/ lists {log.frames} poses and times"
            self._leave_out(f"{name}: frames from {log.frames} to {max(log.tables)}", reason)
        for setting in _settings(split, self.options, wanted):
            starts = setting.starts(log.frames)
            if not starts:
                self._leave_out(f"{name}_{setting.name}", f"fewer than {setting.length} frames")
            for start in starts:
                wrong = next(filter(None, reasons[start : start + setting.length]), None)
                if wrong:
                    self._leave_out(f"{name}_{setting.name}_s{start:03d}", wrong)
                else:
                    self.clips.append(clips.fields(log, setting, start, split, self.options.camera_names, wanted))

    def _leave_out(self, what: str, reason: str) -> None:
        if self.options.strict:
            raise UserError(f"{what}: {reason}")
        self.left_out.append({"what": what, "reason": reason})

    def most_frequent(self) -> str:
        """Name the most frequent reason, with its count."""
        ((reason, count),) = Counter(left["reason"] for left in self.left_out).most_common(1)
        return f"{reason} ({count})"


def _settings(split: str, options: IndexOptions, rate: float) -> tuple[clips.Setting, ...]:
    if options.preset == "paper":
        return clips.PAPER_EVALUATION if split == "test" else clips.PAPER_TRAINING
    name = "eval_interpolation" if split == "test" else "train_interpolation"
    return (clips.plain_setting(name, options.clip_len_s, options.stride_s, rate),)


def meta_of(
    data_root: Path, names: Sequence[str], tests: Sequence[str], options: IndexOptions, count: int
) -> dict[str, Any]:
    """Describe an index of so many clips of some logs."""
    rate = options.target_fps or clips.RATE
    return {
        "data_root": str(data_root),
        "preset": options.preset,
        "target_fps": options.target_fps or None,
        "created_at": now(),
        "scene_ids": list(names),
        "test_scenes": [name for name in tests if name in names],
        "camera_names": list(options.camera_names),
        "coord": {"lidar_points_frame": "world", "pose_convention": "sensor_to_world", "ego0_frame_index": 0},
        "settings": [
            setting.fields(split) for split in ("train", "test") for setting in _settings(split, options, rate)
        ],
        "total_clips": count,
    }


if __name__ == "__main__":
    run(main)
