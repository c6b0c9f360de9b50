"""Changes of pose and the appearance network by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.trainings import Training

from splatdag.scene.appearance import harmonics
from splatdag.scene.camera_changes import PoseChange
from splatdag.splats.cpu import Harmonics


def test_a_change_of_pose_is_a_motion_in_the_camera_s_own_axes() -> None:
    change = PoseChange(3)
    with torch.no_grad():
        change.embeds.weight[1] = torch.tensor([0.1, -0.2, 0.3, 0.05, 0.1, 0.0, -0.02, 0.0, 0.07])
    pose = torch.linalg.inv(torch.tensor(Training(Path("unused")).views[0].world_to_camera, dtype=torch.float32))
    changed = torch.linalg.inv(change(torch.linalg.inv(pose)[None], torch.tensor([1]))[0])
    motion = torch.linalg.inv(pose) @ changed
    torch.testing.assert_close(motion[:3, 3], torch.tensor([0.1, -0.2, 0.3]), atol=1e-5, rtol=0)
    torch.testing.assert_close(motion[:3, :3] @ motion[:3, :3].T, torch.eye(3), atol=1e-5, rtol=0)
    first = torch.nn.functional.normalize(torch.tensor([1.05, 0.1, 0.0]), dim=0)
    torch.testing.assert_close(motion[0, :3], first, atol=1e-5, rtol=0)
    torch.testing.assert_close(change(pose[None], torch.tensor([0]))[0], pose)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_bases_of_the_appearance_network_are_those_of_the_rasteriser(degree: int) -> None:
    generator = torch.Generator().manual_seed(degree)
    points = torch.randn((50, 3), generator=generator)
    count = (degree + 1) ** 2
    coefficients = torch.randn((50, count, 3), generator=generator)
    radii = torch.ones((1, 50, 2), dtype=torch.int32)
    theirs = Harmonics.apply(degree, points, coefficients, torch.zeros((1, 3)), radii)[0]
    bases = harmonics(torch.nn.functional.normalize(points, dim=-1), degree)
    ours = ((bases[..., None] * coefficients).sum(dim=1) + 0.5).clamp_min(0)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
