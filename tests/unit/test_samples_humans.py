"""The sample run of the human trainer."""

import csv
import json

import numpy as np
import pytest

from splatdag.humans.results_tree import epochs_in, runs_in
from splatdag.samples import bodies
from splatdag.samples.humans import CAMERAS, EPOCHS, SHAPES, Clip, make_humans, world_to_camera
from splatdag.samples.humans_options import HUMANS_EPOCHS, HUMANS_RUN, HumansOptions

OPTIONS = HumansOptions(frames=2, width=72, height=96)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("humans")
    make_humans(folder, OPTIONS)
    return folder


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_it_has_what_is_planned_of_it(sample):
    assert runs_in(sample / "results") == [HUMANS_RUN]
    run = sample.joinpath("results", *HUMANS_RUN)
    assert {task: tuple(epochs_in(run, task)) for task in HUMANS_EPOCHS} == HUMANS_EPOCHS
    assert json.loads((run / "manifest.json").read_text())["eval_epochs"] == list(EPOCHS)
    assert json.loads((sample / "scenes" / f"{HUMANS_RUN[0]}.json").read_text())["cam_id"] in CAMERAS


def test_the_same_options_give_the_same_bytes(sample, tmp_path):
    make_humans(tmp_path, OPTIONS)
    assert files(tmp_path) == files(sample)


def test_the_later_evaluation_is_better(sample):
    def means(table):
        for epoch in EPOCHS:
            with sample.joinpath("results", *HUMANS_RUN, "evaluation", epoch, *table[:-1]).open() as file:
                yield np.mean([float(row[table[-1]]) for row in csv.DictReader(file)])

    first, last = means(("nvs", "metrics", "metrics_all_cams_per_frame.csv", "psnr"))
    assert last > first + 1
    pose = ("pose_smplx", "metrics", "smplx_pose_estimation_metrics_per_frame.csv")
    for metric in ("rr_mpjpe_mm", "rr_mve_mm"):
        first, last = means((*pose, metric))
        assert 5 < last < 0.5 * first


def test_bodies_are_closed_and_face_outwards():
    mesh = bodies.mesh_of(SHAPES[0], Clip(OPTIONS).poses(0)[0])
    faces = bodies.triangles()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges), "every edge once in each direction"
    assert {tuple(edge) for edge in edges} == {tuple(edge[::-1]) for edge in edges}
    a, b, c = mesh[faces].transpose(1, 0, 2)
    volume = np.einsum("ij,ij->", a, np.cross(b, c)) / 6
    assert 0.04 < volume < 0.12, "cubic metres of a person"
    assert 1.5 < np.ptp(mesh[:, 1]) < 2.4


def test_people_are_drawn_where_the_camera_sees_them():
    clip = Clip(OPTIONS)
    poses = clip.poses(0)
    seen = clip.image(poses, 0).any(axis=2)
    pose = world_to_camera(0)
    for place in poses:
        x, y, z = clip.K() @ (pose[:, :3] @ place.pelvis + pose[:, 3])
        assert seen[round(y / z), round(x / z)]
    assert 0.05 < seen.mean() < 0.5
