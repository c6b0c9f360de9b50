"""Benchmark of recording: novel views of 8 cameras × 150 frames of 640×940, beside writing the same pictures raw."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from splatdag.humans.record_nvs import record_nvs
from splatdag.humans.results_tree import read_epoch
from splatdag.recording.images import frames_in, read_image
from splatdag.recording.options import RecordingOptions
from splatdag.samples import bodies
from splatdag.samples.humans import SHAPES, Clip, world_to_camera
from splatdag.samples.humans_options import HumansOptions

WIDTH, HEIGHT = 640, 940
EPOCH = "epoch_0010"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "scene" / "exp"
        _write_pictures(run / "evaluation" / EPOCH / "nvs", arguments.cameras, arguments.frames)
        out, raw = Path(folder) / "out.rrd", Path(folder) / "out.raw"
        epoch = read_epoch(run, "nvs", EPOCH, Path(folder))
        pairs = [
            (
                _timed(lambda: record_nvs(epoch, out, RecordingOptions(), arguments.threads)),
                _timed(lambda: _write_raw(run, raw)),
            )
            for _ in range(arguments.runs)
        ]
        pictures = arguments.cameras * arguments.frames
        size, raw_size = out.stat().st_size / 1e6, raw.stat().st_size / 1e6
    seconds, beside = (statistics.median(times) for times in zip(*pairs, strict=True))
    print("| recording | pictures/s | s | MB | raw images MB | ratio | decoding and writing them raw, one thread, s |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {arguments.cameras} cameras × {arguments.frames} frames, prediction \\| ground truth |"
        f" {pictures / seconds:.0f} | {seconds:.1f} | {size:.1f} | {raw_size:.0f} | {raw_size / size:.0f} |"
        f" {beside:.1f} |"
    )


def _write_pictures(folder: Path, cameras: int, frames: int) -> None:
    """People before black, with a fine texture so that they compress as photos do; prediction a little blurred."""
    clip = Clip(HumansOptions(frames=max(2, frames), width=WIDTH, height=HEIGHT))
    texture = np.random.default_rng(0).normal(0, 10, (HEIGHT, WIDTH, 3))
    for camera in range(cameras):
        places = [folder / side / f"cam_{camera}" / "metrics_input" for side in ("pred", "gt_inputs")]
        for place in places:
            place.mkdir(parents=True)
        for frame in range(frames):
            image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            meshes = clip.meshes(clip.poses(frame))
            bodies.draw(image, meshes, list(SHAPES), clip.K(), world_to_camera(360 * camera / cameras))
            image = np.where(image > 0, np.clip(image + texture, 0, 255), 0).astype(np.uint8)
            for place, picture in zip(places, (cv2.GaussianBlur(image, (0, 0), 1.0), image), strict=True):
                cv2.imwrite(str(place / f"{frame + 1:06d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])


def _write_raw(run: Path, out: Path) -> None:
    with out.open("wb") as file:
        for camera in sorted((run / "evaluation" / EPOCH / "nvs").glob("*/cam_*/metrics_input")):
            for path in frames_in(camera).values():
                file.write(read_image(path))


def _timed(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
