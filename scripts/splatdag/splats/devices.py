"""The device switch for all that renders: on CUDA the rasteriser's extension is loaded."""

from __future__ import annotations

import torch

from splatdag.splats.cuda.extension import ensure_extension
from splatdag.training import devices


def use_device(count: int, threads: int) -> torch.device:
    """The device to render on; arguments and errors as of `training.devices.use_device`."""
    device = devices.use_device(count, threads)
    if device.type == "cuda":
        ensure_extension()
    return device
