"""Check of a clip's voxels: the number of its points in the network's grid, and of the voxels that they occupy."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from splatdag.driving import pictures
from splatdag.driving.clips.clips import clip_at
from splatdag.driving.clips.initial_gaussians import begin
from splatdag.driving.clips.lift import lift
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.network.voxels import Grid, voxelised
from splatdag.driving.network_options import VoxelizationOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)
FEATURES = 16
"""Number of the network's inputs of a point: its 14 numbers, its time, and whether it is of the backdrop."""


def main(
    index_path: Path, data_root: Path, out_json: Path, out_dir: Path, options: VoxelizationOptions, job: Job
) -> None:
    """Sort the points of a clip into voxels, count them and draw a map.

    Args:
        index_path: index of clips.
        data_root: folder of the logs.
        out_json: file for the counts.
        out_dir: folder for bev_xy.png.
        options: which clip, how many points, and which grid.
        job: how to run.
    """
    torch.set_num_threads(job.threads)
    clip = clip_at(index_path, options.clip_index)
    log = Log(data_root / clip.scene_id)
    for frame in clip.inputs:
        if reason := log.reason_against(clip.start + frame, clip.cameras):
            raise UserError(f"{log.folder}: frame {clip.start + frame}: {reason}")
    lifted = {clip.start + f: lift(log, clip.start + f, clip.cameras, workers=job.threads) for f in clip.inputs}
    gaussians = begin(log, clip, lifted, options)
    grid = Grid.of(options.point_cloud_range, options.voxel_size)
    voxels = voxelised(gaussians.means, grid, 1)
    count = len(voxels.pyramid[0].coordinates)
    points = gaussians.means[~gaussians.backdrop].numpy()
    pictures.write_png(
        out_dir / "bev_xy.png", pictures.birds_eye(points, points[:, 2], pictures.around(options.plot_window_m))
    )
    facts = {
        "index_path": str(index_path),
        "data_root": str(data_root),
        "clip_index": options.clip_index,
        "ego0_frame_index": 0,
        "clip_id": clip.clip_id,
        "num_points": len(gaussians),
        "num_valid_points": len(voxels.rows),
        "num_voxels": count,
        "feature_dim": FEATURES,
        "voxel_shape_xyz": list(grid.shape),
        "valid_ratio": len(voxels.rows) / len(gaussians),
        "num_lidar_points": len(points),
        "valid_ratio_lidar": len(voxels.rows) / max(1, len(points)),
        "points_per_voxel": len(voxels.rows) / max(1, count),
    }
    write_json(out_json, facts)
    logger.info("%s: %d of %d lidar points in %d voxels", clip.clip_id, len(voxels.rows), len(points), count)


if __name__ == "__main__":
    run(main)
