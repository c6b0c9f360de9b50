"""Reader of clips from a folder of logs; a copy of it reads the same in another process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from splatdag.driving.clips.clip_loader import Lesson, Loader
from splatdag.driving.clips.clip_scene import ClipScene, load_clip
from splatdag.driving.clips.clips import Clip
from splatdag.driving.clips.lift import Lifted, lift, sensors_of
from splatdag.driving.clips.lift_cache import lifted
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.training_options import LearnOptions


@dataclass(frozen=True)
class Reader:
    """Clips as a training or an evaluation sees them."""

    data_root: Path
    options: LearnOptions
    cache_dir: Path | None = None
    """Folder in which lifted frames are kept; None keeps none."""

    def log(self, clip: Clip) -> Log:
        """The log of a clip; its metadata is read once."""
        return _log(self.data_root / clip.scene_id)

    def __call__(self, clip: Clip) -> ClipScene:
        """Read a clip, on the CPU.

        Raises:
            UserError: it can't be used.
        """
        options, sensors, folder = self.options, sensors_of(self.options.lidar_sensor_id), self.cache_dir

        def points(log: Log, frame: int) -> Lifted:
            if folder is None:
                return lift(log, frame, clip.cameras, sensors)
            return lifted(log, frame, clip.cameras, sensors, folder=folder)

        return load_clip(self.log(clip), clip, options.camera, points, options, options.data_factor, options.seed)


def loader(reader: Reader, clips: list[Clip], keep: int, strict: bool, threads: int) -> Loader:
    """A loader of these clips, as the reader's options have it."""
    return Loader(
        clips, lambda clip: Lesson.of(reader(clip)), seed=reader.options.seed, keep=keep, strict=strict, threads=threads
    )


@cache
def _log(folder: Path) -> Log:
    return Log(folder)
