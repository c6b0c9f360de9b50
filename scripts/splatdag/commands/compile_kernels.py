"""Compile all CPU kernels, by a tiny use of each; run by `user_cache.ensure_kernels`, one process at a time."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np

from splatdag.samples.options import StreetOptions
from splatdag.samples.room import make_room
from splatdag.samples.street import make_street
from splatdag.splats.cpu.triangles import cover_triangles
from splatdag.splats.losses import photometric_loss
from splatdag.splats.render import render

import torch  # isort: skip - after splats, which sets up the thread pools


def main() -> None:
    """Run all CPU kernels on tiny inputs, so that numba compiles them and keeps the result."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        make_room(Path(folder) / "room", width=32, height=32, photos=8)
        street = StreetOptions(logs=1, frames=1, width=32, cameras=("front_camera",), points=64)
        make_street(Path(folder) / "street", street)
    cover_triangles(np.zeros((1, 3, 2)), np.zeros((4, 4), np.int32))
    generator = torch.Generator().manual_seed(0)
    means = (torch.rand((20, 3), generator=generator) + torch.tensor([-0.5, -0.5, 1.0])).requires_grad_()
    for antialiased, absgrad in ((False, True), (True, False)):
        image, _, info = render(
            means,
            torch.rand((20, 4), generator=generator).requires_grad_(),
            torch.full((20, 3), 0.1, requires_grad=True),
            torch.full((20,), 0.5, requires_grad=True),
            torch.rand((20, 16, 3), generator=generator).requires_grad_(),
            torch.eye(4)[None],
            torch.tensor([[[32.0, 0.0, 16.0], [0.0, 32.0, 16.0], [0.0, 0.0, 1.0]]]),
            32,
            32,
            sh_degree=3,
            backgrounds=torch.zeros((1, 3)),
            antialiased=antialiased,
            absgrad=absgrad,
        )
        info["means2d"].retain_grad()
        photometric_loss(image, torch.zeros_like(image), 0.2).backward()
    (Path(os.environ["NUMBA_CACHE_DIR"]) / "complete").touch()
    print(f"kernels compiled in {time.monotonic() - begin:.0f} s, kept in {os.environ['NUMBA_CACHE_DIR']}")


if __name__ == "__main__":
    main()
