"""Lift the frames of a log that clips of an index need, and keep them for trainings."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from splatdag.driving.clips.clips import read_index
from splatdag.driving.clips.lift import sensors_of
from splatdag.driving.clips.lift_cache import cached_at, lifted
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.options import LiftOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)


def main(
    index_path: Path, data_root: Path, scene: str, folder: Path, receipt: Path, options: LiftOptions, job: Job
) -> None:
    """Lift all input and target frames of one log; what can't be lifted is named in the receipt.

    Args:
        index_path: index of clips.
        data_root: folder of the logs.
        scene: the log.
        folder: of the cache, see `lift_cache`.
        receipt: JSON file to write last: which frames are kept, and which are not and why.
        options: whose points.
        job: how to run.
    """
    sensors = sensors_of(options.lidar_sensor_id)
    clips = [clip for clip in read_index(index_path) if clip.scene_id == scene]
    if not clips:  # the index says why; one log that can't be used costs no training
        write_json(receipt, {"log": scene, "sensors": list(sensors), "frames": [], "left_out": []})
        return
    log = Log(data_root / scene)
    wanted = sorted({(clip.start + frame, clip.cameras) for clip in clips for frame in (*clip.inputs, *clip.targets)})

    def kept(given: tuple[int, tuple[str, ...]]) -> int | UserError:
        frame, cameras = given
        try:
            if reason := log.reason_against(frame, cameras):
                raise UserError(f"{log.folder}: frame {frame}: {reason}")
            return len(lifted(log, frame, cameras, sensors, folder=folder).points)
        except UserError as error:
            return error

    with ThreadPoolExecutor(job.threads) as pool:
        found = dict(zip(wanted, pool.map(kept, wanted), strict=True))
    points = {given: count for given, count in found.items() if isinstance(count, int)}
    errors = {frame: str(error) for (frame, _), error in found.items() if isinstance(error, UserError)}
    for reason in errors.values():
        logger.warning("left out: %s", reason)
    files = [cached_at(folder, log, frame, cameras, sensors) for frame, cameras in points]
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    write_json(
        receipt,
        {"log": scene, "sensors": list(sensors), "cameras": sorted({name for _, cameras in points for name in cameras})}
        | {"frames": sorted({frame for frame, _ in points}), "points": sum(points.values()), "size_mb": size_mb}
        | {"folders": sorted({str(path.parent.relative_to(folder)) for path in files})}
        | {"left_out": [{"frame": frame, "reason": reason} for frame, reason in errors.items()]},
    )
    logger.info("%s: %d frames, %d points, %.1f MB", scene, len(points), sum(points.values()), size_mb)


if __name__ == "__main__":
    run(main)
