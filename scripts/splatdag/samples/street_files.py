"""PandaSet's files of a sample log: tables that pandas 2 and 3 read, and lists of poses, times and positions."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation


def write_table(path: Path, columns: Mapping[str, Any], packed: bool) -> None:
    """A pickled data frame `<path>.pkl`, or `.pkl.gz`; words are objects, as pandas before 3 had and can read them."""
    words = {name for name, values in columns.items() if isinstance(values, list)}
    frame = pd.DataFrame({name: pd.Series(v, dtype=object if name in words else None) for name, v in columns.items()})
    frame.columns = pd.Index(list(columns), dtype=object)
    frame.index.name = "index"
    data = pickle.dumps(frame, protocol=4)
    suffix = ".pkl.gz" if packed else ".pkl"
    path.with_name(path.name + suffix).write_bytes(gzip.compress(data, 6, mtime=0) if packed else data)


def listed(poses: np.ndarray) -> list[dict[str, dict[str, float]]]:
    """Poses [F, 4, 4] as PandaSet's JSON files have them."""
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat(scalar_first=True)
    return [
        {
            "position": dict(zip("xyz", pose[:3, 3].tolist(), strict=True)),
            "heading": dict(zip("wxyz", quaternion.tolist(), strict=True)),
        }
        for pose, quaternion in zip(poses, quaternions, strict=True)
    ]


def gps(poses: np.ndarray, velocities: np.ndarray) -> list[dict[str, float]]:
    """`meta/gps.json` of a vehicle at x, y, yaw [F, 3] moving at [F, 3], the world's origin being in San Francisco."""
    latitude, longitude = 37.776089, -122.417763
    metres = 111_320.0  # in a degree of latitude
    return [
        {
            "lat": latitude + y / metres,
            "long": longitude + x / metres / np.cos(np.radians(latitude)),
            "height": 12.0,
            "xvel": u,
            "yvel": v,
        }
        for (x, y, _), (u, v, _) in zip(poses.tolist(), velocities.tolist(), strict=True)
    ]
