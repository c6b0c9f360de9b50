"""Clips: consecutive frames of a log, of which some are given and others are to be predicted; and files of them.

The fields are those of the reproduction's `preprocess_flux4d.py`, with more beside them, so that an index of either is
read by the other's tools. Of an index only the choice of frames is taken: poses and times come from the logs.
"""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splatdag.driving.logs.folders import CAMERAS
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.logs.pickles import read_plain
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete, parsed_json, write_text
from splatdag.workflow.sequences import evenly
from splatdag.workflow.small_file import read_small

RATE = 10.0
"""Frames a second of PandaSet."""
_MAX_BYTES = 256 << 20
"""Of an index in JSON lines."""


@dataclass(frozen=True)
class Setting:
    """Which frames of a clip are given and which are predicted, relative to its first."""

    name: str
    length: int
    """Frames of a clip."""
    stride: int
    """Frames between the starts of two clips."""
    inputs: tuple[int, ...]
    targets: tuple[int, ...]

    def starts(self, frames: int) -> range:
        """First frames of the clips of a log."""
        return range(0, frames - self.length + 1, self.stride)


INPUTS = (0, 2, 4, 6, 8, 10)
BETWEEN = (1, 3, 5, 7, 9)
AFTER = (11, 12, 13, 14, 15)
PAPER_TRAINING = (
    Setting("train_interpolation", 11, 6, INPUTS, BETWEEN),
    Setting("train_future", 16, 11, INPUTS, BETWEEN + AFTER),
)
PAPER_EVALUATION = (Setting("eval_future", 16, 20, INPUTS, BETWEEN + AFTER),)
"""Supplement C.2: of 80 frames 12 and 6 clips to train on, or 4 to evaluate."""


def plain_setting(name: str, clip_len_s: float, stride_s: float, rate: float) -> Setting:
    """Clips of a length in seconds: every second frame is given, those between are predicted."""
    length, stride = max(3, round(clip_len_s * rate)), max(1, round(stride_s * rate))
    return Setting(name, length, stride, tuple(range(0, length, 2)), tuple(range(1, length, 2)))


@dataclass(frozen=True)
class Clip:
    """Which frames of which log are given and which are predicted."""

    clip_id: str
    scene_id: str
    split: str
    """train or test."""
    setting: str
    start: int
    """First frame of the clip in its log."""
    length: int
    inputs: tuple[int, ...]
    """Relative to the first frame, as are the targets."""
    targets: tuple[int, ...]
    cameras: tuple[str, ...]

    @property
    def frames(self) -> range:
        """Of the log."""
        return range(self.start, self.start + self.length)

    @classmethod
    def read(cls, fields: Any, where: str) -> Clip:
        """From the fields of an index.

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
    """What an index says of one clip; paths are relative to the folder of the logs, poses sensor to world."""
    frames = list(range(start, start + setting.length))

    def poses(matrices: np.ndarray) -> list[list[list[float]]]:
        return [matrices[frame].tolist() for frame in frames]

    return {
        "clip_id": f"{log.name}_{setting.name}_s{start:03d}_e{frames[-1]:03d}",
        "scene_id": log.name,
        "split": split,
        "setting": setting.name,
        "fps": rate,
        "fps_actual": measured_rate(log.lidar_times[frames]),
        "clip_len_frames": setting.length,
        "stride_frames": setting.stride,
        "clip_len_s": setting.length / rate,
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
        "intrinsics": {name: log.cameras[name].K.tolist() for name in cameras},
        "extrinsics": {
            "lidar": poses(log.ego_to_world),
            "camera": {name: poses(log.cameras[name].camera_to_world) for name in cameras},
        },
        "image_paths": {
            name: [_relative(log, log.cameras[name].images[frame]) for frame in frames] for name in cameras
        },
        "lidar_paths": [_relative(log, log.tables[frame]) for frame in frames],
        "views": [
            {"camera": name, "frame_index": frame, "role": role}
            for role, listed in (("input", setting.inputs), ("target", setting.targets))
            for frame in listed
            for name in cameras
        ],
    }


def _relative(log: Log, path: Path) -> str:
    return path.relative_to(log.folder.parent).as_posix()


def measured_rate(times: np.ndarray) -> float | None:
    """Frames a second, from the median of the time between two; None of less than two frames or if they stand still."""
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return 1 / step if step > 0 else None


def write_index(path: Path, meta: dict[str, Any], clips: list[dict[str, Any]]) -> None:
    """Write an index as a pickle of plain lists and numbers and, beside it, one JSON line for each clip."""
    with complete(path) as temporary, temporary.open("wb") as file:
        pickle.dump({"meta": meta, "clips": clips}, file, protocol=4)
    write_text(path.with_suffix(".jsonl"), "".join(json.dumps(clip, allow_nan=False) + "\n" for clip in clips))


def read_index(path: Path) -> list[Clip]:
    """The clips of an index, pickled or in JSON lines, ours or of `preprocess_flux4d.py`.

    Raises:
        UserError: the file is missing or damaged, or is no index, or names a clip twice.
    """
    clips = [Clip.read(given, f"{path}: clip {number}") for number, given in enumerate(_listed(path))]
    twice = [name for name, count in Counter(clip.clip_id for clip in clips).items() if count > 1]
    if twice:
        raise UserError(f"{path}: names clip {twice[0]} more than once")
    if not clips:
        raise UserError(f"{path}: no clips")
    return clips


def clips_of(path: Path, split: str, most: int | None = None) -> list[Clip]:
    """The clips of an index that are to train on (`train`) or to measure on (`test`), or so many, evenly chosen.

    Raises:
        UserError: as `read_index`, or there is none.
    """
    clips = [clip for clip in read_index(path) if clip.split == split]
    if not clips:
        raise UserError(f"{path}: no clip is of a {split} log; val_scenes names the logs to measure on")
    return [clips[number] for number in evenly(len(clips), most)]


def clip_at(path: Path, number: int) -> Clip:
    """A clip by its place in the index.

    Raises:
        UserError: as `read_index`, or there are not so many.
    """
    clips = read_index(path)
    if number >= len(clips):
        raise UserError(f"clip_index: {number}, but {path} has {len(clips)} clips, counted from 0")
    return clips[number]


def _listed(path: Path) -> Iterator[Any]:
    if path.suffix != ".jsonl":
        index = read_plain(path)
        clips = index.get("clips") if isinstance(index, dict) else None
        if not isinstance(clips, list):
            raise UserError(f"{path}: no index of clips; it has no list `clips`")
        yield from clips
        return
    try:
        lines = read_small(path, _MAX_BYTES).decode("utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: no text") from None
    for number, line in enumerate(lines, start=1):
        try:
            yield parsed_json(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number}: no JSON ({error})") from None
