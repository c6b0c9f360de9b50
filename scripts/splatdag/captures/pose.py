"""Find the cameras of a capture: structure from motion with pycolmap, or the COLMAP model that came with it."""

from __future__ import annotations

import errno
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from splatdag.captures.options import PoseOptions
from splatdag.captures.sfm import ADVICE, structure_from_motion, triangulated
from splatdag.formats.colmap import read_model
from splatdag.formats.photoset import PhotoSet
from splatdag.formats.transforms_model import posed_model
from splatdag.workflow.errors import UserError, listed
from splatdag.workflow.lock import exclusive
from splatdag.workflow.publish import check_room, complete, write_json, write_text
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)
_MODEL_FILES = ("cameras.bin", "images.bin", "points3D.bin")


def main(data_dir: Path, report: Path, options: PoseOptions, job: Job) -> None:
    """Find the cameras of a capture's photos, or check the COLMAP model that comes with them.

    Args:
        data_dir: folder of photos, COLMAP dataset with `images/` and `sparse/`, or folder with a transforms.json.
        report: `registration.json` to write; `registration.txt` and `sparse/0/` go beside it.
        options: of structure from motion.
        job: how to run.
    """
    photos = PhotoSet(data_dir)
    photos.check("data_dir")
    if photos.is_video:
        raise UserError(f"{data_dir}: a video; take frames from it first: python -m splatdag.captures.frames")
    with exclusive(report.parent / "state"):
        _pose(photos, report, options, job.threads)


def _pose(photos: PhotoSet, report: Path, options: PoseOptions, threads: int) -> None:
    begin = time.monotonic()
    names, given = photos.names, photos.model
    work = report.parent / "state" / "pose"
    if given is not None:
        logger.info("using the COLMAP model in %s", given)
        model, source = read_model(given), "given"
        _check_photos_of(model, photos)
    elif photos.has_transforms:
        logger.info("using the cameras in %s", photos.transforms.path)
        model, source = posed_model(photos.transforms), "transforms.json"
        if not model.num_points3D():
            model = triangulated(model, photos, work, options, threads)
    elif len(names) < 2:
        raise UserError(f"{photos.folder}: only one photo; at least two are needed")
    else:
        model, source = structure_from_motion(photos, work, options, threads), "estimated"
    facts = registration(model, names, source, time.monotonic() - begin)
    for line in report_lines(facts):
        logger.info("%s", line)
    if source == "estimated":
        _check_registered(facts, options.min_registered)
    _publish(model, facts, report)


def _check_photos_of(model: pycolmap.Reconstruction, photos: PhotoSet) -> None:
    known = set(photos.names)
    missing = sorted(image.name for image in model.images.values() if image.has_pose and image.name not in known)
    if missing:
        raise UserError(f"{len(missing)} photos of the COLMAP model are not in {photos.folder}: {listed(missing)}")
    if model.num_reg_images() < 2:
        raise UserError(f"the COLMAP model of {photos.folder} has only one registered image; at least two are needed")


def registration(model: pycolmap.Reconstruction, names: list[str], source: str, seconds: float) -> dict[str, Any]:
    """Collect facts about a model: registered photos, number of points, reprojection error (pixels), cameras."""
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
    """Format the facts of `registration` for people."""
    lines = [
        f"registered {facts['registered']} of {facts['photos']} photos ({facts['source']} poses)",
        f"{facts['points']} points, seen in {facts['mean_track_length']:.1f} photos on average",
        f"mean reprojection error {facts['mean_reprojection_error_px']:.3f} px",
    ]
    for camera in facts["cameras"]:
        values = ", ".join(f"{value:g}" for value in camera["params"])
        lines.append(f"camera {camera['model']} {camera['width']}×{camera['height']}: {values}")
    if facts["not_registered"]:
        lines.append(f"not registered: {listed(facts['not_registered'])}")
    return lines


def _check_registered(facts: dict[str, Any], least: float) -> None:
    if facts["registered"] < least * facts["photos"]:
        raise UserError(
            f"only {facts['registered']} of {facts['photos']} photos registered, at least {least:.0%} are asked for"
            f" (pose.min_registered); not registered: {listed(facts['not_registered'])}; {ADVICE}"
        )


def _publish(model: pycolmap.Reconstruction, facts: dict[str, Any], report: Path) -> None:
    sparse = report.parent / "sparse" / "0"
    staged = report.parent / "state" / "model"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    model.write_binary(str(staged))
    _check_written(model, staged)
    for name in _MODEL_FILES:
        with complete(sparse / name) as temporary:
            (staged / name).replace(temporary)
    for folder in (staged, report.parent / "state" / "pose"):
        shutil.rmtree(folder, ignore_errors=True)
    write_text(report.with_suffix(".txt"), "\n".join(report_lines(facts)) + "\n")
    write_json(report, facts)


def _check_written(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Read a model back: COLMAP does not look whether it could write."""
    try:
        written = read_model(folder)
        whole = written.summary() == model.summary() and all(
            np.array_equal(camera.params, model.cameras[index].params) for index, camera in written.cameras.items()
        )
    except UserError:
        whole = False
    if not whole:
        check_room(folder, folder)
        raise OSError(errno.EIO, "the model was not written whole", str(folder))


if __name__ == "__main__":
    run(main)
