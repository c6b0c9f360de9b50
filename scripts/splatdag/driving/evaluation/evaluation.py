"""How well a clip is drawn and its motion told, beside the trivial answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from splatdag.driving.clips.clip_scene import ClipScene, View
from splatdag.driving.evaluation.dynamic_masks import Definition, dynamic_mask
from splatdag.driving.evaluation.scene_flow import Pair, pair_of, pair_row
from splatdag.driving.evaluation.scores import Kind, Row, Seen, Shown, image_row
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.network.model import Flux4D, Moving
from splatdag.driving.rendering.motion import moved
from splatdag.driving.rendering.rendering import Drawn, draw
from splatdag.driving.training.step import solved, unsolved
from splatdag.driving.training_options import LearnOptions


@dataclass
class Evaluated:
    """One clip."""

    images: list[Row]
    pairs: list[Row]
    moving: Moving
    drawn: dict[int, Drawn]
    """What the model draws, on the CPU, by frame of the clip."""
    seconds: dict[str, float]
    """reconstruct: from the first Gaussians to the last; render: one image."""


def evaluate_clip(
    model: Flux4D, scene: ClipScene, log: Log, options: LearnOptions, definition: Definition = "boxes"
) -> Evaluated:
    """Measure a clip on all its images, those that were given apart, and on the points of its input frames.

    Args:
        model: trained.
        scene: on the device of the model.
        log: of the clip.
        options: that the model was trained with.
        definition: of what is called dynamic.
    """
    device, clip = scene.start.means.device, scene.clip
    _wait(device)
    begin = time.perf_counter()
    moving = solved(model, scene, options)
    _wait(device)
    seconds = {"reconstruct": time.perf_counter() - begin}
    first = unsolved(model, scene)
    mean_colour = torch.stack([view.image.float().mean(dim=(0, 1)) / 255 for view in scene.given]).mean(dim=0)
    images, drawn, spent = [], {}, []
    for view in scene.views:
        there = view.to(device)
        begin = time.perf_counter()
        shown = _drawn(moving, there, scene)
        _wait(device)
        spent.append(time.perf_counter() - begin)
        mask = dynamic_mask(log, clip.start + view.frame, options.camera, *scene.size, definition)
        seen = Seen(there.image.float() / 255, there.depth_image(), torch.from_numpy(mask).to(device))
        row = image_row(
            clip.clip_id, clip.scene_id, view.frame, _kind(view, scene), seen, _shown(shown),
            _shown(_drawn(first, there, scene)), mean_colour,
        )  # fmt: skip
        images.append(row)
        drawn[view.frame] = Drawn(*(getattr(shown, field.name).cpu() for field in fields(Drawn)))
    seconds["render"] = float(np.median(spent))
    return Evaluated(images, _pairs(scene, log, moving, options.camera), moving, drawn, seconds)


def _drawn(moving: Moving, view: View, scene: ClipScene) -> Drawn:
    """One image."""
    with torch.no_grad():
        return draw(moving.gaussians, moving.velocities, [view.target], *scene.size)


def _shown(drawn: Drawn) -> Shown:
    return Shown(drawn.rgb[0], drawn.depth[0])


def _kind(view: View, scene: ClipScene) -> Kind:
    if view.given:
        return "input"
    return "interpolation" if view.frame < max(scene.clip.inputs) else "future"


def _pairs(scene: ClipScene, log: Log, moving: Moving, camera: str) -> list[Row]:
    rows: list[Row] = []
    for frame in scene.clip.inputs:
        pair = pair_of(log, scene.clip.start + frame, camera)
        if pair is None or not len(pair.rows):
            continue
        about: dict[str, Any] = {"clip_id": scene.clip.clip_id, "scene": scene.clip.scene_id, "frame": frame}
        told = flow_of(scene, log, moving, pair)
        rows.append(about | {"model": pair_row(pair, told), "zero_flow": pair_row(pair, np.zeros_like(told))})
    return rows


def flow_of(scene: ClipScene, log: Log, moving: Moving, pair: Pair) -> np.ndarray:
    """[N, 3] metres, world axes: how far the points of a pair go until the next frame, as their Gaussians do."""
    ego_to_world = log.ego_to_world[scene.clip.start]
    measured = ~moving.gaussians.backdrop
    where = scene.start.means[measured].cpu().numpy()
    own = (pair.points - ego_to_world[:3, 3]) @ ego_to_world[:3, :3]
    _, rows = cKDTree(where).query(own)
    chosen = torch.nonzero(measured)[:, 0][torch.from_numpy(rows).to(measured.device)]
    at = [float(scene.clock.at(log.lidar_times[frame])) for frame in (pair.frame, pair.frame + 1)]
    means, times = moving.gaussians.means[chosen], moving.gaussians.times[chosen]
    before, after = (moved(means, moving.velocities[chosen], times, moment) for moment in at)
    flow: np.ndarray = (after - before).double().cpu().numpy() @ ego_to_world[:3, :3].T
    return flow


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
