"""What a clip begins with, where its lidar tells little."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support.pandaset_logs import write_json, write_metadata

from splatdag.driving.clips.clips import Clip
from splatdag.driving.clips.initial_gaussians import begin
from splatdag.driving.clips.lift import Lifted
from splatdag.driving.gaussians import Gaussians
from splatdag.driving.logs.pandaset import Log
from splatdag.driving.network_options import StartOptions
from splatdag.workflow.errors import UserError

OPTIONS = StartOptions(num_image_points=500, num_sky_points=500)


def lifted(points: list[list[float]], seen: bool = True) -> Lifted:
    count = len(points)
    return Lifted(
        np.zeros(3), np.array(points, np.float32).reshape(-1, 3), np.full((count, 3), 200, np.uint8),
        np.full(count, seen), np.zeros(count, np.float32), np.ones(count, np.float32), np.zeros(count, np.int8),
    )  # fmt: skip


@pytest.fixture
def log(tmp_path) -> Log:
    """A frame of a camera at the origin that looks along world x, y to its left."""
    folder = write_metadata(tmp_path, frames=1)
    write_json(folder / "camera" / "front_camera" / "intrinsics.json", {"fx": 100, "fy": 100, "cx": 100, "cy": 50})
    Image.new("RGB", (200, 100), (10, 20, 30)).save(folder / "camera" / "front_camera" / "00.jpg")
    return Log(folder)


def begun(log: Log, given: Lifted, options: StartOptions = OPTIONS) -> Gaussians:
    clip = Clip("clip_a", log.name, "train", "train_future", 0, 1, (0,), (), ("front_camera",))
    return begin(log, clip, {0: given}, options)


def wall(rows: int) -> list[list[float]]:
    """Points 10 m ahead, 1 m apart; this log's ego frame has its z there."""
    return [[10.0, float(y), float(z)] for y in range(-8, 9) for z in range(rows)]


def test_pixels_between_points_of_a_wall_lie_on_it(log):
    found = begun(log, lifted(wall(4)))
    points = found.means[~found.backdrop]
    assert len(points) > 17 * 4 + 50
    assert (points[:, 2] - 10).abs().max() < 1e-4


@pytest.mark.parametrize("points", [wall(1), wall(1)[:4], wall(4)[:3], wall(1)[:1]])
def test_points_on_one_line_or_too_few_tell_no_pixel_its_depth(log, points):
    found = begun(log, lifted(points))
    assert int((~found.backdrop).sum()) == len(points)
    assert int(found.backdrop.sum()) == 500
    assert found.means.isfinite().all()


def test_without_a_point_in_an_image_the_clip_and_its_frames_are_named(log):
    unseen = lifted(wall(2), seen=False)
    with pytest.raises(UserError, match=r"001: clip clip_a: no lidar point lies in an image of its frames 0$"):
        begun(log, unseen)
    assert len(begun(log, unseen, OPTIONS.model_copy(update={"keep_unseen": True}))) > 34
