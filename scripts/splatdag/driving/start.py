"""What a clip begins with: a Gaussian for each lidar point of its input frames, and a backdrop behind them all.

Everything lies in the ego frame of the clip's first frame (x right, y forward, z up, metres); times run from 0 to 1
over the clip. Parameters are stored as the network changes them: `Gaussians` says how they are activated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from splatdag.driving.clips import Clip
from splatdag.driving.lift import Lifted, evenly
from splatdag.driving.options import StartOptions
from splatdag.driving.pandaset import Log
from splatdag.splats.pixels import read_pixels

SWEEP_SECONDS = 0.1
LARGEST_SCALE = 1.0
"""Of a lidar point's Gaussian (m)."""
_OPACITY = 0.5
_SURE = 0.95
"""Opacity of the backdrop, behind which there is nothing."""


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


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians of a clip, as the network takes and changes them (14 numbers each), with their times."""

    means: Tensor
    """[N, 3] metres."""
    quats: Tensor
    """[N, 4] wxyz, of any length."""
    scales: Tensor
    """[N, 3]: softplus of it is the standard deviation in metres; begins as the logarithm of the spacing."""
    opacities: Tensor
    """[N]: sigmoid of it."""
    colors: Tensor
    """[N, 3]: sigmoid of it is RGB."""
    times: Tensor
    """[N] clip time at which the point was measured, where the mean is its place."""
    backdrop: Tensor
    """[N] bool: not measured, but far behind; it does not move, and its scale has no upper bound."""

    def __len__(self) -> int:
        return len(self.means)

    def activated(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """quats [N, 4] of length one, scales [N, 3] in metres, opacities [N] and colours [N, 3] in 0 to 1."""
        scales = functional.softplus(self.scales)
        scales = torch.where(self.backdrop[:, None], scales, scales.clamp_max(LARGEST_SCALE))
        return (
            functional.normalize(self.quats, dim=1),
            scales,
            torch.sigmoid(self.opacities),
            torch.sigmoid(self.colors),
        )

    def each(self, change: Callable[[Tensor], Tensor]) -> Gaussians:
        """The same with every tensor changed."""
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})


def begin(log: Log, clip: Clip, lifted: dict[int, Lifted], options: StartOptions, seed: int = 0) -> Gaussians:
    """The Gaussians that a clip begins with, on the CPU.

    Args:
        log: of the clip.
        clip: which frames.
        lifted: the input frames' points, by frame of the log.
        options: how many.
        seed: of rotations and of the backdrop's directions.
    """
    generator = torch.Generator().manual_seed(seed)
    ego_to_world, clock = log.ego_to_world[clip.start], Clock.of(log, clip)
    inputs = [clip.start + frame for frame in clip.inputs]
    points, colors, times, spacings = (
        np.concatenate(
            [
                part[number]
                for part in (_measured(log, frame, lifted[frame], clock, options.keep_unseen) for frame in inputs)
            ]
        )
        for number in range(4)
    )
    kept = evenly(len(points), options.max_gaussians)
    means = (points[kept] - ego_to_world[:3, 3]) @ ego_to_world[:3, :3]
    measured = _gaussians(means, colors[kept], times[kept], spacings[kept], _OPACITY, False, generator)
    if not options.num_sky_points:
        return measured
    extent = float(np.linalg.norm(np.ptp(means, axis=0)))
    backdrop = _backdrop(log, clip, inputs, options.sky_radius * extent, options.num_sky_points, generator)
    return _joined(measured, backdrop)


def _measured(log: Log, frame: int, given: Lifted, clock: Clock, keep_unseen: bool) -> tuple[np.ndarray, ...]:
    """Points of the world, colours, clip times and spacings of the points that a camera has seen, or of all."""
    seen = given.seen | keep_unseen
    times = clock.at(given.times[seen].astype(np.float64) + log.lidar_times[frame])
    return given.points[seen] + given.origin, given.colors[seen], times, given.spacings[seen]


def _backdrop(
    log: Log, clip: Clip, inputs: list[int], radius: float, count: int, generator: torch.Generator
) -> Gaussians:
    """The input images on a sphere so far away that where it is looked at from makes no difference.

    Sky is seen there as it is; what has no lidar points, roughly.
    """
    ego_to_world = log.ego_to_world[clip.start]
    views = [(log.cameras[name], frame) for frame in inputs for name in clip.cameras]
    directions, colors, sizes = [], [], []
    for number, (camera, frame) in enumerate(views):
        image = read_pixels(camera.images[frame]).rgb
        height, width = image.shape[:2]
        own = count // len(views) + (number < count % len(views))
        step = np.sqrt(height * width / max(1, own))
        at = torch.rand((own, 2), generator=generator).numpy() * (width, height)
        small = np.floor(at).astype(np.int64)
        rays = np.stack(
            [(at[:, 0] - camera.K[0, 2]) / camera.K[0, 0], (at[:, 1] - camera.K[1, 2]) / camera.K[1, 1], np.ones(own)],
            1,
        )
        lengths = np.linalg.norm(rays, axis=1, keepdims=True)
        directions.append(rays / lengths @ camera.camera_to_world[frame, :3, :3].T)
        colors.append(image[small[:, 1], small[:, 0]])
        sizes.append(np.full(own, 0.7 * step / camera.K[0, 0] * radius))
    means = np.concatenate(directions) @ ego_to_world[:3, :3] * radius
    times = np.zeros(len(means))
    return _gaussians(means, np.concatenate(colors), times, np.concatenate(sizes), _SURE, True, generator)


def _gaussians(
    means: np.ndarray,
    colors: np.ndarray,
    times: np.ndarray,
    spacings: np.ndarray,
    opacity: float,
    backdrop: bool,
    generator: torch.Generator,
) -> Gaussians:
    count = len(means)
    rgb = torch.from_numpy(colors.astype(np.float32) / 255).clamp(0.02, 0.98)
    size = torch.from_numpy(spacings.astype(np.float32)).clamp_min(1e-3)
    return Gaussians(
        torch.from_numpy(means.astype(np.float32)),
        functional.normalize(torch.randn((count, 4), generator=generator), dim=1),
        # softplus of the logarithm is ln(1 + s), as in the paper; the backdrop's is so large that it is the size itself
        (size if backdrop else size.log())[:, None].repeat(1, 3),
        torch.full((count,), float(np.log(opacity / (1 - opacity)))),
        torch.logit(rgb),
        torch.from_numpy(times.astype(np.float32)),
        torch.full((count,), backdrop),
    )


def _joined(one: Gaussians, other: Gaussians) -> Gaussians:
    return replace(one, **{f.name: torch.cat([getattr(one, f.name), getattr(other, f.name)]) for f in fields(one)})
