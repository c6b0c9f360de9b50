"""People as meshes: read from OBJ files, and recorded with their triangles once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import rerun as rr

from splatdag.recording.images import frames_in, in_threads, read_bytes
from splatdag.recording.recording import at
from splatdag.workflow.errors import UserError

PREDICTED = (255, 165, 0)
"""Orange."""
TRUE = (0, 200, 0)
"""Green."""
_SHADES = (0.78, 1.0, 1.22, 0.62, 1.38)
"""Brightness of each person's colour, over again from the sixth on."""
_LIGHT = np.array([0.48, 0.6, 0.64])
"""Direction to the light, which moves with a body."""
_AMBIENT = 0.4
_VERTEX = re.compile(rb"^v[ \t]+([^\r\n]*)", re.MULTILINE)
_FACE = re.compile(rb"^f[ \t]+([^\r\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class Person:
    """A mesh that moves."""

    frames: list[int]
    triangles: np.ndarray
    """[F, 3] uint32"""
    positions: np.ndarray
    """[T, V, 3] float32, metres."""


def meshes_folder(folder: Path) -> Path:
    """Find `posed_<model>_meshes_per_frame` in a folder, whatever the model is called."""
    return next(iter(sorted(folder.glob("posed_*_meshes_per_frame"))), folder / "posed_smplx_meshes_per_frame")


def read_people(folder: Path, stride: int, threads: int) -> dict[str, Person]:
    """Read the people of `posed_*_meshes_per_frame/<person>/<frame>.obj`, by number.

    Raises:
        UserError: there are none, or a mesh can't be read or has not as many vertices as its person's first.
    """
    numbers = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()] if folder.is_dir() else []
    people = {
        path.name: _read_person(path, stride, threads) for path in sorted(numbers, key=lambda path: int(path.name))
    }
    if not people:
        raise UserError(f"{folder}: no meshes in it; expected <person>/<frame>.obj, such as 0/000001.obj")
    return people


def _read_person(folder: Path, stride: int, threads: int) -> Person:
    files = frames_in(folder, stride, (".obj",))
    if not files:
        raise UserError(f"{folder}: no meshes (000001.obj …) in it")
    positions = in_threads(_read_vertices, files.values(), threads)
    first, of_first = next(iter(files.values())), len(positions[0])
    for path, vertices in zip(files.values(), positions, strict=True):
        if len(vertices) != of_first:
            raise UserError(f"{path}: {len(vertices)} vertices, but {first.name} has {of_first}")
    return Person(list(files), _read_triangles(first, of_first), np.stack(positions))


def _read_vertices(path: Path) -> np.ndarray:
    """Read positions [V, 3] float32 of an OBJ file."""
    rows = _VERTEX.findall(read_bytes(path))
    try:
        values = np.array(b" ".join(rows).split(), dtype=np.float32).reshape(len(rows), -1)
    except ValueError:
        values = np.empty((0, 0), np.float32)
    if values.shape[1] < 3 or not np.isfinite(values).all():  # colours may follow the position
        raise UserError(f"{path}: not an OBJ file with vertices `v x y z`")
    return values[:, :3]


def _read_triangles(path: Path, vertices: int) -> np.ndarray:
    """Read triangles [F, 3] of an OBJ file; a face of more corners becomes a fan."""
    triangles = []
    for face in _FACE.findall(read_bytes(path)):
        corners = [int(corner.partition(b"/")[0]) for corner in face.split() if corner.partition(b"/")[0].isdigit()]
        triangles += [(corners[0], *pair) for pair in pairwise(corners[1:])]
    try:
        found = np.array(triangles, np.int64).reshape(-1, 3) - 1
    except OverflowError:  # no mesh has that many vertices
        found = np.zeros((0, 3), np.int64)
    if not len(found) or found.min() < 0 or found.max() >= vertices:
        raise UserError(f"{path}: not an OBJ file with faces `f a b c` that count its {vertices} vertices from 1")
    return found.astype(np.uint32)


def tone(color: Sequence[int], person: int) -> tuple[int, ...]:
    """Return a person's tone of a colour [3] (0 to 255), opaque."""
    brightness = _SHADES[person % len(_SHADES)]
    return (*(min(255, round(value * brightness)) for value in color), 255)


def log_people(stream: rr.RecordingStream, entity: str, people: dict[str, Person], color: Sequence[int]) -> None:
    """Record people below `entity`, as `person_00` and so on: triangles, colour and shading once, then positions."""
    for number, person in people.items():
        below = f"{entity}/person_{int(number):02d}"
        once = rr.Mesh3D.from_fields(
            triangle_indices=person.triangles,
            albedo_factor=tone(color, int(number)),
            vertex_colors=_shading(person.positions[0], person.triangles),
        )
        stream.log(below, once, static=True)
        columns = rr.Mesh3D.columns(vertex_positions=person.positions.reshape(-1, 3))
        lengths = [person.positions.shape[1]] * len(person.frames)
        stream.send_columns(below, indexes=at(person.frames), columns=columns.partition(lengths))


def _shading(positions: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Shade a mesh in grey [V, 4] by the light of its first frame: normals for every frame would double the size."""
    a, b, c = positions[triangles].transpose(1, 0, 2)
    normals = np.zeros_like(positions)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], np.cross(b - a, c - a))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    grey = np.rint(255 * (_AMBIENT + (1 - _AMBIENT) * (0.5 + 0.5 * normals @ _LIGHT))).astype(np.uint8)
    return np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=1)
