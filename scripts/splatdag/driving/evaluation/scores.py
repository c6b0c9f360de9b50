"""Scores of an evaluation: a row for each image and for each pair of frames, and `metrics.json` from all of them.

Rows are plain JSON, so that each log can be measured by a job of its own. `metrics.json` has the keys of the
reproduction's `eval_stage6.py`, of the types and in the places that they had there, and ours beside them under other
names. Null stands where there is nothing to measure, for which the reproduction wrote 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from splatdag.driving.evaluation.scene_flow import BACKGROUND, BUCKET, DYNAMIC_SPEED, LAST, SHORTEST_FLOW
from splatdag.splats.metrics import is_measurable, psnr, ssim
from splatdag.workflow.errors import UserError

Row = dict[str, Any]
Kind = Literal["interpolation", "future", "input"]
MEASURES = ("psnr", "ssim", "depth_rmse")
FLOW_MEASURES = ("epe3d", "acc5", "acc10", "theta_e", "v_rmse_mps")
IMAGE_BASELINES = ("mean_colour", "mean_depth", "init_only")
"""Baselines beside a model's image: mean colour and mean depth of the input images, and the initial Gaussians."""
_NOVEL = ("interpolation", "future")
_LARGEST_PSNR = 100.0
"""PSNR (dB) of images that are equal: JSON has no infinity."""
_PAIR_MEASURES = ("epe3d", "acc5", "acc10", "theta_e", "epe_3way", "epe_3way_count", "points", "v_rmse_mps")
_CLASSES = {
    **dict.fromkeys(("Car", "Pickup Truck", "Medium-sized Truck", "Semi-truck", "Bus"), "vehicle"),
    **dict.fromkeys(("Bicycle", "Motorcycle", "Personal Mobility Device"), "cyclist"),
    "Pedestrian": "pedestrian",
    BACKGROUND: BACKGROUND,
}
"""The reproduction's class of a label; any other is `other`."""
_CLASS_NAMES = (BACKGROUND, "vehicle", "pedestrian", "cyclist", "other")
_DEFINITIONS = {
    "epe_3way": f"BS background, FS and FD points in boxes, FD those faster than {DYNAMIC_SPEED:g} m/s",
    "epe_3way_average": "mean of BS, FS and FD",
    "bucketed_nepe": f"mean over points of error / max(length of the true flow, {SHORTEST_FLOW:g} m)",
    "bucket_normalized_epe": "mean error / mean length of the true flow in each bucket of speeds, averaged over those"
    " of a label, then over labels; the first bucket is static",
}


@dataclass(frozen=True)
class Rendered:
    """Colour and depth of one view, as a model or a trivial answer has them."""

    rgb: Tensor | None
    """[H, W, 3]."""
    depth: Tensor | None
    """[H, W] expected depth, metres; 0 where nothing that was measured is drawn, which counts as being there."""


@dataclass(frozen=True)
class GroundTruth:
    """Recorded image and depths of one view."""

    rgb: Tensor
    """[H, W, 3] in 0 to 1."""
    depth: Tensor
    """[H, W] metres: the nearest return of the Pandar64 in each pixel, 0 where there is none."""
    dynamic: Tensor
    """[H, W] bool: the pixels that show what moves."""


def image_row(
    clip_id: str,
    scene: str,
    frame: int,
    kind: Kind,
    truth: GroundTruth,
    rendered: Rendered,
    baselines: dict[str, Rendered],
) -> Row:
    """Measure one image.

    Args:
        clip_id: of the index.
        scene: name of the log.
        frame: of the clip, from 0.
        kind: between two input frames, after them, or one of them.
        truth: what was recorded.
        rendered: what the model renders.
        baselines: answers to stand beside it, by `IMAGE_BASELINES`.

    Raises:
        UserError: an image or depth has values that are no numbers.
        ValueError: sizes differ.
    """
    scores = {}
    for name, answer in {"model": rendered, **baselines}.items():
        for values in (answer.rgb, answer.depth):
            if values is not None and not torch.isfinite(values).all():
                raise UserError(f"{clip_id}: frame {frame}: the image of {name} has values that are no numbers")
        scores[name] = _measured(answer, truth)
    about = {"clip_id": clip_id, "scene": scene, "frame": frame, "kind": kind}
    return about | scores.pop("model") | {"baselines": scores}


def _measured(rendered: Rendered, truth: GroundTruth) -> Row:
    moves = truth.dynamic
    row = _image_scores(rendered, truth, None) | {"dynamic": None}
    if moves.any():
        row["dynamic"] = {"pixels": int(moves.sum()), **_image_scores(rendered, truth, moves)}
    return row


def _image_scores(rendered: Rendered, truth: GroundTruth, mask: Tensor | None) -> Row:
    """Score all pixels of an image, or those of a mask [H, W]."""
    row: Row = dict.fromkeys(MEASURES)
    if rendered.rgb is not None:
        image = rendered.rgb.clamp(0, 1)
        row["psnr"] = min(psnr(image, truth.rgb, mask), _LARGEST_PSNR)
        row["ssim"] = ssim(image, truth.rgb, mask) if mask is None or is_measurable(mask) else None
    if rendered.depth is not None:
        hits = truth.depth > 0 if mask is None else (truth.depth > 0) & mask
        if hits.any():
            error = rendered.depth[hits].double() - truth.depth[hits].double()
            row["depth_rmse"] = float(error.square().mean().sqrt())
    return row


def summary(image_rows: list[Row], pair_rows: list[Row], meta: Row) -> Row:
    """Summarise the rows of all logs as `metrics.json` has them.

    `mean` has the figures that runs are compared by, `baseline` the trivial answers to each: an image of one colour, a
    constant depth, no motion.

    Args:
        image_rows: of `image_row`.
        pair_rows: {clip_id, scene_id, frame0, frame1, "model": `pair_row` of the model's flow, "zero_flow": that of
            zeros}.
        meta: what was evaluated; `dynamic_mask` of it is one of `dynamic_masks.DEFINITIONS`.
    """
    nvs, flow = _nvs(image_rows), _flow(pair_rows, "model")
    nvs_of = {name: _nvs([_baseline(row, name) for row in image_rows]) for name in IMAGE_BASELINES}
    no_flow = _flow(pair_rows, "zero_flow")
    colour, depth = (_means(nvs_of[name], no_flow) for name in ("mean_colour", "mean_depth"))
    clips = {row["clip_id"] for row in (*image_rows, *pair_rows)}
    return {
        "meta": meta | {"num_eval_clips": len(clips)},
        "mean": _means(nvs, flow),
        "baseline": {name: (depth if name.endswith("depth_rmse") else colour)[name] for name in colour},
        "nvs": nvs,
        "scene_flow": flow,
        "baselines": {
            **{name: {"nvs": part} for name, part in nvs_of.items()},
            "zero_flow": {"scene_flow": no_flow},
        },
    }


def _means(nvs: Row, flow: Row) -> Row:
    """Pick the figures that runs are compared by."""
    means = {name: nvs["full"][f"{name}_mean"] for name in MEASURES}
    means |= {f"dynamic_{name}": nvs["dynamic"][f"{name}_mean"] for name in MEASURES}
    return means | {"epe3d": flow["epe3d_mean"], "epe_fd": flow["epe_3way_mean"]["FD"]}


def _baseline(row: Row, name: str) -> Row:
    return {"kind": row["kind"], **row["baselines"][name]}


def _nvs(rows: list[Row]) -> Row:
    """Average over images: of all that were not given (full, dynamic), and by kind."""
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in (*_NOVEL, "input")}
    novel = [row for kind in _NOVEL for row in by_kind[kind]]
    return _areas(novel) | {kind: _areas(part) for kind, part in by_kind.items()}


def _areas(rows: list[Row]) -> Row:
    return {"full": _spread(rows), "dynamic": _spread([row["dynamic"] for row in rows if row["dynamic"]])}


def _spread(rows: list[Row]) -> Row:
    """Average over the rows that have a value, with standard deviations, and count all rows."""
    statistics: Row = {"count": len(rows)}
    for name in MEASURES:
        statistics[f"{name}_mean"] = _over(np.mean, (row[name] for row in rows))
        statistics[f"{name}_std"] = _over(np.std, (row[name] for row in rows))
    return statistics


def _over(statistic: Callable[[list[float]], Any], values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(statistic(numbers)) if numbers else None


def _flow(pair_rows: list[Row], method: str) -> Row:
    """Average over pairs; three-way and bucketed EPE are over the points of all pairs."""
    rows = [row[method] for row in pair_rows]
    counts = {part: sum(row["epe_3way_count"][part] for row in rows) for part in ("BS", "FS", "FD")}
    means = {part: _weighted(rows, part, count) for part, count in counts.items()}
    buckets = [bucket for row in rows for bucket in row["buckets"]]
    return {
        **{f"{name}_mean": _over(np.mean, (row[name] for row in rows)) for name in FLOW_MEASURES},
        "count": len(rows),
        "epe_3way_mean": means,
        "epe_3way_count": counts,
        "epe_3way_average": _over(np.mean, means.values()),
        **_by_class(buckets),
        "bucket_normalized_epe": _bucket_normalized(buckets),
        "definitions": _DEFINITIONS,
        "per_pair": [
            {name: row[name] for name in ("clip_id", "scene_id", "frame0", "frame1")}
            | {name: row[method][name] for name in _PAIR_MEASURES}
            for row in pair_rows
        ],
    }


def _weighted(rows: list[Row], part: str, count: int) -> float | None:
    """Average the EPE of a part of the points over the points of all rows."""
    sums = (row["epe_3way_count"][part] * row["epe_3way"][part] for row in rows if row["epe_3way_count"][part])
    return sum(sums) / count if count else None


def _by_class(buckets: list[Row]) -> Row:
    """Average each point's error over the length of its flow, by the reproduction's classes."""
    sums = {name: np.zeros(2) for name in _CLASS_NAMES}
    for bucket in buckets:
        sums[_CLASSES.get(bucket["label"], "other")] += bucket["points"], bucket["error_over_flow"]
    return {
        "bucketed_nepe_mean": {
            name: float(error / points) if points else None for name, (points, error) in sums.items()
        },
        "bucketed_nepe_count": {name: int(points) for name, (points, _) in sums.items()},
    }


def _bucket_normalized(buckets: list[Row]) -> Row:
    """Average the mean error over mean speed of each bucket over a label's, then over labels.

    The first bucket of speeds is static: its EPE (m) stands apart.
    """
    sums: dict[tuple[str, int], np.ndarray] = {}
    for row in buckets:
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
        "mean": _over(np.mean, (label["dynamic_nepe"] for label in labels.values())),
        "buckets": sum(label["dynamic_buckets"] for label in labels.values()),
        "labels": labels,
        "bucket_mps": BUCKET,
        "static_below_mps": BUCKET,
        "one_above_mps": BUCKET * LAST,
    }
