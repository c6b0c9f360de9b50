"""The whole config: one section per area, each made of its stages' options."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from splatdag.captures.options import FrameOptions, PoseOptions, TrainOptions
from splatdag.samples.options import RoomOptions
from splatdag.sharing.rrd_files import resolved
from splatdag.sharing.upload_options import UploadOptions
from splatdag.workflow.options import Options, validated

_NOTICES_SHOWN = 20
"""Notices that are printed; a sheet may have thousands of rows."""


class CapturesConfig(Options):
    """Photos of static scenes to splats."""

    sheet: str = "config/captures.tsv"
    """Table of captures; looked for in the working directory, then beside the Snakefile."""
    frames: FrameOptions = FrameOptions()
    """Photos from videos."""
    pose: PoseOptions = PoseOptions()
    """Camera poses."""
    train: TrainOptions = TrainOptions()
    """Training."""


class SharingConfig(Options):
    """Recordings of runs, and where they are published."""

    results_root: Path | None = None
    """Tree of results in the layout of the old human trainer, `<results_root>/<scene>/<exp>`."""
    scenes_dir: Path | None = None
    """Folder of scene JSON files, `<scene>.json`, whose `cam_id` is the source camera."""
    exp_name: str | None = None
    """Only runs of this experiment."""
    scene_name_includes: str = ""
    """Only scenes with this in their names."""
    tasks: list[Literal["nvs", "pose", "trn_nv_generation"]] = ["nvs", "pose", "trn_nv_generation"]
    """What is shown of human runs."""
    epoch: str = Field("all", pattern=r"^(all|latest|(epoch_)?\d+)$")
    """Epochs that are shown of human runs: `all`, `latest`, or one, `epoch_0010` or `10`."""
    upload: UploadOptions = UploadOptions()
    """Publication."""

    def resolved_upload(self) -> UploadOptions:
        """The options of the upload, with what `auto` stands for."""
        selection, rrd_glob = resolved(self.upload.selection, self.upload.rrd_glob, self.tasks, self.epoch)
        return self.upload.model_copy(update={"selection": selection, "rrd_glob": rrd_glob})


class SamplesConfig(Options):
    """The bundled sample inputs, made on first use."""

    room: RoomOptions = RoomOptions()
    """The sample capture."""


class Config(Options):
    """`config/config.yaml`."""

    captures: CapturesConfig = CapturesConfig()
    """Captures."""
    sharing: SharingConfig = SharingConfig()
    """Recordings and their publication."""
    samples: SamplesConfig = SamplesConfig()
    """Sample inputs."""


def read_config(given: dict[str, Any]) -> Config:
    """The config, checked.

    Raises:
        UserError: one line per unknown key (naming the nearest), wrong type or value out of range.
    """
    return validated(Config, given, "config")


def notices(options: Options, where: str = "config") -> Iterator[tuple[str, str]]:
    """What the user should know about a config, such as settings without effect: section and line."""
    yield from ((where, line) for line in options.notices())
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, Options):
            path = f"{where}: {name}" if where == "config" else f"{where}.{name}"
            yield from notices(value, path)


def notice_lines(found: list[tuple[str, str]]) -> list[str]:
    """Notices for the terminal: each text once, with the place where it comes first, and at most twenty."""
    count = Counter(text for _, text in found)
    first: dict[str, str] = {}
    for where, text in found:
        first.setdefault(text, where)
    lines = [
        f"{where}: {text}" + (f" (and {count[text] - 1} more rows)" if count[text] > 1 else "")
        for text, where in first.items()
    ]
    rest = len(lines) - _NOTICES_SHOWN
    return lines if rest <= 0 else [*lines[:_NOTICES_SHOWN], f"and {rest} more notices of this kind"]


def schema() -> str:
    """JSON schema of `config/config.yaml`, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
