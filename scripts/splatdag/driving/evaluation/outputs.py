"""Files of an evaluated clip for viewers: splats at each time, cameras, pictures, motion and a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from splatdag.driving import pictures
from splatdag.driving.clips.clip_scene import ClipScene
from splatdag.driving.clips.clips import RATE
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.network.model import Moving
from splatdag.driving.rendering.motion import moved, velocity
from splatdag.driving.rendering.rendering import Drawn
from splatdag.splats.gaussians import SH_C0
from splatdag.splats.normalisation import Normalisation
from splatdag.splats.ply import write_ply
from splatdag.workflow.publish import complete, write_json


def write_splats(folder: Path, log: Log, scene: ClipScene, moving: Moving) -> None:
    """Write a clip's Gaussians in world coordinates of its log.

    splat_NN.ply are all of them, backdrop included, where they are when image NN was taken; motion.npz holds where
    they were measured, when, and how they move.

    Args:
        folder: to write to.
        log: of the clip.
        scene: the clip.
        moving: its Gaussians.
    """
    ego_to_world = log.ego_to_world[scene.clip.start]
    for view in scene.views:
        write_ply(folder / f"splat_{view.frame:02d}.ply", _parameters(moving, view.target.time, ego_to_world), _WORLD)
    _write_motion(folder / "motion.npz", scene, moving, ego_to_world)


def write_pictures(folder: Path, log: Log, scene: ClipScene, drawn: dict[int, Drawn], *, video: bool) -> None:
    """Write a clip's images: pred_NN.jpg and gt_NN.jpg, cameras.json, and video.mp4, which shows them side by side.

    Args:
        folder: to write to.
        log: of the clip.
        scene: the clip.
        drawn: what was rendered, by frame of the clip; each holds one image.
        video: whether to write the video.
    """
    ego_to_world = log.ego_to_world[scene.clip.start]
    pairs, cameras = [], []
    for view in scene.views:
        pair = (pictures.as_uint8(drawn[view.frame].rgb[0]), view.image.cpu().numpy())
        for name, image in zip(("pred", "gt"), pair, strict=True):
            pictures.write_jpg(folder / f"{name}_{view.frame:02d}.jpg", image)
        pairs.append(np.concatenate(pair, axis=1))
        camera_to_world = ego_to_world @ np.linalg.inv(view.target.viewmat.cpu().numpy().astype(np.float64))
        cameras.append(
            {
                "frame": view.frame,
                "log_frame": scene.clip.start + view.frame,
                "given": view.given,
                "seconds": view.target.time * scene.clock.seconds,
                "camera_to_world": camera_to_world.tolist(),
                "K": view.target.K.tolist(),
                "width": scene.size[0],
                "height": scene.size[1],
            }
        )
    about = {"clip_id": scene.clip.clip_id, "axes": "OpenCV: x right, y down, z forward", "views": cameras}
    write_json(folder / "cameras.json", about)
    if video:
        from splatdag.formats.video import write_video  # half a second of imports that a training does not need

        write_video(folder / "video.mp4", pairs, round(RATE))


_WORLD = Normalisation(np.zeros(3), 1.0, 1.0)


def _parameters(moving: Moving, time: float, ego_to_world: np.ndarray) -> dict[str, torch.Tensor]:
    """Move Gaussians to a time and turn them into the world, as a PLY file stores them."""
    gaussians = moving.gaussians
    quats, scales, opacities, colors = (tensor.detach().cpu() for tensor in gaussians.activated())
    means = moved(gaussians.means, moving.velocities, gaussians.times, time).detach().cpu()
    turn = torch.from_numpy(ego_to_world).float()
    return {
        "means": means @ turn[:3, :3].T + turn[:3, 3],
        "quats": _turned(quats, ego_to_world[:3, :3]),
        "scales": scales.clamp_min(1e-6).log(),
        "opacities": torch.logit(opacities.clamp(1e-6, 1 - 1e-6)),
        "sh0": ((colors - 0.5) / SH_C0)[:, None],
        "shN": colors.new_zeros((len(colors), 0, 3)),
    }


def _turned(quats: torch.Tensor, rotation: np.ndarray) -> torch.Tensor:
    """Turn quaternions [N, 4] (wxyz) by a rotation [3, 3]."""
    after = Rotation.from_matrix(rotation) * Rotation.from_quat(quats.numpy(), scalar_first=True)
    return torch.from_numpy(after.as_quat(scalar_first=True)).to(quats.dtype)


def _write_motion(path: Path, scene: ClipScene, moving: Moving, ego_to_world: np.ndarray) -> None:
    """Write points [N, 3] (m), times [N] (s), velocities [N, 3] (m/s), their coefficients [N, D, 3], sky left out."""
    gaussians, seconds = moving.gaussians, scene.clock.seconds
    measured = ~gaussians.backdrop
    turn = ego_to_world.astype(np.float32)
    powers = np.array([seconds ** (power + 1) for power in range(moving.velocities.shape[1])], np.float32)
    coefficients = moving.velocities[measured].detach().cpu().numpy() / powers[:, None]
    own = velocity(moving.velocities, gaussians.times)[measured].detach().cpu().numpy() / seconds
    with complete(path) as temporary:
        np.savez_compressed(
            temporary,
            points=gaussians.means[measured].detach().cpu().numpy() @ turn[:3, :3].T + turn[:3, 3],
            colors=pictures.as_uint8(torch.sigmoid(gaussians.colors[measured])),
            seconds=gaussians.times[measured].cpu().numpy() * np.float32(seconds),
            velocities=own @ turn[:3, :3].T,
            coefficients=coefficients @ turn[:3, :3].T,
        )
