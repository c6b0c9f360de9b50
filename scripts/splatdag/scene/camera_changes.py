"""Changes of the training cameras: to be learnt (`pose_opt`), or to disturb them for a test (`pose_noise`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class PoseChange(nn.Module):
    """A small motion of each training camera, in its own axes: a shift and a rotation in six numbers.

    camera_to_world' = camera_to_world · [R, t], where R is made of identity + δ (Zhou et al., On the Continuity of
    Rotation Representations in Neural Networks, 2019). Names of the tensors are simple_trainer's.
    """

    identity: Tensor

    def __init__(self, views: int, spread: float = 0.0, generator: torch.Generator | None = None) -> None:
        """Begin without a change, or with a random one of a standard deviation (units of training, and of rotation)."""
        super().__init__()
        change = spread * torch.randn((views, 9), generator=generator) if spread else torch.zeros((views, 9))
        self.embeds = nn.Embedding.from_pretrained(change, freeze=False)
        self.register_buffer("identity", torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def forward(self, world_to_camera: Tensor, views: Tensor) -> Tensor:
        """Return changed world-to-camera matrices [C, 4, 4]; `views` [C] are the indices of the training views."""
        change = self.embeds(views)
        rotation = rotations(change[:, 3:] + self.identity)
        inverse = torch.zeros_like(world_to_camera)
        inverse[:, :3, :3] = rotation.transpose(1, 2)
        inverse[:, :3, 3] = -(rotation.transpose(1, 2) @ change[:, :3, None])[..., 0]
        inverse[:, 3, 3] = 1
        return inverse @ world_to_camera


def rotations(six: Tensor) -> Tensor:
    """Return rotation matrices [C, 3, 3] whose first two rows are six numbers [C, 6], made orthonormal."""
    first = normalize(six[:, :3], dim=-1)
    second = normalize(six[:, 3:] - (first * six[:, 3:]).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=1)
