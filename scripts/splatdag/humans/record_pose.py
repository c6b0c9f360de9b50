"""Recording of a pose evaluation: predicted and true meshes, root-aligned and world-aligned, and the source camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rerun.blueprint as rrb

from splatdag.humans.results_tree import RunEpoch
from splatdag.recording.cameras import camera_names, eye_on, log_camera, log_up, read_cameras
from splatdag.recording.images import frames_in, in_threads, log_images, recorded
from splatdag.recording.meshes import PREDICTED, TRUE, Person, log_people, meshes_folder, read_people
from splatdag.recording.options import RecordingOptions
from splatdag.recording.recording import Layout, recording
from splatdag.workflow.errors import UserError

_ALIGNED = ("root_aligned", "world_aligned")
_SIDES = {"pred": PREDICTED, "gt_inputs": TRUE}
_PLANE_M = 0.5
"""Distance at which the source picture hangs before its camera (metres)."""


def record_pose(of: RunEpoch, out: Path, options: RecordingOptions, threads: int, sample: str = "") -> None:
    """Record `evaluation/<epoch>/pose_smplx` of a run.

    Raises:
        UserError: prediction and ground truth have other frames, or a mesh, camera or image can't be read.
    """
    meshes = {
        (aligned, side): read_people(meshes_folder(of.folder / side / aligned), options.frame_stride, threads)
        for aligned in _ALIGNED
        for side in _SIDES
    }
    for aligned in _ALIGNED:
        _check_frames(of.folder, aligned, meshes[aligned, "pred"], meshes[aligned, "gt_inputs"])
    camera = _source_camera(of)
    images = of.folder / "viz" / "images" / camera
    camera_frames, cameras = read_cameras(of.folder / "viz" / "all_cameras" / camera, options.frame_stride, images)
    pictures = frames_in(images, options.frame_stride)
    if not pictures:
        raise UserError(f"{images}: no images of the source camera in it")
    blobs = in_threads(lambda path: recorded(path, options), pictures.values(), threads)

    top = f"evaluation/{of.epoch}/pose_smplx"
    bodies = [person.positions for side in _SIDES for person in meshes["root_aligned", side].values()]
    eye = eye_on(np.concatenate(bodies), cameras)
    views = rrb.Horizontal(
        rrb.Spatial3DView(origin=f"{top}/root_aligned", name="root-aligned", eye_controls=eye),
        rrb.Spatial3DView(origin=f"{top}/world_aligned", name="world-aligned", visible=False),
        rrb.Spatial2DView(origin=f"{top}/source_view/rgb", name=f"source view: cam_{camera}"),
    )
    with recording(out, "splatdag_pose", of.name, Layout(views), options.max_size_mb, sample) as stream:
        for (aligned, side), people in meshes.items():
            log_people(stream, f"{top}/{aligned}/{side}/meshes", people, _SIDES[side])
        for aligned in _ALIGNED:
            log_up(stream, f"{top}/{aligned}", cameras)
        log_camera(stream, f"{top}/world_aligned/source_camera", camera_frames, cameras, _PLANE_M)
        log_images(stream, f"{top}/source_view/rgb", pictures, blobs)


def _check_frames(folder: Path, aligned: str, predicted: dict[str, Person], truth: dict[str, Person]) -> None:
    counts = [{number: person.frames for number, person in people.items()} for people in (predicted, truth)]
    if counts[0].keys() != counts[1].keys():
        raise UserError(f"{folder}: {aligned}: {len(predicted)} people predicted, but {len(truth)} in the ground truth")
    for number, frames in counts[0].items():
        if frames != counts[1][number]:
            alone = sorted(set(frames) ^ set(counts[1][number]))
            raise UserError(
                f"{folder}: {aligned}: person {number}: {len(frames)} meshes predicted, but {len(counts[1][number])} of"
                f" the ground truth; frame {alone[0]} is only on one side"
            )


def _source_camera(of: RunEpoch) -> str:
    """Choose the source camera if it has a folder, else the first camera that has one."""
    folder = of.folder / "viz" / "all_cameras"
    there = camera_names(folder)
    if not there:
        raise UserError(f"{folder}: no folder of a camera in it")
    return of.source if of.source in there else there[0]
