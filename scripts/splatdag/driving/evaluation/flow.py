"""Pictures of the image-plane velocity of a clip's Gaussians, and figures: does what stands still stay in its place?"""

from __future__ import annotations

import colorsys
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from splatdag.driving import pictures
from splatdag.driving.clips.clip_reader import Reader
from splatdag.driving.clips.clip_scene import ClipScene
from splatdag.driving.clips.clips import clip_at
from splatdag.driving.evaluation.dynamic_masks import box_mask
from splatdag.driving.logs.box_tracks import has_boxes, steps
from splatdag.driving.logs.pandaset import Camera, Log
from splatdag.driving.network.model import Moving
from splatdag.driving.rendering.motion import LARGEST_PIXELS
from splatdag.driving.rendering.rendering import Target, draw
from splatdag.driving.training.checkpoints import load_model
from splatdag.driving.training.step import reconstruct
from splatdag.driving.training_options import FlowOptions
from splatdag.splats.devices import use_device
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)
_OPAQUE = 0.5
"""Opacity below which a pixel shows nothing."""


def main(
    index_path: Path,
    data_root: Path,
    ckpt: Path,
    out_dir: Path,
    options: FlowOptions,
    job: Job,
    device_count: int = 0,
    cache_dir: Path | None = None,
) -> None:
    """Render a clip's image-plane velocity, seen from one pose, from each frame's own, or both.

    Args:
        index_path: index of clips.
        data_root: folder of the logs.
        ckpt: checkpoint of a training.
        out_dir: folder for fixed_pose/ and per_frame_pose/ with, for each frame, pred_rgb, gt_rgb, pred_depth, vr_mag,
            vr_hsv and rgb_diff_prev .png; and, last, summary.json.
        options: which clip, frames and poses.
        job: how to run.
        device_count: CUDA devices to use; 0 is the CPU.
        cache_dir: folder where lifted frames are kept, and made where they are missing.
    """
    device = use_device(device_count, job.threads)
    model, learn_options, step = load_model(ckpt, device)
    clip = clip_at(index_path, options.clip_index)
    reader = Reader(data_root, learn_options, cache_dir)
    scene, log = reader(clip).to(device), reader.log(clip)
    moving = reconstruct(model, scene, learn_options)
    if options.camera not in (None, learn_options.camera):
        through = replace(reader, options=learn_options.model_copy(update={"camera": options.camera}))
        scene = through(clip).to(device)
    frames = frames_of(options.render_frames, clip.length)
    by_frame = {view.frame: view for view in scene.views}
    missing = [frame for frame in (*frames, options.frame_ref) if frame not in by_frame]
    if missing:
        known = ", ".join(map(str, sorted(by_frame)))
        raise UserError(f"frame {missing[0]}: no image of clip {clip.clip_id}, which has {known}")
    modes = ("fixed_pose", "per_frame_pose") if options.mode == "both" else (options.mode,)
    summary: dict[str, Any] = {
        "mode": options.mode,
        "index_path": str(index_path),
        "clip_index": options.clip_index,
        "clip_id": clip.clip_id,
        "camera": options.camera or learn_options.camera,
        "ckpt": str(ckpt),
        "step": step,
        "frame_ref": options.frame_ref,
        "render_frames": frames,
        "num_gaussians": len(moving.gaussians),
        "unit": "pixels from a frame to the next, of the size rendered",
        "largest": LARGEST_PIXELS,
    }
    for mode in modes:
        reference = by_frame[options.frame_ref].target.to(device) if mode == "fixed_pose" else None
        summary[mode] = _write_mode(scene, log, moving, frames, reference, out_dir / mode)
        medians = [summary[mode][f"{part}_median"] for part in ("background", "dynamic")]
        words = ["nothing is seen" if median is None else f"{median:.3f} pixels a frame" for median in medians]
        logger.info("%s, medians: background %s, moving boxes %s", mode, *words)
    write_json(out_dir / "summary.json", summary)


def frames_of(text: str, length: int) -> list[int]:
    """Read `0-15` or `0,2,4-6` as numbers below `length`.

    Raises:
        UserError: it is not so written, or beyond the clip.
    """
    frames: list[int] = []
    try:
        for part in text.replace(" ", "").split(","):
            first, dash, last = part.partition("-")
            frames += range(int(first), int(last if dash else first) + 1)
    except ValueError:
        raise UserError(f"render_frames: {text!r}; expected frames such as 0-15 or 0,2,4") from None
    beyond = [frame for frame in frames if frame >= length]
    if beyond or not frames:
        raise UserError(f"render_frames: {text}, but the clip has {length} frames, counted from 0")
    return frames


def _write_mode(
    scene: ClipScene, log: Log, moving: Moving, frames: list[int], reference: Target | None, folder: Path
) -> dict[str, Any]:
    """Write the pictures of one mode, and measure all of them: what is in a box that moves, and all else."""
    by_frame = {view.frame: view for view in scene.views}
    previous: np.ndarray | None = None
    rows: list[dict[str, Any]] = []
    background: list[np.ndarray] = []
    dynamic: list[np.ndarray] = []
    camera = log.cameras[scene.views[0].target.name.partition("/")[0]]
    for frame in frames:
        view = by_frame[frame].to(scene.start.means.device)
        target = view.target
        if reference is not None:
            target = replace(target, viewmat=reference.viewmat, K=reference.K)
        with torch.no_grad():
            drawn = draw(moving.gaussians, moving.velocities, [target], *scene.size)
        rgb = pictures.as_uint8(drawn.rgb[0])
        flow = drawn.flow[0].cpu().numpy()
        length = np.linalg.norm(flow, axis=-1)
        opaque = drawn.alpha[0].cpu().numpy() > _OPAQUE
        change = np.zeros_like(rgb) if previous is None else cv2.absdiff(rgb, previous)
        images = {
            "pred_rgb": rgb,
            "gt_rgb": view.image.cpu().numpy(),
            "pred_depth": pictures.depth_gray(drawn.depth[0].cpu().numpy(), pictures.FARTHEST),
            "vr_mag": (255 * length / LARGEST_PIXELS).clip(0, 255).astype(np.uint8),
            "vr_hsv": by_direction(flow),
            "rgb_diff_prev": change,
        }
        for name, image in images.items():
            pictures.write_png(folder / f"frame_{frame:03d}" / f"{name}.png", image)
        previous = rgb
        moves = _boxes(log, scene, target, camera, frame)
        background.append(length[opaque & ~moves])
        dynamic.append(length[opaque & moves])
        rows.append(
            {
                "frame": frame,
                "vr_median": _quantile(length[opaque], 0.5),
                "vr_p99": _quantile(length[opaque], 0.99),
                "background_median": _quantile(background[-1], 0.5),
                "dynamic_median": _quantile(dynamic[-1], 0.5),
                "saturated_share": float(np.mean(length > 0.99 * LARGEST_PIXELS)),
                "hole_share": float(np.mean(~opaque)),
            }
        )
    return {
        "frames": rows,
        "background_median": _quantile(np.concatenate(background), 0.5),
        "background_p95": _quantile(np.concatenate(background), 0.95),
        "dynamic_median": _quantile(np.concatenate(dynamic), 0.5),
        "background_is": "all that is drawn but hulls of boxes faster than 1 m/s",
    }


def _boxes(log: Log, scene: ClipScene, target: Target, camera: Camera, frame: int) -> np.ndarray:
    """Mask [H, W] (bool) the hulls of what moves in a frame, as a camera of the target's pose and size sees them."""
    number = scene.clip.start + frame
    if not has_boxes(log, number):
        return np.zeros((scene.size[1], scene.size[0]), bool)
    poses = camera.camera_to_world.copy()
    viewmat = target.viewmat.cpu().numpy().astype(np.float64)
    poses[number] = log.ego_to_world[scene.clip.start] @ np.linalg.inv(viewmat)
    virtual = replace(camera, K=target.K.cpu().numpy().astype(np.float64), camera_to_world=poses)
    return box_mask(virtual, number, steps(log, number), *scene.size)


def _quantile(values: np.ndarray, share: float) -> float | None:
    return float(np.quantile(values, share)) if len(values) else None


def by_direction(flow: np.ndarray) -> np.ndarray:
    """Draw image velocities [H, W, 2] as [H, W, 3] uint8: direction as hue, length as brightness."""
    hue = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * math.pi)) % 1.0
    table = np.array([colorsys.hsv_to_rgb(index / 256, 1.0, 1.0) for index in range(256)])
    bright = np.clip(np.linalg.norm(flow, axis=-1) / LARGEST_PIXELS, 0, 1)[..., None]
    return (255 * table[(hue * 255).astype(np.int64)] * bright).round().astype(np.uint8)


if __name__ == "__main__":
    run(main)
