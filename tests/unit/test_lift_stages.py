"""The stages that show and keep what is lifted: lift_alignment, voxelization, lift_logs."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from plyfile import PlyData
from pydantic import ValidationError
from support.pandaset_logs import pack, points, real_frame, table, write_lines, write_street
from support.processes import run_module

from splatdag.driving import pictures
from splatdag.driving.checks import lift_alignment, voxelization
from splatdag.driving.clips import lift_logs
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.network_options import VoxelizationOptions
from splatdag.driving.options import AlignmentOptions, LiftOptions
from splatdag.driving.targets import alignment_files
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    return write_street(tmp_path_factory.mktemp("street"), logs=1, points=3000)


@pytest.fixture
def real(tmp_path):
    """The real frame as a clip of its own: index and folder of logs."""
    return write_lines(tmp_path / "real.jsonl", "001", 1, [0]), real_frame().parent


def aligned(tmp_path, index, root, **options):
    lift_alignment.main(index, root, tmp_path / "out", AlignmentOptions(**options), Job())
    return json.loads((tmp_path / "out" / "alignment.json").read_text())


@pytest.mark.parametrize(("sensor", "count"), [(0, 13_533), (1, 54_897), (-1, 68_430)])
def test_points_of_the_real_frame_in_its_image(tmp_path, real, sensor, count):
    facts = aligned(tmp_path, *real, lidar_sensor_id=sensor, voxel_size=0)
    assert (facts["raw"]["in_image"], facts["lift"]["in_image"]) == (count, count)
    assert facts["seconds_from_sweep_to_image"] == pytest.approx(-0.0498, abs=1e-4)
    if sensor == 0:
        assert facts["median_spacing_m"] == pytest.approx(0.100, abs=5e-4)
        gray = cv2.imread(str(tmp_path / "out" / "depth_gray_raw.png"), cv2.IMREAD_UNCHANGED)
        assert gray.shape == (1080, 1920)
        assert 0.9 * count < (gray > 0).sum() <= count
        near, far = gray[800:][gray[800:] > 0], gray[560:600][gray[560:600] > 0]
        assert np.median(near) > np.median(far) + 20, "near is bright"


def test_pictures_and_points_of_a_sample_frame(tmp_path, street):
    index = write_lines(tmp_path / "index.jsonl", "001", 4, [0, 2])
    options = AlignmentOptions(frame_index=2, save_pointcloud=True, max_points=500)
    facts = aligned(tmp_path, index, street, **options.model_dump())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*alignment_files(options), "alignment.json"}
    assert facts["lift"]["points"] == 500
    written = PlyData.read(tmp_path / "out" / "points_lift.ply")["vertex"]
    log = Log(street / "001")
    moved = np.linalg.norm(log.ego_to_world[2, :3, 3] - log.ego_to_world[0, :3, 3])
    low = np.stack([written[axis] for axis in "xyz"], axis=1)
    low = low[low[:, 2] < 0.2]
    assert len(low) > 20
    assert abs(np.median(low[:, 2])) < 0.05, "the ground lies at zero in the ego frame of the clip"
    assert moved > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_index": 1}, "clip_index: 1, but .* has 1 clips"),
        ({"frame_index": 4}, "frame_index: 4, but clip 001_train_future_s000_e003 has 4 frames"),
    ],
)
def test_a_clip_or_frame_that_is_not_there_is_one_line(tmp_path, street, options, message):
    index = write_lines(tmp_path / "index.jsonl", "001", 4, [0])
    with pytest.raises(UserError, match=message):
        aligned(tmp_path, index, street, **options)


def test_a_camera_that_is_not_there_is_one_line(tmp_path, real):
    with pytest.raises(UserError, match="frame 0: no camera left_camera"):
        aligned(tmp_path, *real, camera="left_camera")


def voxelized(tmp_path, index, root, **options):
    voxelization.main(index, root, tmp_path / "v.json", tmp_path / "out", VoxelizationOptions(**options), Job())
    return json.loads((tmp_path / "v.json").read_text())


def test_voxels_of_the_real_frame(tmp_path, real):
    """Counted with other code: 97.8 k of 106.9 k points, less what is of the vehicle itself, in 27.9 k voxels."""
    box = {"point_cloud_range": (-60, -60, -6, 60, 60, 6), "voxel_size": 0.3}
    facts = voxelized(tmp_path, *real, **box, num_sky_points=0, keep_unseen=True)
    assert facts["num_points"] == facts["num_lidar_points"]
    assert facts["num_valid_points"] == pytest.approx(97_800, rel=0.01)
    assert facts["num_voxels"] == pytest.approx(27_900, rel=0.01)
    assert facts["voxel_shape_xyz"] == [400, 400, 40]
    assert facts["valid_ratio"] == facts["num_valid_points"] / facts["num_points"]
    assert cv2.imread(str(tmp_path / "out" / "bev_xy.png")).max() > 100


def test_the_backdrop_is_counted_apart(tmp_path, street):
    index = write_lines(tmp_path / "index.jsonl", "001", 4, [0, 2])
    facts = voxelized(tmp_path, index, street, num_sky_points=700, max_gaussians=900)
    assert facts["num_lidar_points"] < facts["num_points"] <= facts["num_lidar_points"] + 700  # where no lidar point is
    assert facts["num_lidar_points"] <= 900
    assert facts["valid_ratio"] < facts["valid_ratio_lidar"]


def kept(tmp_path, street, index, scene="001", **options):
    receipt = tmp_path / "lift" / f"{scene}.json"
    lift_logs.main(index, street, scene, tmp_path / "lift", receipt, LiftOptions(**options), Job())
    return json.loads(receipt.read_text())


def test_a_log_s_input_frames_are_kept(tmp_path, street):
    index = write_lines(tmp_path / "index.jsonl", "001", 4, [0, 2])
    found = kept(tmp_path, street, index)
    assert (found["frames"], found["left_out"], found["cameras"]) == ([0, 2], [], ["front_camera"])
    [folder] = found["folders"]
    files = sorted((tmp_path / "lift" / folder).iterdir())
    assert [path.name for path in files] == ["00.npz", "02.npz"]
    assert found["points"] == sum(len(np.load(path)["points"]) for path in files)
    times = [path.stat().st_mtime_ns for path in files]
    kept(tmp_path, street, index)
    assert [path.stat().st_mtime_ns for path in files] == times
    assert kept(tmp_path, street, index, lidar_sensor_id=-1)["points"] > found["points"]


def test_a_frame_that_cannot_be_lifted_is_named_and_costs_no_other(tmp_path):
    street = write_street(tmp_path / "street", logs=1, points=400)
    index = write_lines(tmp_path / "index.jsonl", "001", 4, [0, 1, 2])
    for path in (street / "001" / "lidar").glob("01.pkl*"):
        empty = table(points(0))
        path.write_bytes(pack(empty) if path.suffix == ".gz" else empty)
    (street / "001" / "camera" / "front_camera" / "02.jpg").write_bytes(b"no picture")
    found = kept(tmp_path, street, index)
    assert found["frames"] == [0]
    assert [(left["frame"], left["reason"].split(": ")[1]) for left in found["left_out"]] == [
        (1, "no points"),
        (2, "can't be decoded (not a photo); remove or replace this photo"),
    ]
    for path in (street / "001" / "lidar").glob("00.pkl*"):
        path.unlink()
    found = kept(tmp_path / "again", street, index)
    assert found["frames"] == []  # the other logs go on; a training without any clip stops
    assert found["left_out"][0]["reason"].endswith("frame 0: no lidar/00.pkl.gz")
    assert len(found["left_out"]) == 3


def test_points_are_drawn_as_the_options_say(tmp_path, street):
    index = write_lines(tmp_path / "index.jsonl", "001", 4, [0])

    def picture(name, **options):
        aligned(tmp_path, index, street, max_points=300, **options)
        return cv2.imread(str(tmp_path / "out" / f"{name}.png"))

    few = picture("rgb_points_lift", overlay_base="black", point_color_mode="fixed", point_radius=0)
    assert set(map(tuple, few.reshape(-1, 3))) == {(0, 0, 0), (0, 0, 255)}
    wide = picture("rgb_points_lift", overlay_base="black", point_color_mode="fixed", point_radius=2)
    assert 4 * few.any(axis=2).sum() < wide.any(axis=2).sum() <= 25 * few.any(axis=2).sum()
    gray = picture("rgb_points_lift", overlay_base="gray", point_color_mode="fixed", point_radius=0)
    drawn = few.any(axis=2)
    assert (gray[~drawn] == gray[~drawn][:, :1]).all()
    assert (gray[drawn] == (0, 0, 255)).all()
    others = [picture("bev_ego_lift", chosen="at_random", seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(others[0], others[1])
    assert not np.array_equal(others[0], others[2])


def test_maps_show_what_lies_in_their_ranges(tmp_path, street):
    points = np.array([[10.5, -3.5, 0.0], [0.5, 0.5, 1.0], [-30, 0, 2.0]])
    shown = pictures.birds_eye(points, points[:, 2], (0, 20, -5, 5), size=200)
    assert shown.shape == (100, 200, 3)
    seen = np.argwhere((shown != pictures.BACKGROUND).any(axis=2))
    assert seen.tolist() == [[44, 5], [84, 105]], "row from the top, column from the left; 10 pixels a metre"
    index = write_lines(tmp_path / "index.jsonl", "001", 4, [0])
    aligned(tmp_path, index, street, bev_range=(0, 40, -10, 10))
    assert cv2.imread(str(tmp_path / "out" / "bev_ego_raw.png")).shape == (500, 1000, 3)
    with pytest.raises(ValidationError, match="expected least and largest x"):
        AlignmentOptions(bev_range=(40, 0, -10, 10))
    assert AlignmentOptions(chosen="at_random").notices() == ["chosen: without effect, since max_points is not set"]


def test_a_log_without_clips_keeps_nothing(tmp_path, street):
    index = write_lines(tmp_path / "index.jsonl", "077", 4, [0])
    assert kept(tmp_path, street, index)["frames"] == []


def test_the_command_lines_take_the_old_flags(tmp_path, street):
    index = write_lines(tmp_path / "index.jsonl", "001", 4, [0])
    shared = ["--index-path", str(index), "--data-root", str(street), "--clip-index", "0"]
    for stage, flags in (
        ("lift_alignment", ["--frame-index", "1", "--camera", "back_camera", "--lidar-sensor-id", "-1",
                            "--voxel-size", ".5", "--max-points", "9", "--point-color-mode", "from_image",
                            "--save-pointcloud"]),
        ("voxelization", ["--num-sky-points", "50", "--max-gaussians", "100", "--plot-window-m", "400",
                          "--out-json", str(tmp_path / "v.json")]),
    ):  # fmt: skip
        done = run_module(f"splatdag.driving.checks.{stage}", *shared, "--out-dir", tmp_path / stage, *flags)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "lift_alignment" / "alignment.json").read_text())["lift"]["points"] == 9
    assert json.loads((tmp_path / "v.json").read_text())["num_lidar_points"] == 100
