"""Which logs and which index the config names, and what a job reads of them: for rules, from names and sizes alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from splatdag.driving.logs.folders import CAMERAS, CUBOIDS, IMAGES, SEMSEG, TABLES, by_frame, log_names
from splatdag.driving.options import AlignmentOptions, IndexOptions
from splatdag.workflow.digests import contents_digest
from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.plan import PlannedStage, RunRecording

TEST_LOGS = ("001", "011", "016", "065", "084", "090", "106", "115", "123", "158")
"""Of the paper (arXiv 2512.03210, supplement C.1)."""
RESERVED = ("index", "check", "lift", "lift_alignment", "voxelization")
"""Folders below results/driving that are no runs."""
SAMPLE = "sample:street"
"""The bundled logs, as `data_root`."""
_PICTURES = (
    "rgb",
    *(f"{kind}_{of}" for kind in ("rgb_points", "depth_gray", "bev_world", "bev_ego") for of in ("raw", "lift")),
)
_LISTS = ("poses.json", "timestamps.json")
_CAMERA_LISTS = (*_LISTS, "intrinsics.json")


@dataclass(frozen=True)
class DrivingLogs:
    """A folder of logs."""

    root: str
    names: tuple[str, ...]
    """Of the logs in it (001, 002, …)."""
    sample: bool
    """Whether a rule makes it."""

    def checked(self, scenes: Iterable[str] = (), key: str = "") -> None:
        """Stop if there are no logs, or not those that are named.

        Raises:
            UserError: what is missing; `key` is the config's that names them.
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


def logs_digest(
    logs: DrivingLogs,
    cache: Path,
    scenes: Iterable[str] | None = None,
    cameras: tuple[str, ...] = CAMERAS,
    *,
    opened: bool,
    annotated: bool = False,
) -> str:
    """What some logs hold: lists of poses and times by content, tables and images by name.

    Args:
        logs: of the config.
        cache: for the digests of lists, which are read again only when their size, times or inode changed.
        scenes: names; None is all.
        cameras: that count.
        opened: whether tables and images are opened, too: their sizes then count.
        annotated: whether boxes, classes and GPS are.

    Raises:
        UserError: a file can't be looked at.
    """
    lines = []
    for name in logs.names if scenes is None else scenes:
        folder = Path(logs.root) / name
        key = [str(folder.absolute()), *cameras, str(annotated)]
        lines += [f"{name} {contents_digest(_lists(folder, cameras, annotated), cache, key)}"]
        try:
            lines += _frames(folder, cameras, opened, annotated)
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def _lists(folder: Path, cameras: tuple[str, ...], annotated: bool) -> Iterator[tuple[str, Path]]:
    names = [f"lidar/{name}" for name in _LISTS]
    names += [f"camera/{camera}/{name}" for camera in cameras for name in _CAMERA_LISTS]
    names += ["meta/gps.json"] if annotated else []
    yield from ((name, folder / name) for name in names if (folder / name).is_file())


def _frames(folder: Path, cameras: tuple[str, ...], opened: bool, annotated: bool) -> Iterator[str]:
    folders = {"lidar": TABLES, **{f"camera/{camera}": IMAGES for camera in cameras}}
    for name, suffixes in (folders | ({CUBOIDS: TABLES, SEMSEG: TABLES} if annotated else {})).items():
        for path in by_frame(folder / name, suffixes).values():
            yield f"{name}/{path.name} {path.stat().st_size if opened else ''}"


def alignment_files(options: AlignmentOptions) -> list[str]:
    """The pictures that `lift_alignment` draws, and the points if it writes them."""
    return [f"{name}.png" for name in _PICTURES] + (["points_lift.ply"] if options.save_pointcloud else [])


def checked_index(path: str) -> str:
    """An index of one's own.

    Raises:
        UserError: there is no such file, or it is of no kind that is read.
    """
    if not path.endswith((".pkl", ".pickle", ".jsonl")):
        raise UserError(f"config.driving.index_path: {path}: expected a .pkl or .jsonl file")
    if not Path(path).is_file():
        raise UserError(f"config.driving.index_path: no such file: {path}")
    return path


def lines_of(index: str) -> str:
    """The JSON lines beside a pickled index."""
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
    """Names of the logs to train on, and of those to measure on, of an index of one's own or the one that is made.

    Raises:
        UserError: an index of one's own can't be read.
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
    """Folder of the clip in a run on one clip, where other runs have those of logs."""
    return f"clip_{clip_index}"


def recorded_logs(
    run: str, measured: Iterable[str], overfit_run: str, clip_index: int, results: Path
) -> list[RunRecording]:
    """What may be recorded: the logs that a run is measured on, the clip of the other, and runs that are there."""
    there = [tuple(path.parts[-3:-1]) for path in (results / "driving").glob("*/*/metrics.json")]
    own = [*((run, name) for name in measured), (overfit_run, clip_folder(clip_index))]
    runs = dict.fromkeys([*own, *(found for found in sorted(there) if found[0] not in (run, overfit_run))])
    return [RunRecording(log, name, f"driving/{name}/{log}/rerun/driving.rrd") for name, log in runs]


def planned_stages(run: str, overfit_run: str, flow_run: str, measured: Iterable[str]) -> list[PlannedStage]:
    """The stages of both runs, for `status`.

    Args:
        run: name of the run on many logs.
        overfit_run: name of that on one clip.
        flow_run: the one whose motion is drawn.
        measured: logs that the first is measured on.
    """

    def stage(scene: str, name: str, log: str, output: str) -> PlannedStage:
        return PlannedStage("driving", scene, name, f"driving/{log}.log", f"driving/{output}")

    return [
        stage("index", "index", "index", "index/report.json"),
        stage(overfit_run, "train", f"{overfit_run}/overfit", f"{overfit_run}/manifest.json"),
        stage(flow_run, "flow", f"{flow_run}/flow", f"{flow_run}/flow/summary.json"),
        stage(run, "train", f"{run}/train", f"{run}/meta.json"),
        *(stage(f"{run}/{log}", "evaluate", f"{run}/{log}/evaluate", f"{run}/{log}/metrics.json") for log in measured),
        stage(run, "merge", f"{run}/merge", f"{run}/manifest.json"),
    ]
