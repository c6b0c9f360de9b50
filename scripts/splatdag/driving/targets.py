"""Logs and indices that the config names; no file of a log is opened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from splatdag.driving.config import DrivingConfig
from splatdag.driving.logs.folders import log_names
from splatdag.driving.options import AlignmentOptions, IndexOptions
from splatdag.workflow.errors import UserError, nearest

TEST_LOGS = ("001", "011", "016", "065", "084", "090", "106", "115", "123", "158")
"""Test logs of the paper (arXiv 2512.03210, supplement C.1)."""
SAMPLE = "sample:street"
"""The bundled logs, as `data_root`."""
_PICTURES = (
    "rgb",
    *(f"{kind}_{of}" for kind in ("rgb_points", "depth_gray", "bev_world", "bev_ego") for of in ("raw", "lift")),
)


@dataclass(frozen=True)
class DrivingLogs:
    """A folder of logs."""

    root: str
    names: tuple[str, ...]
    """Names of the logs in it (001, 002, …)."""
    sample: bool
    """Whether a rule makes it."""

    def checked(self, scenes: Iterable[str] = (), key: str = "") -> None:
        """Stop if there are no logs, or not those that are named.

        Raises:
            UserError: says what is missing; `key` is the key of the config that names the logs.
        """
        if not self.root:
            raise UserError(
                "config.driving.data_root: not set; it names the folder of PandaSet's logs, or sample:street"
            )
        if not self.names:
            raise UserError(f"config.driving.data_root: {self.root} has no PandaSet logs (folders 001, 002, …)")
        for name in scenes:
            if name not in self.names:
                raise UserError(f"config.driving.{key}: {self.root} has no log {name!r}{nearest(name, self.names)}")


def driving_logs(data_root: str | None, results: str, sample_names: Iterable[str]) -> DrivingLogs:
    """The logs that the config names; without any where the folder is not there.

    Args:
        data_root: of the config; None is no logs.
        results: folder of the results, which samples are made in.
        sample_names: the sample's logs, which need not be there.
    """
    if data_root == SAMPLE:
        return DrivingLogs(f"{results}/samples/street", tuple(sample_names), True)
    return DrivingLogs(data_root or "", tuple(log_names(Path(data_root))) if data_root else (), False)


def alignment_files(options: AlignmentOptions) -> list[str]:
    """The pictures that `lift_alignment` draws, and the points if it writes them."""
    return [f"{name}.png" for name in _PICTURES] + (["points_lift.ply"] if options.save_pointcloud else [])


def checked_index(path: str) -> str:
    """Check that the user's own index is there, and return its path.

    Raises:
        UserError: there is no such file, or it is of no kind that is read.
    """
    if not path.endswith((".pkl", ".pickle", ".jsonl")):
        raise UserError(f"config.driving.index_path: {path}: expected a .pkl or .jsonl file")
    if not Path(path).is_file():
        raise UserError(f"config.driving.index_path: no such file: {path}")
    return path


def full_index(driving: DrivingConfig) -> str:
    """Return the file of the index of all logs."""
    return driving.out_full or "<results>/driving/index/pandaset_full_clips.pkl"


def tiny_index(driving: DrivingConfig) -> str:
    """Return the file of the index of a few logs."""
    return driving.out_tiny or "<results>/driving/index/pandaset_tiny_clips.pkl"


def split_index(split: str) -> str:
    """Return the file of the index of the logs to train on, or of those to measure on."""
    return f"<results>/driving/index/{split}_clips.pkl"


def lines_of(index: str) -> str:
    """Return the path of the JSON lines beside a pickled index."""
    return str(Path(index).with_suffix(".jsonl"))


def test_logs(names: Sequence[str], options: IndexOptions) -> list[str]:
    """The logs that are measured on; all others are to train on."""
    if options.val_scenes:
        return list(options.val_scenes)
    of_paper = [name for name in TEST_LOGS if name in names]
    if options.val_num_scenes is None:
        return of_paper
    others = [name for name in reversed(names) if name not in of_paper]
    return [*of_paper, *others][: options.val_num_scenes]


def split_logs(logs: DrivingLogs, options: IndexOptions, index_path: str | None) -> tuple[list[str], list[str]]:
    """Return the names of the logs to train on and of those to measure on, by the user's own index or the one made.

    Raises:
        UserError: the user's own index can't be read.
    """
    if index_path is not None:
        from splatdag.driving.clips.clips import read_index  # it needs pandas, which most runs of Snakemake do not

        clips = read_index(Path(index_path))
        train, test = (sorted({clip.scene_id for clip in clips if clip.split == split}) for split in ("train", "test"))
        return train, test
    names = logs.names[: options.max_scenes]
    tests = test_logs(names, options)
    return [name for name in names if name not in tests], [name for name in names if name in tests]


def clip_folder(clip_index: int) -> str:
    """Return the name of the clip's folder in a run on one clip; other runs have folders of logs in its place."""
    return f"clip_{clip_index}"
