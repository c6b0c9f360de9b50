"""Whether files are whole, by what they are; and the same but for times of day and of work."""

from __future__ import annotations

import gzip
import json
import pickle
import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from plyfile import PlyData
from rerun.chunk import RrdReader

PASSING = {"seconds", "finished", "created_at", "since", "usage", "peak_memory_mb", "folder", "directory"}
"""Keys of JSON files and of checkpoints whose values differ from run to run."""


def check_whole(path: Path, finished: Path) -> None:
    """Fail unless a file can be read to its end, and has as many parts as `finished`, its like of a good run."""
    end = path.suffix
    if end == ".json":
        found, good = (json.loads(file.read_bytes()) for file in (path, finished))
        assert set(found) >= set(good) if isinstance(good, dict) else len(found) == len(good), path
    elif end in (".txt", ".csv", ".jsonl", ".md", ".html", ".yml", ".obj"):
        lines = [len(file.read_text().splitlines()) for file in (path, finished)]
        assert lines[0] == lines[1], path
    elif end in (".jpg", ".png"):
        with Image.open(path) as image:
            image.load()
    elif end == ".ply":
        assert PlyData.read(path)["vertex"].count > 0, path
    elif end == ".pt":
        torch.load(path, weights_only=True)
    elif end in (".npz", ".npy"):
        loaded = np.load(path)
        for name in loaded.files if end == ".npz" else ():
            assert loaded[name].shape == np.load(finished)[name].shape, path
    elif end in (".pkl", ".gz"):
        with gzip.open(path) if end == ".gz" else path.open("rb") as file:
            assert pickle.load(file) is not None, path
    elif end == ".mp4":
        with av.open(str(path)) as one, av.open(str(finished)) as other:
            assert len(list(one.decode(video=0))) == len(list(other.decode(video=0))), path
    elif end == ".rrd":
        reader = RrdReader(path)
        [store] = reader.recordings()
        assert sum(1 for _ in reader.stream(store=store)) > 0, path
    elif end == ".log":
        assert path.read_text().endswith("\n"), path
    else:
        assert end == ".bin", f"how is {path} looked at?"
        assert path.stat().st_size == finished.stat().st_size, path


def files(folder: Path) -> set[Path]:
    """Files that are meant to be seen, below a folder, relative to it; `state` is not."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path for path in found if "state" not in path.parts and not any(p.startswith(".") for p in path.parts)}


def contents(path: Path) -> Any:
    """What a file holds that is the same from run to run: bytes, or without times where it has some."""
    if path.suffix == ".json":
        return _lasting(json.loads(path.read_bytes()))
    if path.suffix == ".pt":
        return _lasting(torch.load(path, weights_only=True))
    if path.suffix == ".log":  # its lines have times
        return None
    if path.suffix == ".mp4":  # encoded by several threads
        with av.open(str(path)) as file:
            return len(list(file.decode(video=0)))
    return path.read_bytes()


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if key not in PASSING}
    if isinstance(value, list | tuple):
        return [_lasting(item) for item in value]
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "", value) if isinstance(value, str) else value
