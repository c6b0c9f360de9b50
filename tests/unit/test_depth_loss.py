"""Known points hold the rendered depth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.trainings import Training, options

from splatdag.scene.batches import known_depths
from splatdag.splats.losses import disparity_loss


def test_the_depth_loss_is_that_of_disparities_at_known_points() -> None:
    depths = torch.arange(1.0, 13.0).reshape(1, 3, 4, 1)
    pixels = torch.tensor([[0.5, 0.5], [3.5, 2.5], [2.0, 1.5]])  # the last between 6 … 7 of the middle row
    truth = torch.tensor([2.0, 12.0, 5.0])
    expected = (abs(1 / 1 - 1 / 2) + 0 + abs(1 / 6.5 - 1 / 5)) / 3
    assert float(disparity_loss(depths, [(pixels, truth)])) == pytest.approx(expected, rel=1e-6)
    assert float(disparity_loss(depths, [(pixels[:0], truth[:0])])) == 0


def test_the_depth_loss_pulls_surfaces_to_the_known_points(tmp_path: Path) -> None:
    """Points far behind what is there: the depth loss moves the rendered disparity towards theirs."""
    error = {}
    for name, weight in (("without", 0.0), ("with", 1.0)):
        training = Training(tmp_path / name)
        training.views = [
            replace(view, points_M3=view.center + 2.0 * (training.points - view.center)) for view in training.views
        ]
        model = training.run(options(max_steps=200, depth_loss=True, depth_lambda=weight)).model
        view = training.views[0]
        pixels, depths = known_depths(view, training.frame, torch.device("cpu"))
        assert len(depths) > 50
        camera = torch.tensor(training.frame.world_to_camera(view.world_to_camera), dtype=torch.float32)[None]
        K = torch.tensor(view.K, dtype=torch.float32)[None]
        shown = model.draw(camera, K, 48, 32, render_mode="RGB+ED")[0][..., 3:]
        error[name] = disparity_loss(shown, [(pixels, depths)]).item()
    assert error["with"] < 0.7 * error["without"]


def test_known_points_project_to_where_the_camera_sees_them() -> None:
    training = Training(Path("unused"))
    view = replace(training.views[0], points_M3=training.points)
    pixels, depths = known_depths(view, training.frame, torch.device("cpu"))
    seen = training.points @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
    expected = (seen / seen[:, 2:]) @ view.K.T
    inside = ((expected[:, :2] >= 0) & (expected[:, :2] < (48, 32))).all(axis=1)
    np.testing.assert_allclose(pixels, expected[inside, :2], atol=1e-4)
    np.testing.assert_allclose(depths, seen[inside, 2] / training.frame.scale, rtol=1e-5)
    mask = torch.zeros((32, 48), dtype=torch.bool)
    mask[:, :20] = True
    counting, _ = known_depths(replace(view, mask_HW=mask), training.frame, torch.device("cpu"))
    np.testing.assert_array_equal(counting, pixels[pixels[:, 0] < 20])
    assert 0 < len(counting) < len(pixels)
