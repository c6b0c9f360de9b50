"""What the target `upload` publishes: recordings by scene, and the plan that is printed before anything is sent."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from splatdag.hub.layout import Scene, published_as
from splatdag.hub.options import UploadOptions, token_of
from splatdag.hub.pages import readable_size
from splatdag.hub.rrd_files import NAME, selected
from splatdag.recording.options import RunSelection
from splatdag.workflow.errors import UserError

_RUNS = ("captures/*/*", "static/*/*", "worlds/*/*", "worlds/*/*/splat", "driving/*/*", "humans/*/*")
"""Where runs lie below the results."""
_FILES_SHOWN = 6
"""Recordings of one scene that the plan names."""


@dataclass(frozen=True)
class Upload:
    """One scene's recordings."""

    scene: Scene
    run: Path
    recordings: tuple[Path, ...]


def recordings_on_disk(results: Path, results_root: Path) -> list[Path]:
    """All recordings of finished runs, `<run>/rerun/*.rrd`: of every area, and of an older tree of results."""
    patterns = [*((results, runs) for runs in _RUNS), (results_root, "*/*")]
    return sorted({path for root, runs in patterns for path in root.glob(f"{runs}/rerun/[!.]*.rrd")})


def uploads(
    recordings: Iterable[Path],
    results: Path,
    results_root: Path,
    options: UploadOptions,
    selection: RunSelection,
) -> tuple[dict[Scene, Upload], list[str]]:
    """What is to be published, by scene, and a line for everything that can't be.

    Args:
        recordings: that there are or will be, `<run>/rerun/<name>.rrd`.
        results: folder of results.
        results_root: an older tree, of runs `<results_root>/<scene>/<exp>`.
        options: which recordings, `auto` replaced by what it stands for.
        selection: which runs are published.

    Raises:
        UserError: two runs have the same place.
    """
    by_run: dict[Path, list[Path]] = {}
    for path in recordings:
        by_run.setdefault(path.parent.parent, []).append(path)
    found: dict[Scene, Upload] = {}
    troubles = []
    for run, paths in sorted(by_run.items()):
        try:
            scene = _scene_of(run, results, results_root)
            _check_names(paths)
        except UserError as error:
            troubles.append(f"upload: {error}; left out")
            continue
        chosen = set(selected([path.name for path in paths], options.selection, options.rrd_glob))
        upload = Upload(scene, run, tuple(path for path in sorted(paths) if path.name in chosen))
        if not upload.recordings or not selection.takes(scene.exp, scene.name):
            continue
        if scene in found and not _same(found[scene].run, run):
            raise UserError(f"upload: {found[scene].run} and {run} would both be {scene.folder}; rename one of them")
        found.setdefault(scene, upload)
    return dict(sorted(found.items())), troubles


def check_token(options: UploadOptions, jobs: Iterable[str]) -> None:
    """Stop before a run begins if uploads to the Hub are among its jobs and there is no token.

    Args:
        options: of the upload.
        jobs: names of the rules that will run.

    Raises:
        UserError: the variable that is to be set.
    """
    if options.repo_id and "upload_scene" in jobs:
        token_of(os.environ)


def upload_of(scene: Scene, found: Mapping[Scene, Upload]) -> Upload:
    """The upload of a scene that was asked for by name.

    Raises:
        UserError: the scene has nothing to publish.
    """
    if scene not in found:
        raise UserError(f"upload: {scene}: no run of that experiment and scene has recordings that are selected")
    return found[scene]


def _scene_of(run: Path, results: Path, results_root: Path) -> Scene:
    if run.parent.parent == results_root:
        return Scene(run.name, run.parent.name)
    return published_as(PurePosixPath(os.path.relpath(run, results)))


def _check_names(paths: Iterable[Path]) -> None:
    for path in paths:
        if not NAME.fullmatch(path.name):
            raise UserError(f"{path}: not a name for a file of the Hub; letters, digits, _, - and . only")


def _same(run: Path, other: Path) -> bool:
    return run.resolve() == other.resolve()


def state_digest(recordings: Iterable[Path]) -> str:
    """A digest that changes when one of these recordings does; by size and time, since another look costs nothing."""
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(recordings)]
    return hashlib.blake2b(repr(states).encode(), digest_size=8).hexdigest() if states else ""


def plan_lines(found: Mapping[Scene, Upload], options: UploadOptions, hub_dir: str) -> Iterator[str]:
    """What will be published where: files with their sizes, scene by scene."""
    if not found:
        yield "upload: nothing to publish: no run has recordings that are selected"
        return
    count = sum(len(upload.recordings) for upload in found.values())
    size = sum(_size(path) or 0 for upload in found.values() for path in upload.recordings)
    where = f"the folder {hub_dir} (sharing.upload.repo_id is not set)"
    if options.repo_id:
        where = f"{options.repo_id} ({options.repo_type}), branch {options.branch}"
    what = f"{_counted(count, 'recording')} of {_counted(len(found), 'scene')}, {readable_size(size)}"
    yield f"upload: {what}, to {where}"
    for upload in found.values():
        shown = [f"{path.name} ({_told_size(path)})" for path in upload.recordings[:_FILES_SHOWN]]
        more = len(upload.recordings) - len(shown)
        yield f"  {upload.scene.folder}: {', '.join(shown)}" + (f" and {more} more" if more else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _told_size(path: Path) -> str:
    size = _size(path)
    return "to be recorded" if size is None else readable_size(size)
