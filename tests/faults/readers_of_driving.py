"""Readers of driving's files."""

from __future__ import annotations

import json
from pathlib import Path

from reader_kinds import CPU, JSON, NPZ, PICKLE, TORCH, Reader, save_pickle
from support import pandaset_logs

from splatdag.driving.checks.measurements import measured
from splatdag.driving.clips.clips import read_index
from splatdag.driving.clips.lift_cache import cached_at, lifted
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.network.model import Flux4D
from splatdag.driving.training.checkpoints import LAST, load_model, save_checkpoint
from splatdag.driving.training_options import LearnOptions


def _index(folder: Path) -> list[Path]:
    lines = [pandaset_logs.write_lines(folder / "one.jsonl", name, 6, [0, 2, 4]) for name in ("001",)]
    clip = json.loads(lines[0].read_text())
    save_pickle(folder / "index.pkl", {"meta": {}, "clips": [clip, clip | {"clip_id": "other"}]})
    return [folder / "index.pkl"]


def _street(folder: Path) -> Path:
    cameras = ("front_camera",)
    return pandaset_logs.write_street(folder / "street", logs=1, frames=2, points=300, cameras=cameras) / "001"


def _log(folder: Path) -> list[Path]:
    log = _street(folder)
    return [path for path in log.rglob("*") if path.is_file() and path.suffix in (".json", ".pkl", ".gz")]


def _read_log(folder: Path) -> None:
    log = Log(folder / "street" / "001")
    for frame in range(2):
        log.reason_against(frame)
    measured(log, None)
    for part in (log.sweep, log.boxes, log.classes):
        part(0)


FRONT = ("front_camera",)


def _lift_cache(folder: Path) -> list[Path]:
    log = Log(_street(folder))
    lifted(log, 0, FRONT, folder=folder / "cache")
    return [cached_at(folder / "cache", log, 0, FRONT, (0,))]


def _read_lift_cache(folder: Path) -> None:
    found = lifted(Log(folder / "street" / "001"), 0, FRONT, folder=folder / "cache")
    assert found.points.shape == found.colors.shape == (len(found.times), 3)
    assert found.origin.shape == (3,)
    assert all(array.shape == found.times.shape for array in (found.seen, found.spacings, found.sensors))


SMALL = LearnOptions(
    point_cloud_range=(-4, -4, -4, 4, 4, 4), voxel_size=2.0, channels=(8, 8), blocks=1, features=8, iterations=2
)


def _flux4d(folder: Path) -> list[Path]:
    state = {"model": Flux4D(SMALL).state_dict(), "moments": {}, "step": 3}
    save_checkpoint(folder, state, SMALL)
    return [folder / LAST]


READERS: dict[str, Reader] = {
    "index, pickle": Reader(_index, lambda folder: read_index(folder / "index.pkl"), PICKLE),
    "index, lines": Reader(
        lambda folder: [pandaset_logs.write_lines(folder / "i.jsonl", "001", 6, [0, 2])],
        lambda folder: read_index(folder / "i.jsonl"),
        JSON,
    ),
    "driving log, lists": Reader(
        lambda folder: [path for path in _log(folder) if path.suffix == ".json"], _read_log, JSON, share=0.5
    ),
    "driving log, tables": Reader(
        lambda folder: [path for path in _log(folder) if path.suffix != ".json"], _read_log, PICKLE, share=0.5
    ),
    "lift cache": Reader(_lift_cache, _read_lift_cache, NPZ, share=0.3, refuses=False),
    "checkpoint, flux4d": Reader(_flux4d, lambda folder: load_model(folder / LAST, CPU), TORCH, share=0.5),
}
