"""What can't be recorded of the human trainer's results is named in one line."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image
from support.human_trees import record, run_of

from splatdag.samples.humans_options import HUMANS_RUN
from splatdag.workflow.errors import UserError

NVS, POSE = "evaluation/epoch_0015/nvs", "evaluation/epoch_0015/pose_smplx"
MESH = f"{POSE}/pred/world_aligned/posed_smplx_meshes_per_frame/1"


def _cut_short(path):
    path.write_bytes(path.read_bytes()[:-40])


BAD = {
    "no such epoch": ("nvs", lambda run: shutil.rmtree(run / NVS), "nvs: no such folder; nvs has epoch_0000"),
    "fewer predictions": (
        "nvs",
        lambda run: (run / NVS / "pred/cam_4/metrics_input/000002.jpg").unlink(),
        "cam_4: 2 predictions, but 3 of the ground truth; only on one side: gt_inputs/cam_4/metrics_input/000002.jpg",
    ),
    "a camera without ground truth": (
        "nvs",
        lambda run: shutil.rmtree(run / NVS / "gt_inputs/cam_52"),
        "gt_inputs: has no cam_52, but the other side has",
    ),
    "an image cut short": (
        "nvs",
        lambda run: _cut_short(run / NVS / "pred/cam_28/metrics_input/000003.jpg"),
        "pred/cam_28/metrics_input/000003.jpg: can't be decoded",
    ),
    "no image": (
        "pose",
        lambda run: (run / POSE / "viz/images/28/000002.jpg").write_text("no"),
        "viz/images/28/000002.jpg: can't be decoded",
    ),
    "a vertex too few": (
        "pose",
        lambda run: (run / MESH / "000003.obj").write_text((run / MESH / "000003.obj").read_text().partition("\n")[2]),
        "pred/world_aligned/posed_smplx_meshes_per_frame/1/000003.obj: 991 vertices, but 000001.obj has 992",
    ),
    "a mesh too few": (
        "pose",
        lambda run: (run / MESH / "000003.obj").unlink(),
        "world_aligned: person 1: 2 meshes predicted, but 3 of the ground truth; frame 3 is only on one side",
    ),
    "no mesh": (
        "pose",
        lambda run: (run / MESH / "000001.obj").write_text("v 1 2\n"),
        "1/000001.obj: not an OBJ file with vertices",
    ),
    "no camera": (
        "trn_nv_generation",
        lambda run: (run / "input_data/train/all_cameras/100/000001.npz").write_text("no"),
        "all_cameras/100/000001.npz: not a camera with intrinsics",
    ),
    "sizes differ": (
        "nvs",
        lambda run: Image.new("RGB", (50, 64)).save(run / NVS / "pred/cam_4/metrics_input/000001.jpg"),
        "gt_inputs/cam_4/metrics_input/000001.jpg: 48×64 pixels, but",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_in_one_line(tree, case):
    task, spoil, message = BAD[case]
    spoil(run_of(tree))
    with pytest.raises(UserError) as caught:
        record(tree, task)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tree.glob("*.rrd"))


def test_a_scene_without_cam_id_is_named(tree):
    (tree / "scenes" / f"{HUMANS_RUN[0]}.json").write_text('{"seq_name": "x"}')
    with pytest.raises(UserError, match=rf"{HUMANS_RUN[0]}\.json: no cam_id"):
        record(tree, "nvs")


def test_a_recording_that_would_be_too_large_is_refused_and_not_left_behind(tree):
    with pytest.raises(UserError, match=r"max_size_mb is 0\.01; raise downscale or frame_stride, lower jpeg_quality"):
        record(tree, "nvs", max_size_mb=0.01)
    assert not list(tree.glob("*.rrd")) + list(tree.glob(".*"))
