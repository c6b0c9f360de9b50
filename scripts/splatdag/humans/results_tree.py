"""Results tree of the human trainer: the recordings that can be made of it, found from folder names alone."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from splatdag.recording.options import Task
from splatdag.workflow.digests import contents_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import read_json
from splatdag.workflow.sequences import by_number
from splatdag.workflow.sheets import NAME
from splatdag.workflow.small_file import read_small

GENERATION = "input_data/train/misc/nv_generation"
"""Folder of the generation of training views, relative to a run."""
_FOLDERS: dict[Task, tuple[str, str]] = {
    "nvs": ("evaluation", "nvs"),
    "pose": ("evaluation", "pose_smplx"),
    "trn_nv_generation": (f"{GENERATION}/pose_state", ""),
}
"""Folder of a task's epochs in a run, and the task's folder in each epoch."""
_ALSO_READ: dict[Task, tuple[str, ...]] = {
    "nvs": (),
    "pose": (),
    "trn_nv_generation": (
        f"{GENERATION}/est_images_debug",
        "input_data/train/all_cameras",
        "input_data/train/images",
    ),
}
FILES: dict[Task, str] = {
    "nvs": "evaluation_nvs",
    "pose": "evaluation_pose",
    "trn_nv_generation": "trn_nv_generation",
}
"""Beginning of the names of a task's recordings, `<this>_epoch_XXXX.rrd`."""


@dataclass(frozen=True)
class Recording:
    """A recording that can be made: one task of one epoch of a run."""

    scene: str
    exp: str
    task: Task
    epoch: str
    """Name of the epoch, such as `epoch_0010`."""

    @property
    def run(self) -> str:
        """Folder of the run, relative to the results tree."""
        return f"{self.scene}/{self.exp}"

    @property
    def file(self) -> str:
        """The recording, relative to the results tree."""
        return f"{self.run}/rerun/{FILES[self.task]}_{self.epoch}.rrd"


@dataclass(frozen=True)
class RunEpoch:
    """One task of one epoch of a run, to be recorded."""

    run: Path
    task: Task
    epoch: str
    folder: Path
    """Folder of the task's results of the epoch."""
    source: str | None
    """Id of the camera that the run was trained from; None if nothing says which."""

    @property
    def name(self) -> str:
        """Name of the recording: scene, experiment, task and epoch."""
        return "-".join([self.run.parent.name, self.run.name, self.task, self.epoch])


def read_epoch(run: Path, task: Task, epoch: str, scenes_dir: Path) -> RunEpoch:
    """Find the folder of a task's results of an epoch, and the source camera.

    Raises:
        UserError: there is no such folder; names the epochs that there are. Or as `source_camera`.
    """
    run = run.absolute()
    if epoch.isdecimal():
        epoch = epoch_name(epoch)
    above, below = _FOLDERS[task]
    folder = run / above / epoch / below
    if not folder.is_dir():
        known = epochs_in(run, task)
        has = f"{task} has {', '.join(known)}" if known else f"the run has nothing of {task}"
        raise UserError(f"{folder}: no such folder; {has}")
    return RunEpoch(run, task, epoch, folder, source_camera(run, run.parent.name, scenes_dir))


def epoch_name(epoch: str) -> str:
    """Return `epoch_0010` for `10` and for `epoch_0010`."""
    return f"epoch_{int(epoch.removeprefix('epoch_')):04d}"


def runs_in(root: Path) -> list[tuple[str, str]]:
    """List scene and experiment of every run of a results tree; other folders are passed over."""
    return [
        (scene, exp)
        for scene in _folders(root)
        for exp in _folders(root / scene)
        if any((root / scene / exp / above).is_dir() for above, _ in _FOLDERS.values())
    ]


def epochs_in(run: Path, task: Task) -> list[str]:
    """List the epochs of which a run has results of a task, in order."""
    above, below = _FOLDERS[task]
    return [
        name
        for name in sorted(_folders(run / above), key=by_number)
        if re.fullmatch(r"epoch_\d+", name) and (run / above / name / below).is_dir()
    ]


def _folders(folder: Path) -> list[str]:
    """List names of folders in a folder, sorted; none if it is not there. Names that no wildcard takes are left out."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if re.fullmatch(NAME, entry.name) and entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def inputs_digest(root: Path, recording: Recording, scenes_dir: Path, cache: Path) -> str:
    """Return the digest of the contents of a recording's inputs, and of the file that names the source camera.

    Args:
        root: the results tree.
        recording: task and epoch of a run.
        scenes_dir: folder of `<scene>.json`.
        cache: folder for remembered digests; a file is read again only when its size, times or inode changed.

    Raises:
        UserError: folders without end are in one another, or a file can't be read.
    """
    above, below = _FOLDERS[recording.task]
    run = root / recording.run
    folders = [f"{above}/{recording.epoch}/{below}", *_ALSO_READ[recording.task]]
    lines = [f"{folder} {_digest_below(run / folder, cache)}" for folder in folders]
    lines += [_read(path) for path in (scenes_dir / f"{recording.scene}.json", run / "manifest.json")]
    data = "\n".join(lines).encode(errors="surrogateescape")  # also names that are not UTF-8
    return hashlib.blake2b(data, digest_size=8).hexdigest()


@functools.cache
def _digest_below(folder: Path, cache: Path) -> str:
    """Return the digest of all files below a folder, which are read once in a process."""
    try:
        files = list(_files_below(folder, ""))
    except RecursionError:
        raise UserError(f"{folder}: its folders are nested too deeply") from None
    return contents_digest(files, cache, ["tree", str(folder.absolute())])


def _files_below(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    """Yield names and paths of all files below a folder; links to nothing are passed over."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir():
            yield from _files_below(folder / entry.name, f"{prefix}{entry.name}/")
        elif entry.is_file():
            yield prefix + entry.name, folder / entry.name


def _read(path: Path) -> str:
    try:
        return read_small(path).decode("utf-8", errors="replace")
    except OSError:
        return ""


def source_camera(run: Path, scene: str, scenes_dir: Path | None) -> str | None:
    """Read the camera that a run was trained from: `cam_id` of its scene's file, else the one in its manifest.

    Raises:
        UserError: the scene's file has no `cam_id`, or one of the two is not JSON.
    """
    file = scenes_dir / f"{scene}.json" if scenes_dir else None
    if file is not None and file.is_file():
        camera = read_json(file).get("cam_id")
        if camera is None:
            raise UserError(f"{file}: no cam_id, the number of the source camera")
        return str(camera)
    manifest = run / "manifest.json"
    camera = read_json(manifest).get("source_camera_id") if manifest.is_file() else None
    return None if camera is None else str(camera)
