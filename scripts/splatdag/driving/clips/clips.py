"""Clips: consecutive frames of a log, some of them input frames and others target frames; and files of clips.

An index has the fields of the reproduction's `preprocess_flux4d.py`, so that an index of either is read by the other's
tools. Of an index only the choice of frames is taken: poses and times come from the logs.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splatdag.driving.logs.folders import CAMERAS
from splatdag.driving.logs.json_files import pose_fields
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.logs.pickles import read_plain
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete, parsed_json, write_text
from splatdag.workflow.sequences import evenly
from splatdag.workflow.small_file import read_small

RATE = 10.0
"""Frames a second of PandaSet."""


@dataclass(frozen=True)
class Setting:
    """Choice of the input and target frames of a clip, relative to its first."""

    name: str
    length: int
    """Frames of a clip."""
    stride: int
    """Frames between the starts of two clips."""
    inputs: tuple[int, ...]
    targets: tuple[int, ...]

    def starts(self, frames: int) -> range:
        """Choose the first frames of the clips of a log."""
        return range(0, frames - self.length + 1, self.stride)

    def fields(self, split: str) -> dict[str, Any]:
        """Describe the setting in the head of an index."""
        return {
            "name": self.name,
            "clip_len_frames": self.length,
            "stride_frames": self.stride,
            "input_frame_indices": list(self.inputs),
            "target_frame_indices": list(self.targets),
            "splits": [split],
            "max_clips_per_scene": None,
        }


INPUTS = (0, 2, 4, 6, 8, 10)
BETWEEN = (1, 3, 5, 7, 9)
AFTER = (11, 12, 13, 14, 15)
PAPER_TRAINING = (
    Setting("train_interpolation", 11, 6, INPUTS, BETWEEN),
    Setting("train_future", 16, 11, INPUTS, BETWEEN + AFTER),
)
PAPER_EVALUATION = (Setting("eval_future", 16, 20, INPUTS, BETWEEN + AFTER),)
"""Settings of the paper (supplement C.2): a log of 80 frames has 12 and 6 clips to train on, or 4 to evaluate."""


def plain_setting(name: str, clip_len_s: float, stride_s: float, rate: float) -> Setting:
    """Set clips of a length in seconds: every second frame is an input, those between are targets."""
    length, stride = max(3, round(clip_len_s * rate)), max(1, round(stride_s * rate))
    return Setting(name, length, stride, tuple(range(0, length, 2)), tuple(range(1, length, 2)))


@dataclass(frozen=True)
class Clip:
    """Input frames of a log, and target frames to be predicted from them."""

    clip_id: str
    scene_id: str
    split: str
    """train or test."""
    setting: str
    start: int
    """First frame of the clip in its log."""
    length: int
    inputs: tuple[int, ...]
    """Input frames relative to the first frame, as the targets are."""
    targets: tuple[int, ...]
    cameras: tuple[str, ...]

    @property
    def frames(self) -> range:
        """Number its frames as the log does."""
        return range(self.start, self.start + self.length)

    @classmethod
    def read(cls, fields: Any, where: str) -> Clip:
        """Read a clip from the fields of an index.

        Raises:
            UserError: a field is missing or not as it should be.
        """
        try:
            start, end = int(fields["frame_start"]), int(fields["frame_end"])
            ids = [int(frame) for frame in fields.get("frame_ids", ())]
            length = int(fields.get("clip_len_frames", len(ids) or end - start + 1))
            clip = cls(
                str(fields["clip_id"]),
                str(fields["scene_id"]),
                str(fields["split"]),
                str(fields["setting"]),
                start,
                length,
                tuple(int(frame) for frame in fields["input_frame_indices"]),
                tuple(int(frame) for frame in fields["target_frame_indices"]),
                tuple(map(str, fields.get("intrinsics") or CAMERAS[:1])),
            )
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise UserError(f"{where}: no clip ({type(error).__name__}: {error})") from None
        if not clip.inputs or not all(0 <= frame < length for frame in clip.inputs + clip.targets):
            raise UserError(f"{where}: clip {clip.clip_id} has no input frames, or frames outside its {length}")
        return clip


def fields(log: Log, setting: Setting, start: int, split: str, cameras: tuple[str, ...], rate: float) -> dict[str, Any]:
    """Describe one clip in an index; paths are relative to the folder of the logs, poses sensor to world."""
    frames = list(range(start, start + setting.length))
    return {
        "clip_id": f"{log.name}_{setting.name}_s{start:03d}_e{frames[-1]:03d}",
        "scene_id": log.name,
        "split": split,
        "setting": setting.name,
        "fps": rate,
        "fps_actual": measured_rate(log.lidar_times[frames]),
        "clip_len_frames": setting.length,
        "stride_frames": setting.stride,
        "clip_len_s": (setting.length - 1) / rate,
        "stride_s": setting.stride / rate,
        "input_frame_indices": list(setting.inputs),
        "target_frame_indices": list(setting.targets),
        "input_frame_ids": [start + frame for frame in setting.inputs],
        "target_frame_ids": [start + frame for frame in setting.targets],
        "frame_start": start,
        "frame_end": frames[-1],
        "frame_ids": frames,
        "timestamps": {
            "lidar": log.lidar_times[frames].tolist(),
            "camera": {name: log.cameras[name].times[frames].tolist() for name in cameras},
        },
        "intrinsics": {name: log.cameras[name].intrinsics for name in cameras},
        "extrinsics": {
            "lidar": pose_fields(log.ego_to_world[frames]),
            "camera": {name: pose_fields(log.cameras[name].camera_to_world[frames]) for name in cameras},
        },
        "image_paths": {
            name: [_relative(log, log.cameras[name].images[frame]) for frame in frames] for name in cameras
        },
        "lidar_paths": [_relative(log, log.tables[frame]) for frame in frames],
        "views": list(cameras),
    }


def _relative(log: Log, path: Path) -> str:
    return path.relative_to(log.folder.parent).as_posix()


def measured_rate(times: np.ndarray) -> float | None:
    """Measure frames a second by the median time between two; None of less than two frames or if time stands still."""
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return 1 / step if step > 0 else None


def write_index(path: Path, meta: dict[str, Any], clips: list[dict[str, Any]]) -> None:
    """Write an index as a pickle of plain lists and numbers and, beside it, one JSON line for each clip."""
    with complete(path) as temporary, temporary.open("wb") as file:
        pickle.dump({"meta": meta, "clips": clips}, file, protocol=4)
    write_text(path.with_suffix(".jsonl"), "".join(json.dumps(clip, allow_nan=False) + "\n" for clip in clips))


def read_index(path: Path) -> list[Clip]:
    """Read the clips of an index, pickled or in JSON lines, ours or of `preprocess_flux4d.py`.

    Raises:
        UserError: the file is missing or damaged, or is no index, or names a clip twice.
    """
    clips = [Clip.read(entry, f"{path}: clip {number}") for number, entry in enumerate(_entries(path))]
    twice = [name for name, count in Counter(clip.clip_id for clip in clips).items() if count > 1]
    if twice:
        raise UserError(f"{path}: names clip {twice[0]} more than once")
    if not clips:
        raise UserError(f"{path}: no clips")
    return clips


def clips_of(path: Path, split: str, most: int | None = None) -> list[Clip]:
    """Read the clips of an index that are to train on (`train`) or to measure on (`test`), or so many, evenly chosen.

    Raises:
        UserError: as `read_index`, or there is none.
    """
    clips = [clip for clip in read_index(path) if clip.split == split]
    if not clips:
        raise UserError(f"{path}: no clip is of a {split} log; val_scenes names the logs to measure on")
    return [clips[number] for number in evenly(len(clips), most)]


def clips_digest(clips: Iterable[Clip]) -> str:
    """Digest clips by what is read of them, whenever and wherever their index was written."""
    lines = "\n".join(repr(clip) for clip in clips)
    return hashlib.blake2b(lines.encode(), digest_size=8).hexdigest()


def clip_at(path: Path, number: int) -> Clip:
    """Read a clip by its place in the index.

    Raises:
        UserError: as `read_index`, or there are not so many.
    """
    clips = read_index(path)
    if number >= len(clips):
        raise UserError(f"clip_index: {number}, but {path} has {len(clips)} clips, counted from 0")
    return clips[number]


def _entries(path: Path) -> Iterator[Any]:
    if path.suffix != ".jsonl":
        index = read_plain(path)
        clips = index.get("clips") if isinstance(index, dict) else None
        if not isinstance(clips, list):
            raise UserError(f"{path}: no index of clips; it has no list `clips`")
        yield from clips
        return
    try:
        lines = read_small(path).decode("utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: no text") from None
    for number, line in enumerate(lines, start=1):
        try:
            yield parsed_json(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number}: no JSON ({error})") from None
