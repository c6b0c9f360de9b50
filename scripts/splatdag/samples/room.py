"""Makes the sample capture: photos of a ray-traced room with the exact cameras."""

import hashlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

from splatdag.samples import raytrace
from splatdag.samples.options import RoomOptions
from splatdag.samples.photography import developed, jpeg, look_at
from splatdag.samples.raytrace import Scene
from splatdag.samples.scene import assemble, furnish
from splatdag.workflow.publish import filled_folder, write_bytes, write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)

FIELD_OF_VIEW = 63.0  # degrees across, before distortion
RADIAL = -0.06  # k of SIMPLE_RADIAL
ARC = 220.0  # degrees walked around the table, facing its south side
HEIGHTS = (1.20, 1.65)  # metres, one pass each
PATH = (1.80, 1.45)  # metres, half axes of the ellipse walked
AIM = (0.0, 0.02, 0.80)
EXPOSURE_SPREAD = 0.02  # photos are at most this much too dark or too bright
SENSOR_NOISE = 0.6 / 255


@dataclass(frozen=True)
class Photo:
    """One photo's name, exposure gain (on linear radiance) and 4×4 pose in metres, OpenCV axes."""

    name: str
    exposure: float
    world_to_camera: np.ndarray


@dataclass(frozen=True)
class Lens:
    """A SIMPLE_RADIAL camera: pixels, the first pixel's centre at (0.5, 0.5)."""

    width: int
    height: int

    @property
    def focal(self) -> float:
        return 0.5 * self.width / np.tan(np.radians(FIELD_OF_VIEW) / 2)


def make_room(out: Path, width: int = 320, height: int = 240, photos: int = 36, seed: int = 0) -> None:
    """Write `images/IMG_0001.jpg` …, `cameras.json` (the truth) and, last, `sample.json` (SHA-256 sums).

    The same arguments give the same bytes, whatever the number of threads. A folder without `sample.json` is
    unfinished. Raises ValueError when the photos would be smaller than 16 × 16 or fewer than 2.
    """
    if min(width, height) < 16 or photos < 2:
        raise ValueError(f"photos: {photos} of {width} x {height}; expected at least 2 of 16 x 16")
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "sample.json").unlink(missing_ok=True)
    for stale in (out / "images").glob("*IMG_*.jpg*"):
        stale.unlink()

    logger.info("building the room")
    scene = assemble(furnish(np.random.default_rng([seed, 0])))
    lens = Lens(width, height)
    shots = list(walk(photos, seed))
    digests = _take_photos(out / "images", scene, lens, shots, seed)

    write_json(out / "cameras.json", describe(lens, shots))
    settings = {"width": width, "height": height, "photos": photos, "seed": seed}
    write_json(out / "sample.json", {"settings": settings, "photos": digests})


def walk(photos: int, seed: int) -> Iterator[Photo]:
    """The poses: along an arc around the table at one height, back at another, by hand."""
    rng = np.random.default_rng([seed, 1])
    first = (photos + 1) // 2
    there, back = np.linspace(-0.5, 0.5, first), np.linspace(0.48, -0.48, photos - first)
    sweep = np.radians(ARC) * np.concatenate([there, back])
    for number, angle in enumerate(sweep - np.pi / 2):
        eye = np.array([PATH[0] * np.cos(angle), PATH[1] * np.sin(angle), HEIGHTS[number >= first]])
        eye += rng.normal(0, 0.02, 3)
        aim = AIM + rng.normal(0, 0.04, 3)
        pose = look_at(eye, aim, (0.0, 0.0, 1.0), rng.normal(0, np.radians(1.0)))
        exposure = 1 + EXPOSURE_SPREAD * rng.uniform(-1, 1)
        yield Photo(f"IMG_{number + 1:04d}.jpg", float(exposure), pose)


def develop(scene: Scene, lens: Lens, photo: Photo, rng: np.random.Generator | None = None) -> np.ndarray:
    """One photo (H, W, 3) in 8-bit sRGB; with sensor noise when given a generator."""
    linear = np.empty((lens.height, lens.width, 3), np.float32)
    camera_to_world = np.linalg.inv(photo.world_to_camera)
    raytrace.render(scene, camera_to_world, lens.focal, 0.5 * lens.width, 0.5 * lens.height, RADIAL, linear)
    return developed(linear, photo.exposure, SENSOR_NOISE, rng)


def describe(lens: Lens, shots: list[Photo]) -> dict[str, Any]:
    """The content of `cameras.json`."""
    return {
        "model": "SIMPLE_RADIAL",
        "width": lens.width,
        "height": lens.height,
        "fx": lens.focal,
        "fy": lens.focal,
        "cx": 0.5 * lens.width,
        "cy": 0.5 * lens.height,
        "distortion": [RADIAL],
        "conventions": "metres; world z up; camera x right, y down, z forward; "
        "first pixel centre at (0.5, 0.5); distorted = undistorted * (1 + k r^2); "
        "exposure multiplies linear radiance",
        "photos": [
            {"name": shot.name, "exposure": shot.exposure, "world_to_camera": shot.world_to_camera.tolist()}
            for shot in shots
        ],
    }


def _take_photos(folder: Path, scene: Scene, lens: Lens, shots: list[Photo], seed: int) -> dict[str, str]:
    """Render and write every photo; returns name → SHA-256."""

    def take(number: int) -> str:
        pixels = develop(scene, lens, shots[number], np.random.default_rng([seed, 2, number]))
        data = jpeg(pixels)
        write_bytes(folder / shots[number].name, data)
        return hashlib.sha256(data).hexdigest()

    digests = {}
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        for number, digest in enumerate(pool.map(take, range(len(shots))), start=1):
            digests[shots[number - 1].name] = digest
            if number % 10 == 0 or number == len(shots):
                logger.info("photo %d of %d", number, len(shots))
    return digests


def main(out: Path, options: RoomOptions, job: Job) -> None:
    """Make the sample capture: photos of a ray-traced room, with the exact cameras.

    Args:
        out: folder to fill with images/, cameras.json and sample.json.
        options: how many photos, and how large.
        job: how to run.
    """
    numba.set_num_threads(min(job.threads, numba.config.NUMBA_NUM_THREADS))
    with filled_folder(out) as folder:
        make_room(folder, width=options.width, height=options.height, photos=options.photos, seed=options.seed)


if __name__ == "__main__":
    run(main)
