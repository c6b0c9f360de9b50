"""Storage of the photos of a training: on the device, in host memory, or in a file.

Pictures, opacities and masks all lie in one buffer, 8 bits a pixel and channel, which is made once for all photos. Each
is copied to its place when it is decoded and never held twice. What a training learns does not depend on the place.
"""

from __future__ import annotations

import math
import mmap
import threading
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from splatdag.scene.scratch_file import ScratchFile, is_in_memory, scratch_folder
from splatdag.scene.views import View
from splatdag.workflow.errors import UserError
from splatdag.workflow.host_memory import memory_left, size_text

Tier = Literal["device", "host", "disk"]
TierChoice = Literal["auto", "device", "host", "disk"]

DEVICE_SHARE = 0.25
"""Share of the device's free memory that photos may take. The rest is for Gaussians, whose number is not known yet:
each takes about 1 kB (59 floats with gradient and two moments), and rendering takes as much again."""
HOST_SHARE = 0.5
"""Share of the memory left to the process that photos may take; libraries, decoding and evaluation need the rest, and
on the CPU the Gaussians."""
_PAGE = mmap.ALLOCATIONGRANULARITY
_SMALLER = "raise data_factor or lower max_image_size"


class ImageCache:
    """Buffer for the pixels of all photos; `keep` may be called by several threads at a time."""

    def __init__(self, size: int, choice: TierChoice, device: torch.device, shared: bool = False) -> None:
        """Make a buffer where there is room for it.

        Args:
            size: bytes that are needed at most; see `bytes_of`.
            choice: where to put it; `auto` takes the first of device, host and disk with room to spare.
            device: of the training; the memory of the CPU is host memory.
            shared: other processes, to which views are pickled, read the same buffer; it is not on a device then.

        Raises:
            UserError: there is no room in the chosen place, or with `auto` in any.
        """
        self.tier = _tier(size, choice, device, shared)
        self.file: ScratchFile | None = None
        self.used = 0
        self._lock = threading.Lock()
        if self.tier == "disk" or (shared and self.tier == "host"):
            self.file = ScratchFile(size, in_memory=self.tier == "host")
            self._buffer = self.file.tensor()
        else:
            place = device if self.tier == "device" else torch.device("cpu")
            self._buffer = torch.empty(size, dtype=torch.uint8, device=place)

    def keep(self, view: View) -> View:
        """Copy a view's planes into the buffer; returns the view with these copies."""
        kept = view.converted(self._copied)
        return replace(kept, file=self.file)

    def _copied(self, plane: Tensor) -> Tensor:
        with self._lock:
            start, self.used = self.used, self.used + _rounded(plane.numel())
        place = self._buffer[start : start + plane.numel()].view(plane.dtype).view(plane.shape)
        place.copy_(plane)
        if self.file is not None:
            self.file.release(place)
        return place

    def text(self, count: int) -> str:
        """Format number, size and place of the photos: `1,000 photos, 3.1 GB, on the device`."""
        place = {"device": "on the device", "host": "in host memory", "disk": "in a scratch file"}[self.tier]
        return f"{count:,} {'photo' if count == 1 else 'photos'}, {size_text(self.used)}, {place}"


def bytes_of(pixels: int, opacity: bool, mask: bool) -> int:
    """Return a photo's size in the buffer (bytes): 3 a pixel, one more each for opacity and mask, in whole pages."""
    return _rounded(3 * pixels) + (opacity + mask) * _rounded(pixels)


def _rounded(size: int) -> int:
    return math.ceil(size / _PAGE) * _PAGE


def copied_where_they_fit(views: list[View], device: torch.device) -> list[View]:
    """Copy views that processes share to this one's device; returns them as they are if they take too much of it."""
    size = sum(plane.numel() for view in views for plane in view.planes())
    if device.type != "cuda" or size > DEVICE_SHARE * device_memory_left(device):
        return views
    return [view.to(device) for view in views]


def device_memory_left(device: torch.device) -> int:
    """Return the free memory of a CUDA device (bytes)."""
    return torch.cuda.mem_get_info(device)[0]


def _tier(size: int, choice: TierChoice, device: torch.device, shared: bool) -> Tier:
    if shared and choice == "device":
        raise UserError("image_cache: device: several GPUs share what is in memory or in a file; leave it at auto")
    on_cuda = device.type == "cuda" and not shared
    if choice == "auto":
        if on_cuda and size <= DEVICE_SHARE * device_memory_left(device):
            return "device"
        left = memory_left()
        if size <= HOST_SHARE * left:
            return "host"
        if is_in_memory(scratch_folder()):
            raise UserError(
                f"the photos take {size_text(size)}, too much for memory ({size_text(left)} free), and"
                f" {scratch_folder()} is kept in memory as well; set TMPDIR to a folder on a disk, ask for more memory,"
                f" or {_SMALLER}"
            )
        return "disk"
    if choice == "disk":
        return "disk"
    tier: Tier = "device" if choice == "device" and on_cuda else "host"
    left = device_memory_left(device) if tier == "device" else memory_left()
    if size > left:
        raise UserError(
            f"image_cache: {choice}: the photos take {size_text(size)}, but only {size_text(left)} are free; leave it"
            f" at auto, or {_SMALLER}"
        )
    return tier
