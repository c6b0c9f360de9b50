"""Cameras of a recording."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from splatdag.recording.images import frames_in, read_image
from splatdag.recording.recording import at
from splatdag.workflow.errors import UserError
from splatdag.workflow.sequences import by_number

_HALF_VIEW = np.radians(25)
"""Half the angle that a view's eye sees, a little less than the viewer's."""


@dataclass(frozen=True)
class Cameras:
    """One camera over time, or several at one time; OpenCV axes (x right, y down, z forward)."""

    Ks: np.ndarray
    """[N, 3, 3] intrinsics in pixels."""
    world_to_camera: np.ndarray
    """[N, 3, 4] from the world to the cameras."""
    sizes: np.ndarray
    """[N, 2] width and height of the pictures in pixels."""

    def at(self, indices: Sequence[int]) -> Cameras:
        """Return the cameras of some indices."""
        return Cameras(self.Ks[indices], self.world_to_camera[indices], self.sizes[indices])

    @property
    def centers(self) -> np.ndarray:
        """[N, 3] positions in the world."""
        return -np.einsum("nji,nj->ni", self.world_to_camera[:, :, :3], self.world_to_camera[:, :, 3])

    @property
    def rotations(self) -> np.ndarray:
        """[N, 3, 3] from a camera's axes to the world's."""
        return self.world_to_camera[:, :, :3].transpose(0, 2, 1)


def camera_names(folder: Path) -> list[str]:
    """List names of the folders of cameras in a folder, in order; none if it is not there."""
    found = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(found, key=by_number)


def read_cameras(folder: Path, stride: int, pictures: Path) -> tuple[list[int], Cameras]:
    """Read frames and cameras of `all_cameras/<id>/`, with `intrinsics` and `extrinsics` (world to camera) per frame.

    Args:
        folder: the camera's.
        stride: every so many-th frame is read, from the first.
        pictures: folder of its pictures, whose size is read; of a camera without any, the principal point is taken
            for the middle of the picture.

    Raises:
        UserError: there is none, or one can't be read.
    """
    files = frames_in(folder, stride, (".npz",))
    if not files:
        raise UserError(f"{folder}: no cameras (000001.npz …) in it")
    cameras = [_read_camera(path) for path in files.values()]
    Ks, poses = (np.stack(values) for values in zip(*cameras, strict=True))
    taken = next(iter(frames_in(pictures).values()), None)
    sizes = 2 * Ks[:, :2, 2] if taken is None else np.tile(read_image(taken).shape[1::-1], (len(Ks), 1))
    return list(files), Cameras(Ks, poses, sizes)


def _read_camera(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path) as given:
            K = np.asarray(given["intrinsics"], np.float64).reshape(3, 3)
            pose = np.asarray(given["extrinsics"], np.float64).reshape(-1, 4)[:3].reshape(3, 4)
    except (OSError, ValueError, OverflowError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a camera with intrinsics (3×3) and extrinsics (3×4): {error}") from None
    if not (np.isfinite(K).all() and np.isfinite(pose).all()):
        raise UserError(f"{path}: intrinsics or extrinsics are not finite")
    return K, pose


def log_camera(
    stream: rr.RecordingStream,
    entity: str,
    frames: Sequence[int],
    cameras: Cameras,
    plane_distance: float,
    color: Sequence[int] | None = None,
) -> None:
    """Record one camera: once if it stands still and keeps its lens, else for every frame.

    Args:
        stream: the recording.
        entity: the camera's.
        frames: [N]
        cameras: [N] one camera over time.
        plane_distance: of its picture, as shown, in units of the world.
        color: of its frustum.
    """
    look = rr.Pinhole.from_fields(camera_xyz=rr.ViewCoordinates.RDF, image_plane_distance=plane_distance, color=color)
    if not any(np.ptp(values, axis=0).any() for values in (cameras.world_to_camera, cameras.Ks, cameras.sizes)):
        pose = rr.Transform3D(translation=cameras.centers[0], mat3x3=cameras.rotations[0])
        lens = rr.Pinhole.from_fields(image_from_camera=cameras.Ks[0], resolution=cameras.sizes[0])
        stream.log(entity, pose, lens, look, static=True)
        return
    stream.log(entity, look, static=True)
    poses = rr.Transform3D.columns(translation=cameras.centers, mat3x3=cameras.rotations)
    lenses = rr.Pinhole.columns(image_from_camera=cameras.Ks, resolution=cameras.sizes)
    stream.send_columns(entity, indexes=at(frames), columns=[*poses, *lenses])


def log_up(stream: rr.RecordingStream, entity: str, cameras: Cameras) -> None:
    """Record which way is up in a world: of its six axes the one that the cameras' pictures have nearest to theirs."""
    up = -cameras.rotations[:, :, 1].mean(axis=0)
    axis = int(np.abs(up).argmax())
    direction = "UP" if up[axis] > 0 else "DOWN"
    stream.log(entity, getattr(rr.ViewCoordinates, f"RIGHT_HAND_{'XYZ'[axis]}_{direction}"), static=True)


def eye_on(points: np.ndarray, cameras: Cameras) -> rrb.EyeControls3D:
    """Return an eye that sees all of these points [..., 3], in the direction of the cameras."""
    low, high = points.reshape(-1, 3).min(axis=0), points.reshape(-1, 3).max(axis=0)
    middle, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
    forward, down = (cameras.rotations[:, :, axis].mean(axis=0) for axis in (2, 1))
    back = radius / np.sin(_HALF_VIEW) / (np.linalg.norm(forward) or 1.0)
    return rrb.EyeControls3D(position=middle - back * forward, look_target=middle, eye_up=-down)


def log_frusta(stream: rr.RecordingStream, entity: str, cameras: Cameras, depth: float, color: Sequence[int]) -> None:
    """Record many cameras as one set of lines: the edges of their frusta, down to a depth."""
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    pixels = corners[None] * cameras.sizes[:, None]
    rays = np.concatenate([pixels, np.ones((*pixels.shape[:2], 1))], axis=2) @ np.linalg.inv(cameras.Ks).transpose(
        0, 2, 1
    )
    ends = cameras.centers[:, None] + depth * rays @ cameras.rotations.transpose(0, 2, 1)
    middle = cameras.centers
    strips = [
        strip
        for center, (a, b, c, d) in zip(middle, ends, strict=True)
        for strip in ([a, b, c, d, a], [a, center, c], [b, center, d])
    ]
    stream.log(entity, rr.LineStrips3D(strips, colors=color, radii=rr.Radius.ui_points(0.75)), static=True)
