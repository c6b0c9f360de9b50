"""What an evaluation says: a row for each image and for each pair of frames, and `metrics.json` from all of them.

Rows are plain JSON, so that each scene can be measured by a job of its own. The keys are those of the reproduction's
`eval_stage6.py` and more; where there is nothing to measure stands null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from splatdag.driving.evaluation.scene_flow import BUCKET, LAST
from splatdag.splats.metrics import is_measurable, psnr, ssim
from splatdag.workflow.errors import UserError

Row = dict[str, Any]
Kind = Literal["interpolation", "future", "input"]
MEASURES = ("psnr", "ssim", "depth_rmse")
FLOW_MEASURES = ("epe3d", "acc5", "acc10", "theta_e", "v_rmse_mps")
_NOVEL = ("interpolation", "future")
_LARGEST_PSNR = 100.0
"""dB, of images that are equal: JSON has no infinity."""


@dataclass(frozen=True)
class Shown:
    """What a model draws of one view."""

    rgb: Tensor
    """[H, W, 3]."""
    depth: Tensor
    """[H, W] expected depth, metres; 0 where nothing that was measured is drawn, which counts as being there."""


@dataclass(frozen=True)
class Seen:
    """What was recorded of one view."""

    rgb: Tensor
    """[H, W, 3] in 0 to 1."""
    depth: Tensor
    """[H, W] metres: the nearest return of the Pandar64 in each pixel, 0 where there is none."""
    dynamic: Tensor
    """[H, W] bool: the pixels that show what moves."""


def image_row(
    clip_id: str, scene: str, frame: int, kind: Kind, seen: Seen, shown: Shown, start: Shown, mean_colour: Tensor
) -> Row:
    """Measure one image.

    Args:
        clip_id: of the index.
        scene: name of the log.
        frame: of the clip, from 0.
        kind: between two input frames, after them, or one of them.
        seen: what was recorded.
        shown: what the model draws.
        start: what is drawn of the Gaussians that the model began with.
        mean_colour: [3] of the clip's input images.

    Raises:
        UserError: what was drawn has values that are no numbers.
        ValueError: sizes differ.
    """
    flat = mean_colour.to(seen.rgb).expand_as(seen.rgb)
    named = {"model": (shown.rgb, shown.depth), "init_only": (start.rgb, start.depth), "mean_colour": (flat, None)}
    for name, (rgb, depth) in named.items():
        if not torch.isfinite(rgb).all() or (depth is not None and not torch.isfinite(depth).all()):
            raise UserError(f"{clip_id}: frame {frame}: the image of {name} has values that are no numbers")
    scores = {name: _measured(rgb, depth, seen) for name, (rgb, depth) in named.items()}
    about = {"clip_id": clip_id, "scene": scene, "frame": frame, "kind": kind}
    return about | scores.pop("model") | {"baselines": scores}


def _measured(rgb: Tensor, depth: Tensor | None, seen: Seen) -> Row:
    image, moves = rgb.clamp(0, 1), seen.dynamic
    row: Row = {
        "psnr": _psnr(image, seen.rgb, None),
        "ssim": ssim(image, seen.rgb),
        "depth_rmse": _depth_rmse(depth, seen.depth, seen.depth > 0),
        "dynamic": None,
    }
    if moves.any():
        row["dynamic"] = {
            "pixels": int(moves.sum()),
            "psnr": _psnr(image, seen.rgb, moves),
            "ssim": ssim(image, seen.rgb, moves) if is_measurable(moves) else None,
            "depth_rmse": _depth_rmse(depth, seen.depth, (seen.depth > 0) & moves),
        }
    return row


def _psnr(image: Tensor, target: Tensor, mask: Tensor | None) -> float:
    return min(psnr(image, target, mask), _LARGEST_PSNR)


def _depth_rmse(depth: Tensor | None, measured: Tensor, where: Tensor) -> float | None:
    if depth is None or not where.any():
        return None
    return float((depth[where].double() - measured[where].double()).square().mean().sqrt())


def summary(image_rows: list[Row], pair_rows: list[Row], meta: Row) -> Row:
    """`metrics.json` from the rows of all scenes.

    Args:
        image_rows: of `image_row`.
        pair_rows: {clip_id, scene, frame, "model": `pair_row` of the model's flow, "zero_flow": that of zeros}.
        meta: what was evaluated; `dynamic_mask` of it is one of `dynamic.DEFINITIONS`.
    """
    nvs = _nvs(image_rows)
    flat, first = ([_baseline(row, name) for row in image_rows] for name in ("mean_colour", "init_only"))
    mean_colour, flow = _nvs(flat), _flow(pair_rows, "model")
    mean = {name: nvs["full"][f"{name}_mean"] for name in MEASURES}
    mean |= {f"dynamic_{name}": nvs["dynamic"][f"{name}_mean"] for name in MEASURES}
    clips = {row["clip_id"] for row in (*image_rows, *pair_rows)}
    return {
        "meta": meta | {"num_eval_clips": len(clips)},
        "mean": mean | {"epe3d": flow["epe3d_mean"], "epe_fd": flow["epe_3way"]["FD"]["epe"]},
        "baseline": {name: mean_colour["full"][f"{name}_mean"] for name in ("psnr", "ssim")},
        "nvs": nvs,
        "scene_flow": flow,
        "baselines": {
            "mean_colour": {"nvs": mean_colour},
            "init_only": {"nvs": _nvs(first)},
            "zero_flow": {"scene_flow": _flow(pair_rows, "zero_flow")},
        },
    }


def _baseline(row: Row, name: str) -> Row:
    return {"kind": row["kind"], **row["baselines"][name]}


def _nvs(rows: list[Row]) -> Row:
    """Means over images: of all that were not given (full, dynamic), and by kind."""
    parts = {kind: [row for row in rows if row["kind"] == kind] for kind in (*_NOVEL, "input")}
    novel = [row for kind in _NOVEL for row in parts[kind]]
    return _areas(novel) | {kind: _areas(given) for kind, given in parts.items()}


def _areas(rows: list[Row]) -> Row:
    return {"full": _spread(rows), "dynamic": _spread([row["dynamic"] for row in rows if row["dynamic"]])}


def _spread(rows: list[Row]) -> Row:
    """Means and standard deviations over the rows that have a value, and how many rows there are."""
    found: Row = {"count": len(rows)}
    for name in MEASURES:
        found[f"{name}_mean"] = _over(np.mean, (row[name] for row in rows))
        found[f"{name}_std"] = _over(np.std, (row[name] for row in rows))
    return found


def _over(statistic: Callable[[list[float]], Any], values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(statistic(there)) if there else None


def _flow(pair_rows: list[Row], method: str) -> Row:
    """Means over pairs; three-way and bucketed EPE over the points of all pairs."""
    rows = [row[method] for row in pair_rows]
    ways = {kind: _way([row["epe_3way"][kind] for row in rows]) for kind in ("BS", "FS", "FD")}
    return {
        **{f"{name}_mean": _over(np.mean, (row[name] for row in rows)) for name in FLOW_MEASURES},
        "count": len(rows),
        "epe_3way_mean": _over(np.mean, (way["epe"] for way in ways.values())),
        "epe_3way_count": sum(way["points"] for way in ways.values()),
        "epe_3way": ways,
        **_bucketed([bucket for row in rows for bucket in row["buckets"]]),
        "per_pair": [
            {name: row[name] for name in ("clip_id", "scene", "frame")}
            | {name: value for name, value in row[method].items() if name != "buckets"}
            for row in pair_rows
        ],
    }


def _way(parts: list[Row]) -> Row:
    points = sum(part["points"] for part in parts)
    return {
        "points": points,
        "epe": sum(p["points"] * p["epe"] for p in parts if p["points"]) / points if points else None,
    }


def _bucketed(given: list[Row]) -> Row:
    """Bucket-normalised EPE: mean error over mean speed of each bucket, averaged over a label's, then over labels.

    The first bucket of speeds is static: its EPE (m) stands apart.
    """
    sums: dict[tuple[str, int], np.ndarray] = {}
    for row in given:
        key = (row["label"], row["bucket"])
        sums[key] = sums.get(key, np.zeros(3)) + np.array([row["points"], row["error_m"], row["flow_m"]])
    labels: dict[str, Row] = {}
    for label in sorted({label for label, _ in sums}):
        still = sums.get((label, 0))
        moving = [sums[key] for key in sorted(sums) if key[0] == label and key[1] > 0]
        labels[label] = {
            "static_epe": None if still is None else float(still[1] / still[0]),
            "static_points": 0 if still is None else int(still[0]),
            "dynamic_nepe": _over(np.mean, (float(error / flow) for _, error, flow in moving)),
            "dynamic_points": int(sum(points for points, _, _ in moving)),
            "dynamic_buckets": len(moving),
        }
    return {
        "bucketed_nepe_mean": _over(np.mean, (label["dynamic_nepe"] for label in labels.values())),
        "bucketed_nepe_count": sum(label["dynamic_buckets"] for label in labels.values()),
        "bucketed_nepe": labels,
        "bucketed_nepe_definition": {"bucket_mps": BUCKET, "static_below_mps": BUCKET, "one_above_mps": BUCKET * LAST},
    }
