"""The pages of the published tree: one per scene, and the card of the repository."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from splatdag.hub.layout import Scene
from splatdag.hub.rrd_files import Recording
from splatdag.workflow.area import MetricsRow
from splatdag.workflow.manifest import sample_line
from splatdag.workflow.weights import Weights

CARD = "README.md"
"""The card of the repository, in the tree."""
_TASKS = {
    "capture": "Capture",
    "evaluation_nvs": "Novel views",
    "evaluation_pose": "Poses",
    "trn_nv_generation": "Novel views made for training",
}
"""Headings of tasks, in the order of the page; others follow under their own names."""
_FRONT = re.compile(r"---\r?\n(.*?)---\r?\n", re.DOTALL)
_LICENCE = re.compile(r"^license(?:_link)?:.*\n(?:[ \t]*-.*\n)*", re.MULTILINE)
_SAYS_SO = re.compile(r"^license:\s*(-\s*)?cc-by-nc|^license_name:", re.MULTILINE)
"""Metadata of a card whose licence bars commercial use, or has a name of the user's."""
_BARRED = """## Not for commercial use

Recordings here were made with pretrained weights that are not for commercial use; their licences say what follows for
what is made with them:

"""
_REVISION = re.compile(r"^\| git revision \| .*\n", re.MULTILINE)

CARD_TEXT = """---
license: other
pretty_name: Recordings of Gaussian splats
tags:
- rerun
- gaussian-splatting
- novel-view-synthesis
viewer: false
---

# Recordings of Gaussian splats

Recordings for the [Rerun](https://rerun.io) viewer, made by splatdag. Every scene of an experiment has a folder
`experiments/<experiment>/<scene>` with a page of its metrics, downloads and links into the web viewer, and
`rerun_files/*.rrd`.

The licence is that of the data that the splats were trained on: name it here.
"""


@dataclass(frozen=True)
class Place:
    """Place where the tree is published, for links."""

    root: str | None
    """Prefix of links, such as `https://huggingface.co/datasets/owner/name/resolve/main`; None in a folder."""

    def download(self, scene: Scene, name: str) -> str:
        """Return the link to a recording."""
        path = f"{scene.recordings}/{name}" if self.root else f"rerun_files/{name}"
        return f"{self.root}/{quote(path)}" if self.root else path

    def viewer(self, scene: Scene, recording: Recording) -> str:
        """Return a link that opens a recording in the web viewer of its version; in a folder, a command instead."""
        if not self.root:
            return f"`rerun rerun_files/{recording.name}`"
        url = quote(self.download(scene, recording.name), safe="")
        return f"[open](https://app.rerun.io/version/{recording.version}/index.html?url={url})"


def scene_page(
    scene: Scene,
    recordings: Iterable[Recording],
    place: Place,
    metrics: Iterable[MetricsRow] = (),
    described: Mapping[str, str] | None = None,
    revision: str | None = None,
    weights: Iterable[Weights] = (),
    sample: str = "",
) -> str:
    """Write the page of a scene in Markdown.

    Args:
        scene: its experiment and name.
        recordings: all that lie in the scene's folder.
        place: where that is.
        metrics: rows of the table of metrics.
        described: further facts about the scene by their names, such as its source camera.
        revision: of splatdag, in git, where it is known.
        weights: pretrained weights that the scene was made or measured with.
        sample: bundled sample that it was made from, as manifests have it.
    """
    recordings = sorted(recordings, key=_order)
    versions = sorted({recording.version for recording in recordings}, key=_version_order)
    facts = {
        "scene": f"`{scene.name}`",
        "experiment": f"`{scene.exp}`",
        **(described or {}),
        "recorded with Rerun": ", ".join(versions),
        "git revision": revision and f"`{revision}`",
    }
    about = [f"| {key} | {value} |" for key, value in facts.items() if value]
    parts = [f"> {sample_line(sample)}"] if sample else []
    parts += [f"# {scene.exp} / {scene.name}", "\n".join(["| | |", "|---|---|", *about])]
    if table := _metrics(list(metrics)):
        parts += ["## Metrics", table]
    for task in dict.fromkeys(recording.task for recording in recordings):
        of_task = [recording for recording in recordings if recording.task == task]
        parts += [f"## {_TASKS.get(task, f'`{task}`')}", _recordings(scene, of_task, place)]
    if table := _weights(list(weights)):
        parts += ["## Pretrained weights", table]
    return "\n\n".join(parts) + "\n"


def licensed_card(card: str, weights: Iterable[Weights]) -> str:
    """Return the card of the repository, its licence and text adapted to weights that bar commercial use.

    Its licence becomes `other` with a name that says so, unless it says so already or has a name of the user's; and
    the weights are named in the text. A card that does all that stays as it is.

    Args:
        card: in Markdown, with metadata in front or without.
        weights: that a scene of the repository was made with.
    """
    barred = [one for one in weights if one.barred]
    if not barred:
        return card
    front = _FRONT.match(card)
    metadata, text = (front[1], card[front.end() :]) if front else ("", f"\n{card}")
    if not _SAYS_SO.search(metadata):
        named = f"license: other\nlicense_name: non-commercial\nlicense_link: {barred[0].licence_url}\n"
        metadata = named + _LICENCE.sub("", metadata)
    lines = [f"- [{one.name}]({one.source}): [{one.licence}]({one.licence_url})\n" for one in barred]
    missing = "".join(line for line in lines if line not in text)
    if missing and _BARRED not in text:
        text = f"{text.rstrip()}\n\n{_BARRED}{missing}"
    elif missing:
        text = text.replace(_BARRED, _BARRED + missing, 1)
    return f"---\n{metadata}---\n{text}"


def card_with_sample(card: str, scene: Scene, sample: str) -> str:
    """Return the card of the repository, its first lines on the scenes made from bundled samples, this one included."""
    front = _FRONT.match(card)
    metadata, text = (front[0], card[front.end() :]) if front else ("", card)
    line = f"> `{scene}`: {sample_line(sample)}\n"
    if line in text:
        return card
    if not text.lstrip().startswith("> `"):
        return f"{metadata}\n{line}\n{text.lstrip()}"
    return f"{metadata}\n{line}>\n{text.lstrip()}"


def says_the_same(page: str, other: str) -> bool:
    """Tell whether two pages differ in nothing but the revision of the code."""
    return _REVISION.sub("", page) == _REVISION.sub("", other)


def _order(recording: Recording) -> tuple[int, str, int]:
    known = list(_TASKS)
    place = known.index(recording.task) if recording.task in known else len(known)
    return place, recording.task, -1 if recording.epoch is None else recording.epoch


def _version_order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _recordings(scene: Scene, recordings: list[Recording], place: Place) -> str:
    cells: list[Callable[[Recording], str]] = [
        lambda recording: "–" if recording.epoch is None else str(recording.epoch),
        lambda recording: readable_size(recording.size),
        lambda recording: f"[{recording.name}]({place.download(scene, recording.name)})",
        lambda recording: place.viewer(scene, recording),
    ]
    rows = ["| epoch | size | download | open in the viewer |", "|---|---|---|---|"]
    return "\n".join([*rows, *("| " + " | ".join(cell(r) for cell in cells) + " |" for r in recordings)])


def _metrics(rows: list[MetricsRow]) -> str:
    columns = list(dict.fromkeys(name for _, values in rows for name in values))
    if not columns:
        return ""
    lines = [f"| | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    for label, values in rows:
        cells = [f"{values[name]:.4g}" if name in values else "–" for name in columns]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _weights(weights: list[Weights]) -> str:
    if not weights:
        return ""
    rows = []
    for one in weights:
        terms = one.described().removeprefix(one.licence).replace("not for commercial", "**not** for commercial")
        licence = f"[{one.licence}]({one.licence_url}){terms}"
        rows.append(f"| [{one.name}]({one.source}) | {one.revision} | {one.used_for} | {licence} |")
    return "\n".join(["| weights | revision | used for | licence |", "|---|---|---|---|", *rows])


def readable_size(size: int) -> str:
    """Format a number of bytes in units of 10⁶: `3.6 MB`."""
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} B"
