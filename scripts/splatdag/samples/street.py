"""Makes the sample logs: drives through ray-traced streets, in PandaSet's layout, with the truth beside them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numba
import numpy as np

from splatdag.samples import street_sensors as sensors
from splatdag.samples.options import SEQUENCES, StreetOptions
from splatdag.samples.street_boxes import cuboids, identities
from splatdag.samples.street_files import gps, listed, write_table
from splatdag.samples.street_recording import camera_pose, image, sweep
from splatdag.samples.street_scene import CLASSES, Materials, World, build
from splatdag.samples.street_truth import write_truth
from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import complete_folder, filled_folder, write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)

START = 1_557_539_924.5
"""Seconds since 1970 at the first frame of the first log; each log begins ten minutes after the one before."""


def make_street(out: Path, options: StreetOptions, threads: int = 2) -> None:
    """Write a folder of logs `001`, `002` …, what is known of them in `truth`, and, last, `sample.json`.

    The same options give the same bytes, whatever the number of threads.

    Raises:
        UserError: `out` has logs that are not samples.
    """
    names = SEQUENCES[: options.logs]
    _make_room(out, names)
    materials = Materials(np.random.default_rng([options.seed, 0]))
    for number, name in enumerate(names):
        world = world_of(options, number, materials)
        with complete_folder(out / name) as log, complete_folder(out / "truth" / name) as truth:
            recorder = _Recorder(world, log, truth, options, number)
            recorder.write_lists()
            with ThreadPoolExecutor(threads) as pool:
                for done in [pool.submit(job) for job in recorder.jobs()]:
                    done.result()
        logger.info("log %s: %d frames, %d things move", name, options.frames, len(world.bodies) - 1)
    write_json(out / "sample.json", {"settings": options.model_dump(mode="json"), "logs": list(names)})


def world_of(options: StreetOptions, number: int, materials: Materials) -> World:
    """Build the world that log `number`, from 0, is recorded from."""
    rng = np.random.default_rng([options.seed, 1, number])
    return build(rng, materials, options.frames * sensors.PERIOD, turns=number % 3 == 1)


def _make_room(out: Path, names: tuple[str, ...]) -> None:
    """Remove what an earlier run left."""
    there = [path for path in out.glob("[!.]*") if (path / "lidar").is_dir()]
    foreign = [path.name for path in there if not (out / "truth" / path.name).is_dir()]
    if foreign:
        raise UserError(f"{out}: has log {foreign[0]}, which is no sample; choose another folder")
    (out / "sample.json").unlink(missing_ok=True)
    for path in there:
        if path.name not in names:
            shutil.rmtree(path)
            shutil.rmtree(out / "truth" / path.name)


class _Recorder:
    """Writes one log."""

    def __init__(self, world: World, log: Path, truth: Path, options: StreetOptions, number: int) -> None:
        self.world, self.log, self.truth, self.options, self.number = world, log, truth, options, number
        self.start = START + 600 * number
        self.times = sensors.PERIOD * np.arange(options.frames)
        self.semseg = options.semseg == "all" or (options.semseg == "some" and number % 2 == 0)
        self.ids = identities(np.random.default_rng([options.seed, 4, number]), len(world.things))
        self.packed = options.packed == "all" or (options.packed == "some" and number % 2 == 0)

    def write_lists(self) -> None:
        """Write poses, times and calibration; makes all folders."""
        log, ego, size = self.log, self.world.ego, self.options.size
        at = (self.start + self.times).tolist()
        write_json(log / "meta" / "timestamps.json", at)
        write_json(log / "meta" / "gps.json", gps(ego.poses(self.times), ego.velocities(self.times)))
        write_json(log / "lidar" / "timestamps.json", at)
        write_json(log / "lidar" / "poses.json", listed(sensors.to_world(ego.poses(self.times))))
        for name in self.options.cameras:
            camera, folder = sensors.CAMERAS[name], log / "camera" / name
            times = self.times + camera.offset
            write_json(folder / "timestamps.json", (self.start + times).tolist())
            write_json(folder / "poses.json", listed(camera_pose(self.world, camera, times)))
            write_json(folder / "intrinsics.json", camera.intrinsics(*size))
        (log / "annotations" / "cuboids").mkdir(parents=True)
        if self.semseg:
            classes = {str(number): name for number, name in enumerate(CLASSES, start=1)}
            write_json(log / "annotations" / "semseg" / "classes.json", classes)
        write_truth(self.truth, self.world, self.ids, self.start)

    def jobs(self) -> Iterator[Callable[[], None]]:
        """List the jobs, one for each file or table of a frame; they may run in any order, in any thread."""
        for frame in range(self.options.frames):
            yield partial(self._tables, frame)
            for number, name in enumerate(self.options.cameras):
                yield partial(self._image, frame, number, name)

    def _image(self, frame: int, number: int, name: str) -> None:
        rng = np.random.default_rng([self.options.seed, 2, self.number, frame, number])
        data = image(self.world, sensors.CAMERAS[name], self.times[frame], self.options.size, rng)
        (self.log / "camera" / name / f"{frame:02d}.jpg").write_bytes(data)

    def _tables(self, frame: int) -> None:
        rng = np.random.default_rng([self.options.seed, 3, self.number, frame])
        found = sweep(self.world, self.times[frame], self.options.points, rng)
        x, y, z = found.xyz.T
        columns = {"x": x, "y": y, "z": z, "i": found.intensities, "t": self.start + found.times, "d": found.sensors}
        annotations = self.log / "annotations"
        write_table(self.log / "lidar" / f"{frame:02d}", columns, self.packed)
        boxes = cuboids(self.world, self.ids, self.times[frame])
        write_table(annotations / "cuboids" / f"{frame:02d}", boxes, self.packed)
        if self.semseg:
            write_table(annotations / "semseg" / f"{frame:02d}", {"class": found.classes}, self.packed)
        np.save(self.truth / f"{frame:02d}.npy", found.things)


def main(out: Path, options: StreetOptions, job: Job) -> None:
    """Make the sample logs: drives in PandaSet's layout, with everything that moves known exactly.

    Args:
        out: folder to fill with logs, truth/ and sample.json.
        options: how many logs, how long, and how large.
        job: how to run.
    """
    with filled_folder(out) as folder:
        make_street(folder, options, min(job.threads, numba.config.NUMBA_NUM_THREADS))


if __name__ == "__main__":
    run(main)
