"""Initial Gaussians of a clip: those of its input frames' lidar points and pixels, and a backdrop behind them all.

Everything lies in the ego frame of the clip's first frame (x right, y forward, z up, metres); times run from 0 to 1
over the clip. Parameters are stored as the network changes them: `Gaussians` says how they are activated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch.nn import functional

from splatdag.driving.clips.clips import Clip
from splatdag.driving.clips.depths import Depths
from splatdag.driving.clips.lift import Lifted
from splatdag.driving.gaussians import Gaussians
from splatdag.driving.logs.pandaset import Camera, Log
from splatdag.driving.network_options import StartOptions
from splatdag.formats.images import read_pixels
from splatdag.workflow.errors import UserError
from splatdag.workflow.sequences import evenly

SWEEP_SECONDS = 0.1
_OPACITY = 0.5
"""Opacity of lidar points' Gaussians, as in the paper."""
_OPACITY_OF_PIXELS = 0.8
_SURE = 0.95
"""Opacity of the backdrop, behind which there is nothing."""
_SPREAD, _SPREAD_OF_BACKDROP = 0.5, 0.7
"""Standard deviation of a pixel's Gaussian, in distances between pixels; behind the backdrop is nothing."""


@dataclass(frozen=True)
class Clock:
    """A clip's time: 0 when its first sweep begins, 1 when its last one ends."""

    begin: float
    """Seconds since 1970."""
    seconds: float

    @classmethod
    def of(cls, log: Log, clip: Clip) -> Clock:
        times = log.lidar_times[clip.start : clip.start + clip.length]
        begin = float(times[0]) - SWEEP_SECONDS
        return cls(begin, float(times[-1]) - begin)

    def at(self, times: np.ndarray | float) -> np.ndarray:
        """Clip time of seconds since 1970."""
        return (np.asarray(times, dtype=np.float64) - self.begin) / self.seconds


def begin(
    log: Log,
    clip: Clip,
    lifted: dict[int, Lifted],
    options: StartOptions,
    seed: int = 0,
    images: Callable[[str, int], np.ndarray] | None = None,
) -> Gaussians:
    """The Gaussians that a clip begins with, on the CPU.

    Args:
        log: of the clip.
        clip: which frames.
        lifted: the input frames' points, by frame of the log.
        options: how many.
        seed: of rotations and of the backdrop's directions.
        images: gives the image [H, W, 3] uint8 of a camera and frame of the log; decodes it where it is not given.

    Raises:
        UserError: none of the points counts, or an image can't be used.
    """
    images = images or (lambda name, frame: read_pixels(log.cameras[name].images[frame]).rgb)
    generator = torch.Generator().manual_seed(seed)
    ego_to_world, clock = log.ego_to_world[clip.start], Clock.of(log, clip)
    inputs = [clip.start + frame for frame in clip.inputs]
    points, colors, times, spacings, frames = (
        np.concatenate(parts)
        for parts in zip(
            *(_measured(log, frame, lifted[frame], clock, options.keep_unseen) for frame in inputs), strict=True
        )
    )
    if not len(points):
        listed = ", ".join(map(str, inputs))
        raise UserError(f"{log.folder}: clip {clip.clip_id}: no lidar point lies in an image of its frames {listed}")
    kept = evenly(len(points), options.max_gaussians)
    sizes = options.lidar_scale * spacings[kept]
    means = (points[kept] - ego_to_world[:3, 3]) @ ego_to_world[:3, :3]
    frames = frames[kept] - clip.start
    found = [_gaussians(means, colors[kept], times[kept], frames, sizes, _OPACITY, "lidar", generator)]
    radius = options.sky_radius * float(np.linalg.norm(np.ptp(means, axis=0)))
    views = [(name, frame) for frame in inputs for name in clip.cameras]
    for number, (name, frame) in enumerate(views):
        camera, image = log.cameras[name], images(name, frame)
        near = Depths(camera, frame, lifted[frame], image.shape[1], image.shape[0])
        for kind, count in (("pixels", options.num_image_points), ("backdrop", options.num_sky_points)):
            own = count // len(views) + (number < count % len(views))
            drawn = _drawn(camera, frame, image, near, own, radius if kind == "backdrop" else None, generator)
            at = np.full(len(drawn[0]), 0.0 if kind == "backdrop" else float(clock.at(camera.times[frame])))
            if kind == "pixels":
                means = (drawn[0] + camera.camera_to_world[frame, :3, 3] - ego_to_world[:3, 3]) @ ego_to_world[:3, :3]
            else:  # so far away that where it is looked at from makes no difference
                means = drawn[0] @ ego_to_world[:3, :3]
            opacity = _SURE if kind == "backdrop" else _OPACITY_OF_PIXELS
            seen_in = np.full(len(at), -1 if kind == "backdrop" else frame - clip.start)
            found.append(_gaussians(means, drawn[1], at, seen_in, drawn[2], opacity, kind, generator))
    return _joined(found)


def _measured(log: Log, frame: int, given: Lifted, clock: Clock, keep_unseen: bool) -> tuple[np.ndarray, ...]:
    """Points of the world, colours, clip times, spacings and frames of the points that a camera has seen, or of all."""
    seen = given.seen | keep_unseen
    times = clock.at(given.times[seen].astype(np.float64) + log.lidar_times[frame])
    points = given.points[seen] + given.origin
    return points, given.colors[seen], times, given.spacings[seen], np.full(len(points), frame)


def _drawn(
    camera: Camera,
    frame: int,
    image: np.ndarray,
    near: Depths,
    count: int,
    radius: float | None,
    generator: torch.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw `count` pixels at random and place in space those with lidar points near; with a radius, the others.

    Their depth is that of the lidar points; with a radius, it is their distance from the camera (m).

    Returns:
        Positions [M, 3] from the camera in axes of the world (m), colours [M, 3] and sizes [M] (m).
    """
    height, width = image.shape[:2]
    at = torch.rand((count, 2), generator=generator).numpy() * (width, height)
    depths = near.at(at)
    chosen = np.isfinite(depths) if radius is None else np.isinf(depths)
    at, depths = at[chosen], depths[chosen]
    K, apart = camera.K, np.sqrt(height * width / max(1, count))
    rays = np.stack([(at[:, 0] - K[0, 2]) / K[0, 0], (at[:, 1] - K[1, 2]) / K[1, 1], np.ones(len(at))], axis=1)
    if radius is not None:
        rays, depths = rays / np.linalg.norm(rays, axis=1, keepdims=True), np.full(len(at), radius)
    small = np.floor(at).astype(np.int64)
    where = (rays * depths[:, None]) @ camera.camera_to_world[frame, :3, :3].T
    spread = _SPREAD if radius is None else _SPREAD_OF_BACKDROP
    return where, image[small[:, 1], small[:, 0]], spread * apart / K[0, 0] * depths


def _gaussians(
    means: np.ndarray,
    colors: np.ndarray,
    times: np.ndarray,
    frames: np.ndarray,
    sizes: np.ndarray,
    opacity: float,
    kind: str,
    generator: torch.Generator,
) -> Gaussians:
    count = len(means)
    rgb = torch.from_numpy(colors.astype(np.float32) / 255).clamp(0.02, 0.98)
    size = torch.from_numpy(sizes.astype(np.float32)).clamp_min(1e-3)
    # Of lidar points softplus of the logarithm is ln(1 + size), as in the paper; others have the size itself.
    scales = size.log() if kind == "lidar" else torch.where(size > 20, size, torch.expm1(size.clamp_max(20)).log())
    return Gaussians(
        torch.from_numpy(means.astype(np.float32)),
        functional.normalize(torch.randn((count, 4), generator=generator), dim=1),
        scales[:, None].repeat(1, 3),
        torch.full((count,), float(np.log(opacity / (1 - opacity)))),
        torch.logit(rgb),
        torch.from_numpy(times.astype(np.float32)),
        torch.full((count,), kind == "backdrop"),
        torch.from_numpy(frames.astype(np.int16)),
    )


def _joined(parts: list[Gaussians]) -> Gaussians:
    return Gaussians(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Gaussians)))
