"""Evaluation of one clip: its images and the flow of its points, beside the trivial answers."""

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
from splatdag.driving.evaluation.scores import GroundTruth, Kind, Rendered, Row, image_row
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.network.model import Flux4D, Moving
from splatdag.driving.rendering.motion import moved
from splatdag.driving.rendering.rendering import Drawn, draw
from splatdag.driving.training.step import initial_state, reconstruct
from splatdag.driving.training_options import LearnOptions


@dataclass
class ClipEvaluation:
    """Rows of one clip, and what they were measured on."""

    images: list[Row]
    pairs: list[Row]
    moving: Moving
    drawn: dict[int, Drawn]
    """Renders of the model, on the CPU, by frame of the clip."""
    seconds: dict[str, float]
    """Wall times: `reconstruct`, from the initial Gaussians to the last; `render`, of one image."""


def evaluate_clip(
    model: Flux4D, scene: ClipScene, log: Log, options: LearnOptions, definition: Definition = "boxes"
) -> ClipEvaluation:
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
    moving = reconstruct(model, scene, options)
    _wait(device)
    seconds = {"reconstruct": time.perf_counter() - begin}
    initial = initial_state(model, scene)
    colour, depth = _mean_colour(scene.given).to(device), _mean_depth(scene.given)
    images, renders, render_seconds = [], {}, []
    for view in scene.views:
        on_device = view.to(device)
        begin = time.perf_counter()
        drawn = _drawn(moving, on_device, scene)
        _wait(device)
        render_seconds.append(time.perf_counter() - begin)
        mask = dynamic_mask(log, clip.start + view.frame, options.camera, *scene.size, definition)
        truth = GroundTruth(on_device.image.float() / 255, on_device.depth_image(), torch.from_numpy(mask).to(device))
        baselines = {
            "mean_colour": Rendered(colour.expand_as(truth.rgb), None),
            "mean_depth": Rendered(None, None if depth is None else torch.full_like(truth.depth, depth)),
            "init_only": _rendered(_drawn(initial, on_device, scene)),
        }
        kind = _kind(view, scene)
        images.append(image_row(clip.clip_id, clip.scene_id, view.frame, kind, truth, _rendered(drawn), baselines))
        renders[view.frame] = Drawn(*(getattr(drawn, field.name).cpu() for field in fields(Drawn)))
    seconds["render"] = float(np.median(render_seconds))
    return ClipEvaluation(images, _pairs(scene, log, moving, options.camera), moving, renders, seconds)


def _mean_colour(views: list[View]) -> torch.Tensor:
    """Average the colour [3] of input images."""
    return torch.stack([view.image.float().mean(dim=(0, 1)) / 255 for view in views]).mean(dim=0)


def _mean_depth(views: list[View]) -> float | None:
    """Average the depths (m) that the Pandar64 measured in input images: the constant of least RMSE on these."""
    depths = torch.cat([view.depths for view in views])
    return float(depths.double().mean()) if len(depths) else None


def _drawn(moving: Moving, view: View, scene: ClipScene) -> Drawn:
    """Render one image."""
    with torch.no_grad():
        return draw(moving.gaussians, moving.velocities, [view.target], *scene.size)


def _rendered(drawn: Drawn) -> Rendered:
    return Rendered(drawn.rgb[0], drawn.depth[0])


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
        about: dict[str, Any] = {"clip_id": scene.clip.clip_id, "scene_id": scene.clip.scene_id}
        about |= {"frame0": frame, "frame1": frame + 1}
        flow = flow_of(scene, log, moving, pair)
        rows.append(about | {"model": pair_row(pair, flow), "zero_flow": pair_row(pair, np.zeros_like(flow))})
    return rows


def flow_of(scene: ClipScene, log: Log, moving: Moving, pair: Pair) -> np.ndarray:
    """Predict the flow [N, 3] (metres, world axes) of a pair's points until the next frame, from their Gaussians."""
    ego_to_world = log.ego_to_world[scene.clip.start]
    measured = ~moving.gaussians.backdrop
    means = scene.start.means[measured].cpu().numpy()
    points = (pair.points - ego_to_world[:3, 3]) @ ego_to_world[:3, :3]
    _, nearest = cKDTree(means).query(points)
    chosen = torch.nonzero(measured)[:, 0][torch.from_numpy(nearest).to(measured.device)]
    moments = [float(scene.clock.at(log.lidar_times[frame])) for frame in (pair.frame, pair.frame + 1)]
    places, times = moving.gaussians.means[chosen], moving.gaussians.times[chosen]
    before, after = (moved(places, moving.velocities[chosen], times, moment) for moment in moments)
    flow: np.ndarray = (after - before).double().cpu().numpy() @ ego_to_world[:3, :3].T
    return flow


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
