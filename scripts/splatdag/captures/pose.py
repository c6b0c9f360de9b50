"""Find the cameras of a capture: structure from motion with pycolmap, or the COLMAP model that came with it."""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pycolmap
from PIL import Image

from splatdag.captures.model import read_model
from splatdag.captures.options import PoseOptions
from splatdag.workflow.errors import Stopped, UserError
from splatdag.workflow.inventory import check_photos, colmap_model, photo_names, photos_folder
from splatdag.workflow.publish import complete, write_json, write_text
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)
_EXHAUSTIVE_UP_TO = 200
"""Photos up to which `auto` matches all pairs; the number of pairs grows with the square."""
_MODEL_FILES = ("cameras.bin", "images.bin", "points3D.bin")
_NAMED = 20
"""Photos that a message names at most."""


def main(data_dir: Path, report: Path, options: PoseOptions, job: Job) -> None:
    """Find the cameras of a capture's photos, or check the COLMAP model that comes with them.

    Args:
        data_dir: folder of photos, or COLMAP dataset with `images/` and `sparse/`.
        report: `registration.json` to write; `registration.txt` and `sparse/0/` go beside it.
        options: of structure from motion.
        job: how to run.
    """
    begin = time.monotonic()
    check_photos(data_dir, "data_dir")
    photos = photos_folder(data_dir)
    names = photo_names(photos)
    given = colmap_model(data_dir)
    if given is not None:
        logger.info("using the COLMAP model in %s", given)
        model, source = read_model(given), "given"
        _check_photos_of(model, names, photos)
    else:
        work = report.parent / "state" / "pose"
        model, source = _structure_from_motion(photos, names, work, options, job.threads), "estimated"
    facts = registration(model, names, source, time.monotonic() - begin)
    for line in report_lines(facts):
        logger.info("%s", line)
    if source == "estimated":
        _check_registered(facts, options.min_registered)
    _publish(model, facts, report)


def _structure_from_motion(
    photos: Path, names: list[str], work: Path, options: PoseOptions, threads: int
) -> pycolmap.Reconstruction:
    """Features, matches and incremental mapping; the model with the most photos."""
    _warn_of_odd_sizes(photos, names)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR
    pycolmap.logging.alsologtostderr = False
    pycolmap.set_random_seed(options.seed)
    database = work / "database.db"
    exhaustive = options.matching == "exhaustive" or (options.matching == "auto" and len(names) <= _EXHAUSTIVE_UP_TO)
    extraction = pycolmap.FeatureExtractionOptions(
        num_threads=threads, max_image_size=options.max_image_size, use_gpu=False
    )
    extraction.sift.max_num_features = options.max_num_features
    layout: dict[str, Any] = {"camera_mode": pycolmap.CameraMode.PER_FOLDER, "image_names": names}
    reader = pycolmap.ImageReaderOptions(camera_model=options.camera_model)
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = options.seed  # else each thread has a generator, and any pair may get either
    try:
        # All photos are entered in name order first, else those whose features are found first get the lower ids.
        pycolmap.Database.open(database).close()
        pycolmap.import_images(database, photos, options=reader, **layout)
        _step("features", f"{len(names)} photos", pycolmap.extract_features)(
            database,
            photos,
            **layout,
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
        # One thread: with more the same seed gives another model each time.
        mapping = pycolmap.IncrementalPipelineOptions(num_threads=1, random_seed=options.seed)
        models = _step("mapping", "from the best pair on", pycolmap.incremental_mapping)(
            database, photos, work, options=mapping
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"structure from motion failed: {' '.join(str(error).split())[-300:]}") from None
    shutil.rmtree(work, ignore_errors=True)
    if not models:
        raise UserError(f"no two of the {len(names)} photos could be placed together; {_ADVICE}")
    return max(models.values(), key=lambda model: (model.num_reg_images(), model.num_points3D()))


_ADVICE = (
    "try more photos with at least 60 % overlap, sharp and textured, from moving places (not turning in one);"
    " or pose.matching: exhaustive, pose.max_num_features: 16384"
)


def _step(name: str, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its time logged, and so that a SIGTERM ends it."""

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


def _warn_of_odd_sizes(photos: Path, names: list[str]) -> None:
    """Name photos that can't share their folder's camera, since they are of another size; COLMAP leaves them out."""
    sizes: dict[str, dict[tuple[int, int], list[str]]] = {}
    for name in names:
        try:
            with Image.open(photos / name) as photo:
                sizes.setdefault(name.rpartition("/")[0], {}).setdefault(photo.size, []).append(name)
        except (OSError, Image.DecompressionBombError):
            continue  # what can't be read is reported as not registered
    for folder in sizes.values():
        *odd, usual = sorted(folder, key=lambda size: len(folder[size]))
        if odd:
            logger.warning(
                "left out, since they are not %d×%d as the others in their folder: %s; photos of one size belong in"
                " one folder, so put these in a sub-folder", *usual, _listed([n for size in odd for n in folder[size]])
            )  # fmt: skip


def _check_photos_of(model: pycolmap.Reconstruction, names: list[str], photos: Path) -> None:
    known = set(names)
    missing = sorted(image.name for image in model.images.values() if image.has_pose and image.name not in known)
    if missing:
        raise UserError(f"{len(missing)} photos of the COLMAP model are not in {photos}: {_listed(missing)}")


def registration(model: pycolmap.Reconstruction, names: list[str], source: str, seconds: float) -> dict[str, Any]:
    """Facts about a model: what registered, how many points, how well they fit (pixels), the cameras."""
    registered = {model.images[index].name for index in model.reg_image_ids()}
    return {
        "source": source,
        "photos": len(names),
        "registered": len(registered),
        "not_registered": [name for name in names if name not in registered],
        "points": model.num_points3D(),
        "mean_reprojection_error_px": round(model.compute_mean_reprojection_error(), 4),
        "mean_track_length": round(model.compute_mean_track_length(), 3),
        "cameras": [
            {
                "model": camera.model.name,
                "width": camera.width,
                "height": camera.height,
                "params": [round(float(value), 6) for value in camera.params],
            }
            for camera in model.cameras.values()
        ],
        "seconds": round(seconds, 1),
    }


def report_lines(facts: dict[str, Any]) -> list[str]:
    """The facts of `registration` for people."""
    lines = [
        f"registered {facts['registered']} of {facts['photos']} photos ({facts['source']} poses)",
        f"{facts['points']} points, seen in {facts['mean_track_length']:.1f} photos on average",
        f"mean reprojection error {facts['mean_reprojection_error_px']:.3f} px",
    ]
    for camera in facts["cameras"]:
        values = ", ".join(f"{value:g}" for value in camera["params"])
        lines.append(f"camera {camera['model']} {camera['width']}×{camera['height']}: {values}")
    if facts["not_registered"]:
        lines.append(f"not registered: {_listed(facts['not_registered'])}")
    return lines


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _check_registered(facts: dict[str, Any], least: float) -> None:
    if facts["registered"] < least * facts["photos"]:
        raise UserError(
            f"only {facts['registered']} of {facts['photos']} photos registered, at least {least:.0%} are asked for"
            f" (pose.min_registered); not registered: {_listed(facts['not_registered'])}; {_ADVICE}"
        )


def _publish(model: pycolmap.Reconstruction, facts: dict[str, Any], report: Path) -> None:
    sparse = report.parent / "sparse" / "0"
    staged = report.parent / "state" / "model"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    model.write_binary(str(staged))
    for name in _MODEL_FILES:
        with complete(sparse / name) as temporary:
            (staged / name).replace(temporary)
    shutil.rmtree(report.parent / "state")
    write_text(report.with_suffix(".txt"), "\n".join(report_lines(facts)) + "\n")
    write_json(report, facts)


if __name__ == "__main__":
    run(main)
