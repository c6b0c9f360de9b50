"""Whether points of one frame, moved, lie where the next frame has points: what lidar alone tells of motion.

As in Li et al., Neural Scene Flow Prior (2021), but over the Gaussians of a clip. The ground is left out, whose pattern
of rings goes along with the vehicle, as if it moved.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from splatdag.driving.motion import moved
from splatdag.driving.start import Gaussians

_CELL = 2.0
"""Length (m) of the squares whose lowest point is the ground's height."""
_HEIGHT = 0.3
"""Metres above it from which a point stands up."""
_FARTHEST = 3.0
"""Metres from which a distance counts no more: what is there has no counterpart."""
_MOST = 8192
"""Points of a frame that are looked at in a step."""
_ROWS = 2048


def standing(start: Gaussians) -> Tensor:
    """[N] bool: what was measured and is not ground."""
    means, measured = start.means.cpu().numpy(), ~start.backdrop.cpu().numpy()
    cells = np.floor(means[:, :2] / _CELL).astype(np.int64)
    _, of_points = np.unique(cells, axis=0, return_inverse=True)
    of_points = of_points.reshape(-1)
    lowest = np.full(of_points.max(initial=0) + 1, np.inf)
    np.minimum.at(lowest, of_points[measured], means[measured, 2])
    return torch.from_numpy(measured & (means[:, 2] > lowest[of_points] + _HEIGHT)).to(start.means.device)


def sweep_loss(start: Gaussians, velocities: Tensor, upright: Tensor, rng: np.random.Generator) -> Tensor:
    """Mean distance (m) between two neighbouring frames, each moved to the time of the other.

    Args:
        start: where everything was seen, and when.
        velocities: [N, D, 3] metres per clip time.
        upright: [N] of `standing`.
        rng: chooses the two frames, and the points if there are many.
    """
    frames = start.frames[upright].unique()
    if len(frames) < 2:
        return velocities.new_zeros(())
    first = int(rng.integers(len(frames) - 1))
    rows = [_chosen(upright & (start.frames == frames[number]), rng) for number in (first, first + 1)]
    losses = []
    for here, there in (rows, rows[::-1]):
        step = start.times[there].median() - start.times[here].median()
        places = moved(start.means[here], velocities[here], start.times[here], start.times[here] + step)
        targets = start.means[there]
        distances = (places - targets[_nearest(places.detach(), targets)]).norm(dim=1)
        losses.append(distances.clamp_max(_FARTHEST).mean())
    return torch.stack(losses).mean()


def _chosen(mask: Tensor, rng: np.random.Generator) -> Tensor:
    rows = torch.nonzero(mask)[:, 0]
    if len(rows) <= _MOST:
        return rows
    return rows[torch.from_numpy(np.sort(rng.choice(len(rows), _MOST, replace=False))).to(rows.device)]


def _nearest(places: Tensor, targets: Tensor) -> Tensor:
    """[N] int64: the target [M, 3] nearest to each place [N, 3]."""
    if places.is_cuda:
        return torch.cat([torch.cdist(part, targets).argmin(dim=1) for part in places.split(_ROWS)])
    return torch.from_numpy(cKDTree(targets.numpy()).query(places.numpy())[1])
