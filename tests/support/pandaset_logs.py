"""Small logs in PandaSet's layout, and the real frame where it is at hand."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

CAMERAS = ("front_camera", "front_left_camera", "front_right_camera", "left_camera", "right_camera", "back_camera")
START = 1557539924.5
NAMES = (
    "001-006 008 011-021 023 024 027-030 032-035 037-048 050-059 062-074 077-080 084-086 088-095 097-106 109 110 112"
    " 113 115-117 119 120 122-124 139 149 158"
)
"""PandaSet's 103 sequences."""


def all_names() -> list[str]:
    spans = [(word.split("-")[0], word.split("-")[-1]) for word in NAMES.split()]
    return [f"{number:03d}" for first, last in spans for number in range(int(first), int(last) + 1)]


def real_frame() -> Path:
    """Folder of sequence 001 of which frame 00 is there (SPLATDAG_TEST_DATA/pandaset_sample/001)."""
    folder = Path(os.environ.get("SPLATDAG_TEST_DATA", "/nonexistent")) / "pandaset_sample" / "001"
    if not folder.is_dir():
        pytest.skip("SPLATDAG_TEST_DATA has no pandaset_sample")
    return folder


def write_metadata(root: Path, name: str = "001", frames: int = 80) -> Path:
    """A log of empty tables and images, whose ego vehicle drives along world x at 10 m/s."""
    log = root / name
    listed = [
        {"position": {"x": 1.0 * frame, "y": 0.0, "z": 0.0}, "heading": {"w": 0.5, "x": -0.5, "y": 0.5, "z": -0.5}}
        for frame in range(frames)
    ]
    for number, folder in enumerate(("lidar", *(f"camera/{name}" for name in CAMERAS))):
        (log / folder).mkdir(parents=True)
        write_json(log / folder / "poses.json", listed)
        write_json(log / folder / "timestamps.json", [START + 0.1 * frame - 0.01 * number for frame in range(frames)])
        for frame in range(frames):
            (log / folder / f"{frame:02d}.{'jpg' if number else 'pkl.gz'}").touch()
        if number:
            write_json(log / folder / "intrinsics.json", {"fx": 1970.0, "fy": 1969.0, "cx": 970.0, "cy": 483.0})
    return log


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def table(columns: dict[str, object], protocol: int = 3) -> bytes:
    """A pickled data frame with words as objects, as pandas before 3 made them."""
    frame = pd.DataFrame(
        {name: pd.Series(values, dtype=object if _words(values) else None) for name, values in columns.items()}
    )
    frame.columns = pd.Index(list(columns), dtype=object)
    return pickle.dumps(frame, protocol=protocol)


def _words(values: object) -> bool:
    return isinstance(values, list) and any(isinstance(value, str) for value in values)


def points(count: int = 20) -> dict[str, object]:
    rng = np.random.default_rng(count)
    return {
        **{axis: rng.normal(size=count) for axis in "xyz"},
        "i": rng.integers(0, 256, count).astype(np.float64),
        "t": START + rng.uniform(-0.1, 0, count),
        "d": rng.integers(0, 2, count),
    }


def pack(data: bytes) -> bytes:
    return gzip.compress(data)


def write_boxes(log: Path, frame: int, *boxes: dict[str, object]) -> None:
    """The table of boxes of a frame; of each box what differs from a car of 2 x 4 x 2 m at the origin."""
    car = {
        "uuid": "a", "label": "Car", "yaw": 0.0, "stationary": False, "attributes.object_motion": "Moving",
        "cuboids.sibling_id": "-", "cuboids.sensor_id": -1,
        **dict(zip(("position.x", "position.y", "position.z"), (0.0, 0.0, 0.0), strict=True)),
        **dict(zip(("dimensions.x", "dimensions.y", "dimensions.z"), (2.0, 4.0, 2.0), strict=True)),
    }  # fmt: skip
    folder = log / "annotations" / "cuboids"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [car | box for box in boxes]
    (folder / f"{frame:02d}.pkl").write_bytes(table({name: [row[name] for row in rows] for name in car}))


def write_street(root: Path, **options: object) -> Path:
    """Small sample logs, ray-traced: 001 and 002, four frames of six cameras."""
    from splatdag.samples.options import StreetOptions
    from splatdag.samples.street import make_street

    make_street(root, StreetOptions(**({"frames": 4, "width": 96, "points": 1500, "semseg": "all"} | options)))
    return root


def write_lines(path: Path, scene: str, frames: int, inputs: list[int], **fields: object) -> Path:
    """An index in JSON lines of one clip, which begins with frame 0."""
    clip = {
        "clip_id": f"{scene}_train_future_s000_e{frames - 1:03d}", "scene_id": scene, "split": "train",
        "setting": "train_future", "frame_start": 0, "frame_end": frames - 1, "clip_len_frames": frames,
        "input_frame_indices": inputs, "target_frame_indices": [], "intrinsics": {"front_camera": []},
    }  # fmt: skip
    path.write_text(json.dumps(clip | fields) + "\n")
    return path


def changed_list(path: Path, change: object) -> None:
    """Change a JSON file by a function of what it holds."""
    write_json(path, change(json.loads(path.read_text())))  # type: ignore[operator]


def swapped(path: Path) -> None:
    """Replace a file by one of equal size and time that says something else, as `rsync -a` may."""
    other = path.with_name(f".{path.name}.new")
    other.write_bytes(bytes(reversed(path.read_bytes())))
    assert other.read_bytes() != path.read_bytes()
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
