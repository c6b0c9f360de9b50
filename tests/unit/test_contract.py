"""The check of the files that a backend wrote: what is whole passes, and what is not is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splatdag.workflow.contract import (
    Array,
    ContractBroken,
    Expected,
    Json,
    NotEmpty,
    Npy,
    Npz,
    Picture,
    check_contract,
)

CONTRACT = (
    Expected("views/*.png", Picture("W", "H"), count="S"),
    Expected("poses.npy", Npy(Array(("S", 4, 4), "float64"))),
    Expected("depth.npz", Npz({"depth": Array(("S", "H", "W"), "float32", finite=False), "names": Array(("S",), "U")})),
    Expected("scene.json", Json({"fl_x": float, "w": int, "yaw_deg": list, "backend": str, "closed": bool})),
    Expected("points.ply", NotEmpty()),
)
SCENE = {"fl_x": 3, "w": 6, "yaw_deg": [0.0, 45.0], "backend": "proxy", "closed": True, "more": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "views").mkdir()
    for name in ("000", "001"):
        Image.new("RGB", (6, 4), "teal").save(tmp_path / "views" / f"{name}.png")
    np.save(tmp_path / "poses.npy", np.zeros((2, 4, 4)))
    np.savez(tmp_path / "depth.npz", depth=np.full((2, 4, 6), np.nan, np.float32), names=np.array(["a.png", "b.png"]))
    (tmp_path / "scene.json").write_text(json.dumps(SCENE))
    (tmp_path / "points.ply").write_bytes(b"ply\n")
    return tmp_path


def broken(folder: Path, **known: int) -> str:
    with pytest.raises(ContractBroken) as caught:
        check_contract(CONTRACT, folder, **known)
    return str(caught.value)


def test_what_is_whole_gives_its_dimensions(folder):
    assert check_contract(CONTRACT, folder) == {"S": 2, "W": 6, "H": 4}
    assert check_contract(CONTRACT, folder, S=2, T=9) == {"S": 2, "W": 6, "H": 4, "T": 9}


def test_a_dimension_is_the_same_in_all_files(folder):
    assert broken(folder, S=3) == "views/*.png: number of files is [2], expected [S=3]"
    assert broken(folder, W=8) == "views/000.png: width and height is [6, 4], expected [W=8, H]"
    np.save(folder / "poses.npy", np.zeros((3, 4, 4)))
    assert broken(folder) == "poses.npy is [3, 4, 4], expected [S=2, 4, 4]"
    np.save(folder / "poses.npy", np.zeros((2, 3, 4)))
    assert broken(folder) == "poses.npy is [2, 3, 4], expected [S=2, 4, 4]"
    np.save(folder / "poses.npy", np.zeros((2, 16)))
    assert broken(folder) == "poses.npy is [2, 16], expected [S=2, 4, 4]"


@pytest.mark.parametrize("name", ["poses.npy", "depth.npz", "scene.json", "points.ply"])
def test_a_missing_empty_or_linked_file_is_named(folder, name):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(b"")
    assert broken(folder) == f"{name} is empty"
    path.unlink()
    assert broken(folder) == f"{name} is missing"
    (folder / "elsewhere").write_bytes(content)
    path.symlink_to(folder / "elsewhere")
    assert broken(folder) == f"{name} is missing"


def test_other_types_and_values_are_refused(folder):
    np.save(folder / "poses.npy", np.zeros((2, 4, 4), np.float32))
    assert broken(folder) == "poses.npy is of float32, expected float64"
    np.save(folder / "poses.npy", np.full((2, 4, 4), np.inf))
    assert broken(folder) == "poses.npy has values that are NaN or infinite"
    np.save(folder / "poses.npy", np.zeros((2, 4, 4)))
    np.savez(folder / "depth.npz", depth=np.zeros((2, 4, 6), np.float32))
    assert broken(folder) == "depth.npz has no array names, only depth"
    np.savez(folder / "depth.npz", depth=np.zeros((2, 4, 6), np.float32), names=np.array([b"a", b"b"]))
    assert broken(folder) == "depth.npz: names is of |S1, expected U"


def test_no_code_is_run_from_a_file(folder):
    np.save(folder / "poses.npy", np.array([print]), allow_pickle=True)
    assert broken(folder).startswith("poses.npy can't be read: ")


@pytest.mark.parametrize("name", ["views/001.png", "poses.npy", "depth.npz", "scene.json"])
def test_a_truncated_file_is_named(folder, name):
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert broken(folder).startswith(name)


def test_a_picture_has_its_channels(folder):
    Image.new("L", (6, 4)).save(folder / "views" / "001.png")
    assert broken(folder) == "views/001.png is L, expected RGB"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fl_x", "3", "scene.json: fl_x is str, expected float"),
        ("w", True, "scene.json: w is bool, expected int"),
        ("w", 6.5, "scene.json: w is float, expected int"),
        ("yaw_deg", {}, "scene.json: yaw_deg is dict, expected list"),
        ("closed", 1, "scene.json: closed is int, expected bool"),
    ],
)
def test_a_json_file_has_its_keys(folder, key, value, message):
    (folder / "scene.json").write_text(json.dumps(SCENE | {key: value}))
    assert broken(folder) == message
    (folder / "scene.json").write_text(json.dumps({k: v for k, v in SCENE.items() if k != key}))
    assert broken(folder) == f"scene.json has no {key}"
