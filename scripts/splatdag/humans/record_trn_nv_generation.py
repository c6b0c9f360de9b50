"""Recording of the generation of training views: people and cameras, and the pictures of each virtual camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rerun.blueprint as rrb

from splatdag.humans.results_tree import GENERATION, RunEpoch
from splatdag.recording.cameras import camera_names, log_camera, log_up, read_cameras
from splatdag.recording.images import frames_in, in_threads, jpeg, log_images, read_image, recorded
from splatdag.recording.meshes import PREDICTED, log_people, meshes_folder, read_people
from splatdag.recording.options import RecordingOptions
from splatdag.recording.recording import Layout, recording
from splatdag.workflow.errors import UserError

PARTS = ("reference", "rendered", "refined")
"""Parts of a picture of the debug folder, from left to right."""
_IN_ONE_COLUMN = 3
"""Triplets below each other; more are shown in two columns."""
_PLANE_M = 0.5
"""Distance at which a picture hangs before its camera (metres)."""


def record_trn_nv_generation(
    of: RunEpoch, out: Path, options: RecordingOptions, threads: int, sample: str = ""
) -> None:
    """Record the generation of a run's training views: left the world, right the pictures of each virtual camera.

    Raises:
        UserError: there are no virtual cameras, or a mesh, camera or image can't be read.
    """
    people = read_people(meshes_folder(of.folder), options.frame_stride, threads)
    train = of.run / "input_data" / "train"
    debug = of.run / GENERATION / "est_images_debug"
    virtual = [name for name in camera_names(debug) if frames_in(debug / name)]
    if not virtual:
        raise UserError(f"{debug}: no pictures <camera>/<frame>.png in it")
    cameras = {
        name: read_cameras(train / "all_cameras" / name, options.frame_stride, train / "images" / name)
        for name in camera_names(train / "all_cameras")
    }
    if missing := sorted(set(virtual) - cameras.keys()):
        raise UserError(f"{train / 'all_cameras'}: lacks camera {', '.join(missing)}, which has pictures in {debug}")

    pictures_of = {name: _debug_pictures(debug / name, options, threads) for name in virtual}

    top = f"trn_nv_generation/{of.epoch}"
    layout = _layout(top, pictures_of)
    with recording(out, "splatdag_trn", of.name, layout, options.max_size_mb, sample) as stream:
        log_up(stream, f"{top}/world", cameras.get(of.source or "", next(iter(cameras.values())))[1])
        log_people(stream, f"{top}/world/meshes", people, PREDICTED)
        for name, (frames, of_camera) in cameras.items():
            entity = f"{top}/world/cameras/{_entity_name(name)}"
            log_camera(stream, entity, frames, of_camera, _PLANE_M)
            pictures = frames_in(train / "images" / name, options.frame_stride)
            if pictures:
                blobs = in_threads(lambda path: recorded(path, options), pictures.values(), threads)
                log_images(stream, f"{entity}/image", pictures, blobs)
        for name, (frames, blobs_of) in pictures_of.items():
            for part, blobs in blobs_of.items():
                log_images(stream, f"{top}/debug/{_entity_name(name)}/{part}", frames, blobs)


def _entity_name(camera: str) -> str:
    return f"cam_{camera.zfill(3)}"


def _debug_pictures(folder: Path, options: RecordingOptions, threads: int) -> tuple[list[int], dict[str, list[bytes]]]:
    """Read frames and pictures of a virtual camera: whole, and in three parts where all of them can be divided so."""
    files = frames_in(folder, options.frame_stride)
    parts = in_threads(lambda path: _whole_and_parts(path, options), files.values(), threads)
    names = ("triplet", *PARTS) if all(len(blobs) > 1 for blobs in parts) else ("triplet",)
    return list(files), {name: [blobs[index] for blobs in parts] for index, name in enumerate(names)}


def _whole_and_parts(path: Path, options: RecordingOptions) -> list[bytes]:
    pixels = read_image(path)
    parts = [] if pixels.shape[1] % len(PARTS) else np.split(pixels, len(PARTS), axis=1)
    return [jpeg(part, options) for part in (pixels, *parts)]


def _layout(top: str, pictures_of: dict[str, tuple[list[int], dict[str, list[bytes]]]]) -> Layout:
    """Lay out the world on the left; on the right, as tabs, triplets of all virtual cameras, and the parts of each."""
    views = {
        _entity_name(camera): [
            rrb.Spatial2DView(
                origin=f"{top}/debug/{_entity_name(camera)}/{part}", name=f"{part}, {_entity_name(camera)}"
            )
            for part in blobs_of
        ]
        for camera, (_, blobs_of) in pictures_of.items()
    }
    columns = 1 if len(views) <= _IN_ONE_COLUMN else 2
    tabs: list[rrb.Container] = [
        rrb.Grid(*(triplet for triplet, *_ in views.values()), grid_columns=columns, name="triplets"),
        *(rrb.Horizontal(*parts, name=camera) for camera, (_, *parts) in views.items() if parts),
    ]
    world = rrb.Spatial3DView(origin=f"{top}/world", name="world")
    return Layout(rrb.Horizontal(world, rrb.Tabs(*tabs, active_tab=0)))
