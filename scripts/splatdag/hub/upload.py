"""Publish one scene's recordings and its page: in one commit on the Hub, or in a folder of the same layout."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splatdag.hub.layout import Scene
from splatdag.hub.options import UploadOptions, token_of
from splatdag.hub.pages import CARD, CARD_TEXT, Place, card_with_sample, licensed_card, says_the_same, scene_page
from splatdag.hub.redaction import keep_out_of_logs
from splatdag.hub.rrd_files import Recording, read_recording, rerun_version, resolved, selected
from splatdag.hub.tree import Content, FolderTree, Tree, text_content
from splatdag.workflow.area import Description, MetricsRow
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import now
from splatdag.workflow.publish import read_json, write_json
from splatdag.workflow.stage import Job, run
from splatdag.workflow.weights import Weights, weights_of_run

if TYPE_CHECKING:
    from splatdag.hub.hub import Hub

logger = logging.getLogger(__name__)


def main(
    run_dir: Path,
    exp: str,
    scene: str,
    receipt: Path,
    hub_dir: Path,
    options: UploadOptions,
    job: Job,
    recordings: tuple[Path, ...] = (),
    describer: str | None = None,
    described_from: Path | None = None,
) -> None:
    """Publish one scene's recordings and its page: on the Hub, or in a folder while no repository is set.

    Args:
        run_dir: the run's folder, with its metrics and `rerun/*.rrd`.
        exp: name of the experiment.
        scene: name of the scene.
        receipt: JSON file to write last: what is published where.
        hub_dir: folder that is written to in the Hub's place.
        options: where to, and which recordings.
        job: how to run.
        recordings: the recordings there are; those in `run_dir/rerun` if none are named.
        describer: module that reads facts for the page beside `metrics.json`, as `workflow.area.Describer` has it.
        described_from: folder that it reads beside the run's own.
    """
    what = Scene(exp, scene)
    paths = _chosen(recordings or tuple(sorted((run_dir / "rerun").glob("*.rrd"))), options)
    if not paths:
        raise UserError(f"{run_dir / 'rerun'}: no recording that `selection` and `rrd_glob` choose")
    token = token_of(os.environ) if options.repo_id else ""
    local = {path: read_recording(path) for path in paths}
    description = Description()
    if describer is not None:
        description = import_module(f"splatdag.{describer}").describe(run_dir, scene, described_from)
    metrics = description.metrics or list(metrics_of(run_dir))
    weights = weights_of_run(run_dir)
    memory = receipt.parent / "state" / receipt.name
    contents = _hashed(local, memory, job.threads)

    def changes(place: Place) -> Callable[[Tree], dict[str, Content]]:
        def page(shown: Iterable[Recording]) -> str:
            return scene_page(what, shown, place, metrics, description.facts, _git_revision(), weights, job.sample)

        return lambda tree: changes_of(tree, what, list(local.values()), contents, page, weights, job.sample)

    done: dict[str, Any] = {"exp": exp, "scene": scene, "folder": what.folder}
    if options.repo_id:
        hub = _hub(options, token)
        message = f"{what}: {len(paths)} recording{'s' if len(paths) > 1 else ''}"
        commit = hub.publish(what, changes(Place(hub.root)), message)
        done |= {"endpoint": hub.address, "repo_id": options.repo_id, "repo_type": options.repo_type}
        done |= {"branch": options.branch, "commit": commit}
        logger.info("%s: %s, branch %s, commit %s", what, options.repo_id, options.branch, commit)
    else:
        tree = FolderTree(hub_dir)
        tree.write(changes(Place(None))(tree), what)
        logger.info("%s: in %s; sharing.upload.repo_id sends the same to the Hub", what, hub_dir / what.folder)
    files = {
        f"{what.recordings}/{recording.name}": {
            "size": recording.size,
            "sha256": contents[recording.name].sha256,
            "rerun": recording.version,
        }
        for recording in local.values()
    }
    write_json(receipt, {**done, "files": files, "finished": now()})


def metrics_of(run_dir: Path) -> Iterator[MetricsRow]:
    """Read the metrics of a run and of its trivial baseline from `metrics.json`; none where there is no such file.

    Raises:
        UserError: it can't be read.
    """
    path = run_dir / "metrics.json"
    found = read_json(path) if path.is_file() else {}
    for key, label in (("mean", "held-out views"), ("baseline", "one-colour image")):
        values = found.get(key)
        if isinstance(values, dict):
            yield label, {name: float(v) for name, v in values.items() if isinstance(v, int | float)}


def changes_of(
    tree: Tree,
    scene: Scene,
    recordings: list[Recording],
    contents: dict[str, Content],
    page: Callable[[Iterable[Recording]], str],
    weights: Collection[Weights] = (),
    sample: str = "",
) -> dict[str, Content]:
    """Return the files that the published tree lacks or has in another version, by path.

    Recordings that are there and not here stay, and stay on the page.

    Args:
        tree: what is published.
        scene: whose.
        recordings: those of here.
        contents: their contents, by name.
        page: makes the page of the recordings that it shall show.
        weights: pretrained weights that the scene was made with.
        sample: bundled sample that it was made from, as manifests have it.
    """
    others = []
    for name, size in tree.sizes(scene.recordings).items():
        version = None if name in contents else rerun_version(tree.head(f"{scene.recordings}/{name}"))
        others += [Recording(name, size, version)] if version else []
    wanted = {f"{scene.recordings}/{name}": content for name, content in contents.items()}
    changed = {path: content for path, content in wanted.items() if not tree.has(path, content)}
    text = page([*recordings, *others])
    if not tree.has(scene.page, text_content(text)):
        there = None if changed else tree.text(scene.page)
        if there is None or not says_the_same(there, text):
            changed[scene.page] = text_content(text)
    card = CARD in tree.sizes("")
    if not card or sample or any(one.barred for one in weights):
        old = tree.text(CARD) if card else None
        new = licensed_card(CARD_TEXT if old is None else old, weights)
        new = card_with_sample(new, scene, sample) if sample else new
        changed |= {CARD: text_content(new)} if new != old else {}
    return changed


def _chosen(recordings: tuple[Path, ...], options: UploadOptions) -> list[Path]:
    selection, rrd_glob = resolved(options.selection, options.rrd_glob, ["nvs", "pose"], "all")
    by_name = {path.name: path for path in recordings}
    return [by_name[name] for name in selected(by_name, selection, rrd_glob)]


def _hub(options: UploadOptions, token: str) -> Hub:
    """Make a Hub; telemetry, bars and token files of huggingface_hub are switched off before it is imported."""
    keep_out_of_logs(token)
    for switch in ("TELEMETRY", "UPDATE_CHECK", "PROGRESS_BARS", "IMPLICIT_TOKEN"):
        os.environ.setdefault(f"HF_HUB_DISABLE_{switch}", "1")
    from splatdag.hub.hub import Hub

    logging.getLogger("httpx2").setLevel(logging.WARNING)  # else a line per request
    library = logging.getLogger("huggingface_hub")
    library.handlers.clear()  # through ours, which keep the token out
    library.propagate = True
    return Hub(options, token)


def _hashed(local: dict[Path, Recording], memory: Path, threads: int) -> dict[str, Content]:
    """Hash the recordings' contents, by name; a file that has not changed since it was hashed is not read again."""
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        known = {}

    def content(path: Path) -> tuple[list[int], Content]:
        stat = path.stat()
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        if known.get(path.name, {}).get("state") == state:
            return state, Content(path, stat.st_size, known[path.name]["sha256"])
        with path.open("rb") as file:
            return state, Content(path, stat.st_size, hashlib.file_digest(file, "sha256").hexdigest())

    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip((path.name for path in local), pool.map(content, local), strict=True))
    write_json(memory, {name: {"state": state, "sha256": c.sha256} for name, (state, c) in found.items()})
    return {name: content for name, (_, content) in found.items()}


@functools.cache
def _git_revision() -> str | None:
    """Return the git revision of this package's code; None where it is not part of a git repository."""
    here = Path(__file__)
    for command in (["ls-files", "--error-unmatch", here.name], ["describe", "--always", "--dirty", "--exclude=*"]):
        try:
            done = subprocess.run(["git", "-C", str(here.parent), *command], capture_output=True, text=True)
        except OSError:
            return None
        if done.returncode != 0:
            return None
    return done.stdout.strip()


if __name__ == "__main__":
    run(main)
