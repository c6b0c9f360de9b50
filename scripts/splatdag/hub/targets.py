"""Target `upload`: the recordings to publish, by scene, and the plan that is printed before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from splatdag.hub.layout import Scene
from splatdag.hub.options import UploadOptions, token_of
from splatdag.hub.pages import readable_size
from splatdag.hub.rrd_files import NAME, selected
from splatdag.workflow.area import Describer, PlannedRun
from splatdag.workflow.digests import contents_digest
from splatdag.workflow.errors import UserError

_FILES_SHOWN = 6
"""Recordings of one scene that the plan names."""


@dataclass(frozen=True)
class Upload:
    """One scene's recordings."""

    scene: Scene
    run: Path
    recordings: tuple[Path, ...]
    made: frozenset[Path] = frozenset()
    """Recordings that rules make; others are taken as they are."""
    describer: Describer | None = None
    """Module that reads the facts on the page that are not in `metrics.json`."""
    sample: str = ""
    """Bundled sample that the run is made from."""

    def is_made(self, recording: Path) -> bool:
        """Tell whether a rule makes a recording."""
        return recording in self.made


def uploads(
    runs: Iterable[PlannedRun], made: Container[str], options: UploadOptions, epoch: str
) -> tuple[dict[Scene, Upload], list[str]]:
    """Return the uploads by scene, and lines on names that the Hub can't take and bundled samples that are left out.

    Args:
        runs: selected runs.
        made: recordings that rules make; others count if they are there.
        options: of the upload; `auto` is replaced by the selection that it stands for.
        epoch: `all`, `latest`, or one, to which recordings with an epoch in their names are limited.

    Raises:
        UserError: two runs have the same place.
    """
    found: dict[Scene, Upload] = {}
    troubles: list[str] = []
    samples: list[str] = []
    for run in sorted(runs, key=lambda run: run.folder):
        folder, by_rules = Path(run.folder), [Path(r.file) for r in run.recordings if r.file in made]
        paths = sorted({*Path(run.rerun or folder / "rerun").glob("[!.]*.rrd"), *by_rules})
        if not paths:
            continue
        try:
            scene = _scene(run)
            _check_names(paths)
        except UserError as error:
            troubles.append(f"upload: {error}; left out")
            continue
        chosen = set(selected([path.name for path in paths], options.selection, options.rrd_glob, epoch))
        kept = tuple(path for path in paths if path.name in chosen)
        upload = Upload(scene, folder, kept, frozenset(by_rules), run.describer, run.sample)
        if not kept:
            continue
        if run.sample and options.repo_id and not options.include_samples:
            samples.append(str(scene))
            continue
        if scene in found and not _same(found[scene].run, folder):
            raise UserError(f"upload: {found[scene].run} and {folder} would both be {scene.folder}; rename one of them")
        found.setdefault(scene, upload)
    if samples:
        troubles.append(
            f"upload: bundled samples are left out: {', '.join(samples)}; sharing.upload.include_samples publishes them"
        )
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
    """Return the upload of a scene that was requested by name.

    Raises:
        UserError: the scene has nothing to publish.
    """
    if scene not in found:
        raise UserError(f"upload: {scene}: no run of that experiment and scene has recordings that are selected")
    return found[scene]


def _scene(run: PlannedRun) -> Scene:
    try:
        return Scene(run.variant, run.scene)
    except UserError as error:
        raise UserError(f"{run.folder}: {error}") from None


def _check_names(paths: Iterable[Path]) -> None:
    for path in paths:
        if not NAME.fullmatch(path.name):
            raise UserError(f"{path}: not a name for a file of the Hub; letters, digits, _, - and . only")


def _same(run: Path, other: Path) -> bool:
    return run.resolve() == other.resolve()


def given_digest(recordings: Iterable[Path], cache: Path) -> str:
    """Digest of the contents of recordings that are taken as they are; empty where there are none."""
    paths = sorted(recordings)
    return contents_digest([(path.name, path) for path in paths], cache, map(str, paths)) if paths else ""


def plan_lines(found: Mapping[Scene, Upload], options: UploadOptions, hub_dir: str) -> Iterator[str]:
    """Yield the plan's lines: the destination, then the files with their sizes, scene by scene."""
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
