"""Recordings of driving logs: what is seen at which frame, and what is said of files that can't be recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from support.flux4d import trained
from support.rrd import entities, layout

from splatdag.driving import record as drive
from splatdag.driving.record import read_clips, record_drive
from splatdag.recording.options import CaptureRecordingOptions
from splatdag.recording.splats import read_splat
from splatdag.splats.ply import read_ply
from splatdag.workflow.errors import UserError


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A measured log, which a test may change."""
    shutil.copytree(trained() / "001", tmp_path / "flux4d" / "001")
    return tmp_path / "flux4d" / "001"


def record(log: Path, **options: object) -> Path:
    out = log / "rerun" / "driving.rrd"
    record_drive(read_clips(log), "flux4d-001", out, CaptureRecordingOptions(**options), 2)
    return out


def test_every_frame_has_pictures_camera_gaussians_and_velocities(log: Path) -> None:
    found = entities(record(log))
    frames = list(range(16))
    for entity in ("pictures/pred_gt", "world/camera", "world/splat/moving", "world/velocity"):
        assert [int(frame) for frame in found[entity]["frame"]] == frames, entity
    assert list(found["world/splat/still"]["frame"]) == [0]
    (clip,) = log.glob("001_*")
    with np.load(clip / "motion.npz") as motion:
        np.testing.assert_array_equal(found["world/lidar"]["Points3D:positions"][0], motion["points"])


def test_what_moves_and_what_stands_still_are_the_splat_of_each_image(log: Path) -> None:
    found = entities(record(log))
    (clip,) = log.glob("001_*")
    still = np.asarray(found["world/splat/still"]["GaussianSplats3D:centers"][0]).reshape(-1, 3)
    for frame in (0, 7):
        splat = read_ply(clip / f"splat_{frame:02d}.ply")["means"].numpy()
        moving = np.asarray(found["world/splat/moving"]["GaussianSplats3D:centers"][frame]).reshape(-1, 3)
        near = splat[np.linalg.norm(splat, axis=1) < 250]
        shown = np.concatenate([still, moving])
        assert len(near) <= len(shown) <= len(splat)
        away, _ = cKDTree(shown).query(near)
        assert away.max() < 0.3  # what moves less than that in the whole clip is drawn where it is at first


def test_the_curves_are_those_of_metrics_json(log: Path) -> None:
    found = entities(record(log))
    rows = json.loads((log / "metrics.json").read_text())["rows"]["images"]
    for kind, given in (("given", True), ("predicted", False)):
        expected = [(row["frame"], row["psnr"]) for row in rows if (row["kind"] == "input") == given]
        plotted = found[f"plots/psnr/{kind}"]
        values = [float(np.ravel(value)[0]) for value in plotted["Scalars:scalars"]]
        assert [int(frame) for frame in plotted["frame"]] == [frame for frame, _ in expected]
        np.testing.assert_allclose(values, [psnr for _, psnr in expected])
    assert layout(record(log))["time_panel"]["fps"] == 10


def test_each_splat_is_read_once(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(drive, "read_splat", lambda path: read.append(path.name) or read_splat(path))
    record(log)
    assert sorted(read) == [f"splat_{frame:02d}.ply" for frame in range(16)]


def test_one_frame_alone_is_recorded(log: Path) -> None:
    found = entities(record(log, frame_stride=100))
    assert list(found["world/splat/still"]["frame"]) == [0]


def test_fewer_frames_and_points_instead_of_gaussians(log: Path) -> None:
    found = entities(record(log, frame_stride=4, gaussians=False))
    assert [int(frame) for frame in found["pictures/pred_gt"]["frame"]] == [0, 4, 8, 12]
    assert "Points3D:positions" in found["world/splat/still"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda clip: shutil.rmtree(clip), "no clip was measured and kept; it has no test clip"),
        (lambda clip: (clip / "motion.npz").write_bytes(b"PK"), "not what an evaluation leaves"),
        (lambda clip: (clip / "pred_03.jpg").write_bytes(b"\xff\xd8"), "pred_03.jpg: can't be decoded"),
        (lambda clip: (clip / "splat_05.ply").unlink(), "splat_05.ply: not a PLY file of Gaussians"),
        (lambda clip: (clip / "cameras.json").write_text('{"views": []}'), "cameras.json: no views"),
        (lambda clip: (clip / "cameras.json").write_text('{"views": [{"K": []}]}'), "KeyError: 'camera_to_world"),
        (lambda clip: (clip / "cameras.json").write_text("[3]"), "cameras.json: not an object of names and values"),
        (lambda clip: (clip.parent / "metrics.json").write_text('{"rows": {"images": [{}]}}'),
         "metrics.json: not what an evaluation leaves"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named_and_leaves_no_recording(log: Path, spoil: object, message: str) -> None:
    (clip,) = log.glob("001_*")
    spoil(clip)  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        record(log)
    assert not (log / "rerun" / "driving.rrd").exists()
