"""Structure from motion and triangulation with pycolmap, repeatable bit for bit."""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap

from splatdag.captures.options import PoseOptions
from splatdag.formats.images import read_header, read_mask, read_pixels, text
from splatdag.formats.photoset import PhotoSet
from splatdag.workflow.errors import Stopped, UserError
from splatdag.workflow.publish import check_room

logger = logging.getLogger(__name__)
_EXHAUSTIVE_UP_TO = 200
"""Photos up to which `auto` matches all pairs; the number of pairs grows with the square."""
_DATABASE_BYTES = 1 << 16
"""Room (bytes) that COLMAP's database needs at least; SQLite frees the room that it had when it fails."""
_LEAST_SIDE = 32
"""Longest side of a photo (pixels) below which SIFT finds nothing that could be matched."""


def structure_from_motion(photos: PhotoSet, work: Path, options: PoseOptions, threads: int) -> pycolmap.Reconstruction:
    """Run features, matches and incremental mapping; returns the model with the most photos.

    Photos of one folder and size share a camera; pixels that a mask excludes or that are transparent have no features.

    Args:
        photos: the capture's.
        work: folder to work in; it is made anew, and removed in the end.
        options: of structure from motion.
        threads: CPU threads to use.

    Raises:
        UserError: no photos could be placed, or a mask does not fit.
    """
    with _working_in(work):
        groups = _groups(photos, threads)
        largest = max((size for _, size in groups), key=max)
        if max(largest) < _LEAST_SIDE:
            raise UserError(f"{photos.folder}: photos of {text(largest)} pixels are too small to find cameras from")
        database = _database(photos.folder, work, options, groups)
        _match(database, photos, work, options, threads, groups)
        # One thread: with more the same seed gives another model each time.
        mapping = pycolmap.IncrementalPipelineOptions(num_threads=1, random_seed=options.seed)
        models = _step("mapping", "from the best pair on", pycolmap.incremental_mapping)(
            database, photos.folder, work, options=mapping
        )
    if not models:
        raise UserError(f"no two of the {len(photos.names)} photos could be placed together; {ADVICE}")
    return max(models.values(), key=lambda model: (model.num_reg_images(), model.num_points3D()))


def triangulated(
    posed: pycolmap.Reconstruction, photos: PhotoSet, work: Path, options: PoseOptions, threads: int
) -> pycolmap.Reconstruction:
    """Triangulate points for a model that has only cameras, which stay as they are; see `structure_from_motion`."""
    groups: dict[Any, list[str]] = {}
    for image in sorted(posed.images.values(), key=lambda image: image.name):
        groups.setdefault(image.camera_id, []).append(image.name)
    with _working_in(work):
        database = _database(photos.folder, work, options, groups)
        model = _with_ids_of(posed, database)
        _match(database, photos, work, options, threads, groups)
        (work / "model").mkdir()
        settings = pycolmap.IncrementalPipelineOptions(num_threads=1, random_seed=options.seed)
        model = _step("points", "triangulated between the given cameras", pycolmap.triangulate_points)(
            model, database, photos.folder, work / "model", options=settings
        )
    if not model.num_points3D():
        raise UserError(f"{photos.data_dir}: no points could be triangulated: the cameras do not fit the photos")
    return model


@contextlib.contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Remove the folder in the end, also after an error; errors of pycolmap become one line."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        check_room(folder, folder, _DATABASE_BYTES)  # COLMAP does not say so
        raise UserError(f"structure from motion failed in {folder}: {' '.join(str(error).split())[-300:]}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _groups(photos: PhotoSet, threads: int) -> dict[Any, list[str]]:
    """Group photos that share a camera: one folder and size. All are decoded, so that a damaged one is known now."""
    with ThreadPoolExecutor(threads) as pool:
        sizes = pool.map(lambda name: read_pixels(photos.folder / name).size, photos.names)
        groups: dict[Any, list[str]] = {}
        for name, size in zip(photos.names, sizes, strict=True):
            groups.setdefault((name.rpartition("/")[0], size), []).append(name)
    return groups


def _database(folder: Path, work: Path, options: PoseOptions, groups: dict[Any, list[str]]) -> Path:
    """Make a new database with all photos, those of a group with one camera.

    All are entered in name order first, else those whose features are found first get the lower ids.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR
    pycolmap.logging.alsologtostderr = False
    pycolmap.set_random_seed(options.seed)
    database = work / "database.db"
    pycolmap.Database.open(database).close()
    reader = pycolmap.ImageReaderOptions(camera_model=options.camera_model)
    for group in groups.values():
        pycolmap.import_images(
            database,
            folder,
            options=reader,
            camera_mode=pycolmap.CameraMode.SINGLE,
            image_names=group,
        )
    return database


def _match(
    database: Path, photos: PhotoSet, work: Path, options: PoseOptions, threads: int, groups: dict[Any, list[str]]
) -> None:
    """Extract features of all photos into a database, and match and verify them."""
    names = sorted(name for group in groups.values() for name in group)
    exhaustive = options.matching == "exhaustive" or (options.matching == "auto" and len(names) <= _EXHAUSTIVE_UP_TO)
    extraction = pycolmap.FeatureExtractionOptions(
        num_threads=threads, max_image_size=options.max_image_size, use_gpu=False
    )
    extraction.sift.max_num_features = options.max_num_features
    reader = pycolmap.ImageReaderOptions(camera_model=options.camera_model)
    masks = _stage_masks(photos, names, work / "masks")
    if masks is not None:
        reader.mask_path = masks
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = options.seed  # else each thread has a generator, and any pair may get either
    _step("features", f"{len(names)} photos", pycolmap.extract_features)(
        database,
        photos.folder,
        image_names=names,
        camera_mode=pycolmap.CameraMode.PER_FOLDER,
        reader_options=reader,
        extraction_options=extraction,
        device=pycolmap.Device.cpu,
    )
    match = pycolmap.match_exhaustive if exhaustive else pycolmap.match_sequential
    _step("matches", "all pairs" if exhaustive else "neighbours in name order", match)(
        database,
        matching_options=pycolmap.FeatureMatchingOptions(num_threads=threads, use_gpu=False),
        verification_options=verification,
        device=pycolmap.Device.cpu,
    )


def _with_ids_of(posed: pycolmap.Reconstruction, database: Path) -> pycolmap.Reconstruction:
    """Copy cameras under the ids that a database gave the photos; its own guesses at cameras are replaced."""
    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as known:
        for entry in sorted(known.read_all_images(), key=lambda image: image.image_id):
            image = posed.find_image_with_name(entry.name)
            if entry.camera_id not in model.cameras:
                camera = copy.copy(posed.cameras[image.camera_id])
                camera.camera_id = entry.camera_id
                known.update_camera(camera)
                model.add_camera_with_trivial_rig(camera)
            placed = pycolmap.Image(name=entry.name, camera_id=entry.camera_id, image_id=entry.image_id)
            model.add_image_with_trivial_frame(placed, image.cam_from_world())
    return model


def _stage_masks(photos: PhotoSet, names: list[str], folder: Path) -> Path | None:
    """Write masks under the names that COLMAP wants, black and white; None where there is nothing to mask.

    Pixels that are transparent have no colour that anybody saw, so they are masked, too.
    """
    plain = []
    for name in names:
        counts = None
        if name in photos.masks or Path(name).suffix.lower() in {".png", ".tif", ".tiff"}:
            pixels = read_pixels(photos.folder / name)
            counts = None if pixels.alpha is None else pixels.alpha > 127
            if name in photos.masks:
                mask = read_mask(photos.masks[name], pixels.size, name)
                counts = mask if counts is None else mask & counts
        if counts is None:
            plain.append(name)
        else:
            _write_mask(folder / f"{name}.png", counts)
    if len(plain) == len(names):
        return None
    for name in plain:  # COLMAP leaves out photos without a mask as soon as it is given a folder of them
        _write_mask(folder / f"{name}.png", np.ones(read_header(photos.folder / name).size[::-1], bool))
    return folder


def _write_mask(path: Path, counts: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), counts.astype(np.uint8) * 255):
        raise OSError(errno.EIO, "can't be written", str(path))


ADVICE = (
    "try more photos with at least 60 % overlap, sharp and textured, from moving places (not turning in one);"
    " or pose.matching: exhaustive, pose.max_num_features: 16384"
)


def _step(name: str, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `function` so that its time is logged and SIGTERM cancels it."""

    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.monotonic()
        token = pycolmap.CancellationToken()
        # Nothing is raised from the handler: whatever Python does at that moment, the thread must be joined.
        former = signal.signal(signal.SIGTERM, lambda number, frame: token.cancel())
        value = None
        try:
            logger.info("%s: %s", name, what)
            with ThreadPoolExecutor(1) as pool, contextlib.suppress(InterruptedError):
                value = pool.submit(function, *args, cancellation_token=token, **kwargs).result()
        finally:
            signal.signal(signal.SIGTERM, former)
        if token.is_cancelled:
            raise Stopped("told to stop (SIGTERM); nothing was published, run the same command again")
        logger.info("%s: %.1f s", name, time.monotonic() - begin)
        return value

    return timed
