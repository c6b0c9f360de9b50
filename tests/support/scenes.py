"""Small scenes with exact cameras for the tests: COLMAP models, and photos of a few hundred known Gaussians."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pycolmap
import torch

from splatdag.scene.options import SplatOptions
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.views import View
from splatdag.splats.gaussians import SH_C0, Parameters

SIZE = (48, 32)
"""Width and height of the photos of `gaussian_scene`."""


def look_at(eye: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """World-to-camera matrix [4, 4] of a camera at `eye` (x right, y down, z forward; the world's y points down)."""
    forward = (np.zeros(3) if target is None else target) - eye
    forward = forward / np.linalg.norm(forward)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = right, np.cross(forward, right), forward
    pose[:3, 3] = -pose[:3, :3] @ eye
    return pose


def arc(count: int, radius: float = 3.0) -> list[np.ndarray]:
    """Poses on a third of a circle around the origin, at two heights."""
    angles = np.radians(np.linspace(-60, 60, count))
    return [
        look_at(radius * np.array([np.sin(angle), -0.15 - 0.2 * (index % 2), -np.cos(angle)]))
        for index, angle in enumerate(angles)
    ]


def colmap_model(
    poses: dict[str, np.ndarray],
    camera: pycolmap.Camera,
    points: np.ndarray,
    colors: np.ndarray,
    track_lengths: list[int] | None = None,
) -> pycolmap.Reconstruction:
    """A model of one camera; point i is seen by the first `track_lengths[i]` photos (default: all)."""
    model = pycolmap.Reconstruction()
    camera.camera_id = 1
    model.add_camera_with_trivial_rig(camera)
    for image_id, (name, pose) in enumerate(poses.items(), start=1):
        seen = np.asarray(camera.img_from_cam(points @ pose[:3, :3].T + pose[:3, 3])).reshape(-1, 2)
        image = pycolmap.Image(name=name, camera_id=1, image_id=image_id, keypoints=seen)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    for index, (xyz, color) in enumerate(zip(points, colors, strict=True)):
        length = len(poses) if track_lengths is None else track_lengths[index]
        track = pycolmap.Track([pycolmap.TrackElement(image_id, index) for image_id in range(1, length + 1)])
        model.add_point3D(xyz, track, np.asarray(color, dtype=np.uint8))
    return model


def write_model(folder: Path, model: pycolmap.Reconstruction, kind: str = "bin") -> Path:
    """Write a model, `bin` or `txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    (model.write_binary if kind == "bin" else model.write_text)(str(folder))
    return folder


def random_gaussians(count: int, sh_degree: int = 1, seed: int = 0) -> Parameters:
    """A coloured ball of Gaussians of radius about one."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn((count, 3), generator=generator)
    means = means / means.norm(dim=1, keepdim=True) * torch.rand((count, 1), generator=generator) ** (1 / 3)
    return {
        "means": means,
        "scales": torch.log(0.05 + 0.15 * torch.rand((count, 3), generator=generator)),
        "quats": torch.randn((count, 4), generator=generator),
        "opacities": 1.5 + torch.randn((count,), generator=generator),
        "sh0": (torch.rand((count, 1, 3), generator=generator) - 0.5) / SH_C0,
        "shN": 0.1 * torch.randn((count, (sh_degree + 1) ** 2 - 1, 3), generator=generator),
    }


def intrinsics(width: int = SIZE[0], height: int = SIZE[1], focal: float = 48.0) -> np.ndarray:
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


@torch.no_grad()
def photo_of(parameters: Parameters, pose: np.ndarray, K: np.ndarray, size: tuple[int, int] = SIZE) -> np.ndarray:
    """What a camera sees of Gaussians in the world: [H, W, 3] float32 in [0, 1]."""
    degree = round((parameters["shN"].shape[1] + 1) ** 0.5) - 1
    camera = torch.tensor(pose[None], dtype=torch.float32), torch.tensor(K[None], dtype=torch.float32)
    return SplatModel(parameters, SplatOptions(sh_degree=degree)).draw(*camera, *size)[0][0].clamp(0, 1).numpy()


def gaussian_scene(count: int = 300, views: int = 8) -> tuple[Parameters, list[View]]:
    """Known Gaussians and photos of them from an arc."""
    truth = random_gaussians(count)
    made = []
    for index, pose in enumerate(arc(views)):
        pixels = (photo_of(truth, pose, intrinsics()) * 255).round().astype(np.uint8)
        made.append(View(f"{index}.png", torch.from_numpy(pixels), pose, intrinsics()))
    return truth, made


def write_gaussian_scene(folder: Path) -> Path:
    """The same as a COLMAP dataset: `images/` and `sparse/0/`; its points are every third Gaussian, a little off."""
    truth, views = gaussian_scene()
    (folder / "images").mkdir(parents=True)
    for view in views:
        cv2.imwrite(str(folder / "images" / view.name), view.image_HW3.numpy()[:, :, ::-1])
    points = truth["means"][::3].double().numpy()
    points = points + np.random.default_rng(0).normal(0, 0.02, points.shape)
    colors = (truth["sh0"][::3, 0].numpy() * SH_C0 + 0.5).clip(0, 1) * 255
    K = intrinsics()
    camera = pycolmap.Camera(
        model="PINHOLE", width=SIZE[0], height=SIZE[1], params=[K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    )
    write_model(
        folder / "sparse" / "0",
        colmap_model({view.name: view.world_to_camera for view in views}, camera, points, colors),
    )
    return folder
