"""A clip as a network learns from it: the Gaussians that it begins with, and its images with lidar depths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from splatdag.driving.clips.clips import Clip
from splatdag.driving.clips.initial_gaussians import Clock, begin
from splatdag.driving.clips.lift import Lifted, pixels_of
from splatdag.driving.gaussians import Gaussians
from splatdag.driving.logs.pandaset import PANDAR64, Log
from splatdag.driving.network_options import StartOptions
from splatdag.driving.rendering.rendering import Target
from splatdag.formats.images import read_pixels, text
from splatdag.workflow.errors import UserError

Lift = Callable[[Log, int], Lifted]
"""The points of a frame of a log."""


@dataclass(frozen=True)
class View:
    """One posed image of a clip."""

    target: Target
    frame: int
    """Frame of the clip, from 0."""
    given: bool
    """True for an input frame; the others are to be predicted."""
    image: Tensor
    """[H, W, 3] uint8."""
    hits: Tensor
    """[M] int64: pixels, row by row, that a point of the Pandar64 falls on."""
    depths: Tensor
    """[M] metres of the nearest such point."""

    def depth_image(self) -> Tensor:
        """[H, W] metres; 0 where nothing was measured."""
        height, width = self.image.shape[:2]
        image = self.depths.new_zeros(height * width)
        image[self.hits] = self.depths
        return image.reshape(height, width)

    def to(self, device: torch.device) -> View:
        """Return a copy with its tensors on a device."""
        image, hits, depths = (tensor.to(device) for tensor in (self.image, self.hits, self.depths))
        return replace(self, target=self.target.to(device), image=image, hits=hits, depths=depths)


@dataclass(frozen=True)
class ClipScene:
    """A clip in the ego frame of its first frame; times run from 0 to 1 over it."""

    clip: Clip
    clock: Clock
    start: Gaussians
    views: list[View]
    """Views of all input and target frames, in the order of frames."""
    size: tuple[int, int]
    """Width and height of the images (pixels)."""

    @property
    def given(self) -> list[View]:
        """Views of the input frames."""
        return [view for view in self.views if view.given]

    @property
    def predicted(self) -> list[View]:
        """Views of the other frames."""
        return [view for view in self.views if not view.given]

    def to(self, device: torch.device) -> ClipScene:
        """Return a copy with its Gaussians on a device; views follow when they are drawn."""
        return replace(self, start=self.start.each(lambda tensor: tensor.to(device)))


def load_clip(
    log: Log, clip: Clip, camera: str, lift: Lift, options: StartOptions, data_factor: int = 1, seed: int = 0
) -> ClipScene:
    """Read a clip.

    Args:
        log: of the clip.
        clip: which frames.
        camera: whose images are drawn.
        lift: gives the points of a frame.
        options: of the first Gaussians.
        data_factor: images are scaled down by it.
        seed: of the first Gaussians.

    Raises:
        UserError: a frame can't be used, or its images are of several sizes.
    """
    frames = sorted({*clip.inputs, *clip.targets})
    for frame in frames:
        if reason := log.reason_against(clip.start + frame, (*clip.cameras, camera)):
            raise UserError(f"{log.folder}: frame {clip.start + frame}: {reason}")
    lifted = {frame: lift(log, clip.start + frame) for frame in frames}
    of_inputs = {clip.start + frame: lifted[frame] for frame in clip.inputs}
    clock = Clock.of(log, clip)

    @cache
    def image(name: str, number: int) -> np.ndarray:
        return read_pixels(log.cameras[name].images[number]).rgb

    views = [
        _view(log, clip, clock, camera, frame, image(camera, clip.start + frame), lifted[frame], data_factor)
        for frame in frames
    ]
    sizes = sorted({(view.image.shape[1], view.image.shape[0]) for view in views})
    if len(sizes) > 1:
        raise UserError(f"{log.folder}: images of {camera} are of {text(sizes[0])} and {text(sizes[-1])} pixels")
    start = begin(log, clip, of_inputs, options, seed, image)
    return ClipScene(clip, clock, start, views, sizes[0])


def _view(
    log: Log,
    clip: Clip,
    clock: Clock,
    name: str,
    frame: int,
    image: np.ndarray,
    lifted: Lifted,
    data_factor: int,
) -> View:
    camera, number = log.cameras[name], clip.start + frame
    height, width = image.shape[:2]
    small = (max(1, width // data_factor), max(1, height // data_factor))
    if data_factor > 1:
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    points = lifted.points[lifted.sensors == PANDAR64] + lifted.origin
    pixels, depths, inside = pixels_of(camera, number, points, width, height)
    column, row = (pixels[inside] * (small[0] / width, small[1] / height)).astype(np.int64).T
    hits, nearest = _nearest(row * small[0] + column, depths[inside].astype(np.float32))
    K = camera.K.copy()
    K[0], K[1] = K[0] * small[0] / width, K[1] * small[1] / height
    viewmat = np.linalg.inv(camera.camera_to_world[number]) @ log.ego_to_world[clip.start]
    target = Target(
        f"{name}/{frame:02d}",
        float(clock.at(camera.times[number])),
        torch.from_numpy(viewmat.astype(np.float32)),
        torch.from_numpy(K.astype(np.float32)),
        _step(camera.times, number) / clock.seconds,
    )
    image_tensor = torch.from_numpy(np.ascontiguousarray(image))
    return View(target, frame, frame in clip.inputs, image_tensor, torch.from_numpy(hits), torch.from_numpy(nearest))


def _step(times: np.ndarray, frame: int) -> float:
    """Seconds from a frame to the next; since the one before, where the next has no time; 0 where neither has one."""
    for later in (frame + 1, frame):
        if 0 < later < len(times) and 0 < times[later] - times[later - 1] < np.inf:
            return float(times[later] - times[later - 1])
    return 0.0


def _nearest(pixels: np.ndarray, depths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pixels of [M], and the smallest depth of each."""
    order = np.lexsort((depths, pixels))
    distinct, first = np.unique(pixels[order], return_index=True)
    return distinct, depths[order][first]
