"""Losses on motion that need lidar alone: points of one frame, moved, should lie where the next frame has points.

As in Li et al., Neural Scene Flow Prior (2021), but over the Gaussians of a clip. The ground is left out, whose pattern
of rings goes along with the vehicle, as if it moved.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from splatdag.driving.gaussians import Gaussians
from splatdag.driving.rendering.motion import moved
from splatdag.workflow.sequences import evenly

_CELL = 2.0
"""Length (m) of the squares whose lower points tell the ground's height."""
_LOW = 0.1
"""Share of them below it: at edges, depths that were guessed wrong lie under the ground."""
_HEIGHT = 0.3
"""Metres above it from which a point stands up."""
_FARTHEST = 3.0
"""Metres from which a distance counts no more: what is there has no counterpart."""
_AROUND = 3
_SLACK = 0.1
"""Metres by which a place that is occupied still may be missed."""
_BEYOND = 3.0
"""Distances, in those that a frame's points have, that count as infinite: what is left of 1 is 1e-4."""
_MOST = 8192
"""Points of a frame that are looked at."""
_ROWS = 2048


def standing(start: Gaussians) -> Tensor:
    """[N] bool: what was measured and is not ground."""
    rows = torch.nonzero(~start.backdrop)[:, 0]
    means = start.means[rows].cpu().numpy()
    _, cells, counts = np.unique(
        np.floor(means[:, :2] / _CELL).astype(np.int64), axis=0, return_inverse=True, return_counts=True
    )
    cells = cells.reshape(-1)
    order = np.lexsort((means[:, 2], cells))
    begins = np.cumsum(counts) - counts
    ground = means[order, 2][begins + (_LOW * counts).astype(np.int64)]
    found = torch.zeros_like(start.backdrop)
    found[rows] = torch.from_numpy(means[:, 2] > ground[cells] + _HEIGHT).to(found.device)
    return found


def stillness(start: Gaussians) -> Tensor:
    """[N] in 0 to 1: how sure it is that a place is occupied in the other frames, too; 0 of the backdrop.

    Where most other frames have a point within the distance that a frame's own points have, what is there stands still,
    or others like it pass by without a gap. Of frames with many points some are looked at, evenly spread; these count
    for the others, which have 0, and may be above 1.
    """
    means, frames = start.means.cpu().numpy(), start.frames.cpu().numpy()
    found = np.zeros(len(means), np.float32)
    cells = np.floor(means / _CELL).astype(np.int64)
    order = np.lexsort((*cells.T, frames))  # neighbours one after the other: the search then finds them in the cache
    of_frames = {number: order[frames[order] == number] for number in np.unique(frames) if number >= 0}
    trees = {number: cKDTree(means[rows]) for number, rows in of_frames.items() if len(rows) > _AROUND}
    for number, tree in trees.items():
        others = [other for key, other in trees.items() if key != number]
        if not others:
            continue
        rows = of_frames[number][evenly(tree.n, _MOST)]
        reach = tree.query(means[rows], _AROUND + 1)[0][:, 1:].mean(axis=1) + _SLACK
        for some in _alike(reach):
            bound, places = _BEYOND * float(reach[some].max()), means[rows[some]]
            away = [other.query(places, distance_upper_bound=bound)[0] for other in others]
            found[rows[some]] = np.exp(-((np.median(away, axis=0) / reach[some]) ** 2)) * tree.n / len(rows)
    return torch.from_numpy(found).to(start.means.device)


def _alike(reach: np.ndarray) -> list[np.ndarray]:
    """Rows in order, in groups whose reach differs by less than a factor of two."""
    powers = np.floor(np.log2(reach))
    return [np.flatnonzero(powers == power) for power in np.unique(powers)]


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
        return torch.cat([_squares(part, targets).argmin(dim=1) for part in places.split(_ROWS)])
    return torch.from_numpy(cKDTree(targets.numpy()).query(places.numpy())[1])


def _squares(places: Tensor, targets: Tensor) -> Tensor:
    """[N, M] squared distances; products of matrices would lose centimetres at a hundred metres."""
    x, y, z = ((places[:, None, axis] - targets[None, :, axis]).square_() for axis in range(3))
    return x.add_(y).add_(z)
