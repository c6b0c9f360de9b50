"""A synthetic capture: a room with solids, painted with Gaussians, photographed all around, with a COLMAP model."""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import pycolmap
import torch

from splatdag.splats.devices import use_device
from splatdag.splats.render import render

ROOM = np.array([8.0, 6.0, 3.0])
"""Metres."""
SOLIDS = 24


@dataclass
class Surface:
    """Flat, round Gaussians on surfaces."""

    means: np.ndarray
    """[N, 3] metres, z upwards."""
    normals: np.ndarray
    """[N, 3]"""
    colors: np.ndarray
    """[N, 3] in [0, 1]."""
    radius: float
    """Metres; one standard deviation."""


def surfaces(count: int) -> Surface:
    """The room's walls and the solids in it, evenly covered, with textures from large to fine."""
    generator = np.random.default_rng(7)
    boxes = [(np.zeros(3), ROOM)]
    for _ in range(SOLIDS):
        size = generator.uniform(0.3, 1.1, 3)
        corner = np.array([*generator.uniform([0.3, 0.3], ROOM[:2] - 1.5), 0.0])
        boxes.append((corner, size))
    faces = [(box, axis, side) for box in range(len(boxes)) for axis in range(3) for side in (0, 1)]
    areas = np.array([np.prod(np.delete(boxes[box][1], axis)) for box, axis, _ in faces])
    chosen = generator.choice(len(faces), count, p=areas / areas.sum())
    places = generator.uniform(size=(count, 3))
    normals = np.zeros((count, 3))
    for face, (box, axis, side) in enumerate(faces):
        on = chosen == face
        corner, size = boxes[box]
        places[on, axis] = side
        places[on] = corner + places[on] * size
        normals[on, axis] = (2 * side - 1) * (-1 if box == 0 else 1)
    return Surface(places, normals, _texture(places, chosen, generator), 0.9 * math.sqrt(areas.sum() / count))


def _texture(places: np.ndarray, faces: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A base colour for each face, waves in many directions, and tiles."""
    colors = generator.uniform(0.25, 0.75, (faces.max() + 1, 3))[faces]
    for wave in range(24):
        frequency = 2.0 ** generator.uniform(0, 6)
        direction = generator.normal(size=3)
        phase = frequency * places @ (direction / np.linalg.norm(direction)) + generator.uniform(0, 2 * np.pi)
        colors += 0.12 / math.sqrt(1 + wave) * np.sin(phase)[:, None] * generator.normal(size=3)
    tiles = np.floor(places / 0.25 + 1e-6).sum(axis=1).astype(int) % 2
    return (colors * (0.8 + 0.2 * tiles[:, None])).clip(0.02, 0.98)


def cameras(count: int) -> np.ndarray:
    """World-to-camera matrices [V, 4, 4] along a walk above the solids, looking around and a little down."""
    at = 2 * np.pi * np.arange(count) / count
    eyes = ROOM / 2 + np.stack([2.6 * np.sin(5 * at), 1.8 * np.cos(7 * at), 0.5 + 0.35 * np.sin(11 * at)], axis=1)
    forward = np.stack([np.cos(13 * at), np.sin(13 * at), -0.45 + 0.3 * np.sin(3 * at)], axis=1)
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    poses[:, :3, 3] = -(poses[:, :3, :3] @ eyes[..., None])[..., 0]
    return poses


def photo_size(arguments: argparse.Namespace) -> tuple[int, int]:
    return arguments.width, arguments.width * 3 // 4


def intrinsics(arguments: argparse.Namespace) -> np.ndarray:
    width, height = photo_size(arguments)
    return np.array([[0.7 * width, 0, width / 2], [0, 0.7 * width, height / 2], [0, 0, 1.0]])


@torch.no_grad()
def make(arguments: argparse.Namespace) -> None:
    """Photos as JPEG files and their COLMAP model, its points a little off the surfaces."""
    begin = time.perf_counter()
    device = use_device(arguments.device_count, arguments.threads)
    truth = surfaces(arguments.gaussians)
    tensors = {
        "means": truth.means,
        "quats": _flat(truth.normals),
        "scales": np.tile(truth.radius * np.array([1, 1, 0.1]), (arguments.gaussians, 1)),
        "opacities": np.full(arguments.gaussians, 0.95),
        "colors": truth.colors,
    }
    gaussians = {name: torch.tensor(value, dtype=torch.float32, device=device) for name, value in tensors.items()}
    K = torch.tensor(intrinsics(arguments)[None], dtype=torch.float32, device=device)
    poses, (width, height) = cameras(arguments.views), photo_size(arguments)
    (arguments.folder / "images").mkdir(parents=True, exist_ok=True)

    def write(index: int, pixels: torch.Tensor) -> None:
        path = arguments.folder / "images" / f"{index:05}.jpg"
        cv2.imwrite(str(path), pixels.numpy()[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])

    with ThreadPoolExecutor(arguments.threads) as pool:
        writing = []
        for index, pose in enumerate(poses):
            viewmat = torch.tensor(pose[None], dtype=torch.float32, device=device)
            image = render(**gaussians, viewmats=viewmat, Ks=K, width=width, height=height)[0]
            pixels = (image[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
            writing.append(pool.submit(write, index, pixels))
            if index >= 4 * arguments.threads:
                writing[index - 4 * arguments.threads].result()  # so that pictures do not pile up
        for done in writing:
            done.result()
    photographed = time.perf_counter() - begin
    _write_model(arguments, poses, truth)
    total = time.perf_counter() - begin
    print(f"made {arguments.views} photos in {photographed:.0f} s and their model in {total - photographed:.0f} s")


def _flat(normals: np.ndarray) -> np.ndarray:
    """Quaternions [N, 4] that turn z to the normals."""
    quats = np.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], 0 * normals[:, 0]], axis=1)
    quats[normals[:, 2] < -0.999] = [0, 1, 0, 0]
    return quats


def _write_model(arguments: argparse.Namespace, poses: np.ndarray, truth: Surface) -> None:
    K, (width, height) = intrinsics(arguments), photo_size(arguments)
    model = pycolmap.Reconstruction()
    params = [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    camera = pycolmap.Camera(model="PINHOLE", width=width, height=height, params=params, camera_id=1)
    model.add_camera_with_trivial_rig(camera)
    for index, pose in enumerate(poses):
        image = pycolmap.Image(name=f"{index:05}.jpg", camera_id=1, image_id=index + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    folder = arguments.folder / "sparse" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    model.write_binary(str(folder))
    # Written as the format says, since a million calls take minutes: id, position, colour, error, length of the track.
    points = np.zeros(
        len(truth.means), [("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")]
    )
    points["id"] = np.arange(len(points)) + 1
    points["xyz"] = truth.means + np.random.default_rng(8).normal(0, 0.3 * truth.radius, truth.means.shape)
    points["rgb"] = (truth.colors * 255).round()
    (folder / "points3D.bin").write_bytes(np.uint64(len(points)).tobytes() + points.tobytes())
