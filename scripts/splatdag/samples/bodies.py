"""Simple people: capsules on a skeleton, posed frame by frame, and drawn. Metres, y up; cameras as OpenCV's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

RINGS, SEGMENTS = 6, 10
"""Rings and segments of each capsule, which has 2 · RINGS · SEGMENTS triangles."""
_LIGHT = np.array([0.3, 0.8, 0.5]) / np.linalg.norm([0.3, 0.8, 0.5])
_SUB_PIXEL = 4
"""Bits of a pixel to which corners are drawn."""


class Bone(NamedTuple):
    """A capsule from a joint along an offset, to where the next joint is."""

    parent: str
    offset: tuple[float, float, float]
    radius: float
    cloth: int
    """Colour: 0 skin, 1 shirt, 2 trousers."""


SKELETON = {
    "spine": Bone("", (0, 0.5, 0), 0.14, 1),
    "head": Bone("spine", (0, 0.28, 0), 0.09, 0),
    **{
        f"{side}_{name}": bone
        for side, m in (("left", 1), ("right", -1))
        for name, bone in {
            "shoulder": Bone("spine", (0.2 * m, 0, 0), 0.06, 1),
            "arm": Bone(f"{side}_shoulder", (0.05 * m, -0.28, 0), 0.05, 1),
            "hand": Bone(f"{side}_arm", (0, -0.27, 0.03), 0.04, 0),
            "hip": Bone("", (0.1 * m, -0.06, 0), 0.09, 2),
            "thigh": Bone(f"{side}_hip", (0.02 * m, -0.42, 0), 0.075, 2),
            "shin": Bone(f"{side}_thigh", (0, -0.42, -0.02), 0.055, 2),
            "foot": Bone(f"{side}_shin", (0, -0.03, 0.14), 0.045, 0),
        }.items()
    },
}
"""The bones by name, each after the one that it hangs on; the first hang on the pelvis."""


@dataclass(frozen=True)
class Person:
    """One person's build and clothes."""

    size: float
    girth: float
    colors: np.ndarray
    """[3, 3] of skin, shirt and trousers, blue, green, red in [0, 1]."""


@dataclass(frozen=True)
class Pose:
    """Place of a person, and rotations of the bones."""

    pelvis: np.ndarray
    """[3] metres."""
    heading: float
    """Turn about the vertical (radians); 0 faces +z."""
    turns: dict[str, np.ndarray]
    """Rotation vectors of bones, in the frame of the bone that they hang on; what is left out is not turned."""


def joints_of(person: Person, pose: Pose) -> np.ndarray:
    """The pelvis and the ends of all bones, [1 + bones, 3]."""
    return np.array([pose.pelvis, *(end for _, end, _ in _posed(person, pose).values())])


def mesh_of(person: Person, pose: Pose) -> np.ndarray:
    """Vertices [V, 3] of a posed person, capsule after capsule."""
    return np.concatenate(
        [
            start + (_capsule(float(np.linalg.norm(end - start)), SKELETON[name].radius * person.girth) @ turned.T)
            for name, (start, end, turned) in _posed(person, pose).items()
        ]
    )


def triangles() -> np.ndarray:
    """Triangles [F, 3] of every person's mesh, outside counter-clockwise."""
    i, j = np.meshgrid(np.arange(RINGS - 1), np.arange(SEGMENTS), indexing="ij")
    k = (j + 1) % SEGMENTS
    a, b = (i * SEGMENTS + j).ravel(), (i * SEGMENTS + k).ravel()
    c, d = b + SEGMENTS, a + SEGMENTS
    bottom, top = RINGS * SEGMENTS, RINGS * SEGMENTS + 1
    around = np.arange(SEGMENTS)
    beside = (around + 1) % SEGMENTS
    last = (RINGS - 1) * SEGMENTS
    one = np.concatenate(
        [
            np.stack([a, c, b], axis=1),
            np.stack([a, d, c], axis=1),
            np.stack([np.full(SEGMENTS, bottom), around, beside], axis=1),
            np.stack([np.full(SEGMENTS, top), last + beside, last + around], axis=1),
        ]
    )
    return np.concatenate([one + bone * (top + 1) for bone in range(len(SKELETON))])


def _posed(person: Person, pose: Pose) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Start, end and axes (columns; y along the bone) of each bone."""
    root = _rotation(np.array([0, pose.heading, 0]))
    found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    turned: dict[str, np.ndarray] = {"": root}
    for name, bone in SKELETON.items():
        start = found[bone.parent][1] if bone.parent else pose.pelvis
        turned[name] = turned[bone.parent] @ _rotation(pose.turns.get(name, np.zeros(3)))
        end = start + turned[name] @ (person.size * np.array(bone.offset))
        along = (end - start) / np.linalg.norm(end - start)
        side = np.cross(along, (0, 0, 1) if abs(along[2]) < 0.9 else (1, 0, 0))
        side /= np.linalg.norm(side)
        found[name] = (start, end, np.stack([side, along, np.cross(side, along)], axis=1))
    return found


def _capsule(length: float, radius: float) -> np.ndarray:
    """Vertices of a closed tube along y with round ends: rings from below, then the two poles."""
    heights = -np.cos(np.pi * (np.arange(RINGS) + 0.5) / RINGS)
    y = (heights + 1) / 2 * (length + 2 * radius) - radius
    beyond = np.clip(y, 0, length) - y
    radii = np.sqrt(np.maximum(radius**2 - beyond**2, 0))
    angles = 2 * np.pi * np.arange(SEGMENTS) / SEGMENTS
    rings = np.stack(
        [
            radii[:, None] * np.cos(angles),
            np.repeat(y[:, None], SEGMENTS, axis=1),
            radii[:, None] * np.sin(angles),
        ],
        axis=2,
    )
    return np.concatenate([rings.reshape(-1, 3), [[0, -radius, 0], [0, length + radius, 0]]])


def _rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of a rotation vector, by Rodrigues' formula."""
    return cv2.Rodrigues(np.asarray(vector, np.float64))[0]


def draw(
    image: np.ndarray, meshes: list[np.ndarray], people: list[Person], K: np.ndarray, world_to_camera: np.ndarray
) -> None:
    """Draw people into an image, far triangles first.

    Args:
        image: [H, W, 3] uint8; blue, green, red.
        meshes: [V, 3] vertices of each.
        people: whose colours they have.
        K: [3, 3] intrinsics in pixels; the first pixel's centre is at (0.5, 0.5).
        world_to_camera: [3, 4]
    """
    faces = triangles()
    cloth = np.repeat([bone.cloth for bone in SKELETON.values()], len(faces) // len(SKELETON))
    corners, depths, colors = [], [], []
    for mesh, person in zip(meshes, people, strict=True):
        seen = mesh @ world_to_camera[:, :3].T + world_to_camera[:, 3]
        a, b, c = mesh[faces].transpose(1, 0, 2)
        normals = np.cross(b - a, c - a)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        light = 0.45 + 0.55 * np.clip(normals @ _LIGHT, 0, 1)
        corners.append(((seen @ K.T)[:, :2] / seen[:, 2:])[faces])
        depths.append(seen[faces, 2].mean(axis=1))
        colors.append(255 * person.colors[cloth] * light[:, None])
    fixed = np.rint((np.concatenate(corners) - 0.5) * 2**_SUB_PIXEL).astype(np.int32)
    color = np.rint(np.concatenate(colors)).astype(int).tolist()
    for index in np.argsort(-np.concatenate(depths), kind="stable"):
        cv2.fillConvexPoly(image, fixed[index], color[index], shift=_SUB_PIXEL)
