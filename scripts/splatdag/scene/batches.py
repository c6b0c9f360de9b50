"""Batches of training views: random order, random crops, and photos halved at the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from splatdag.scene.camera_changes import PoseChange
from splatdag.scene.image_cache import copied_where_they_fit
from splatdag.scene.options import SplatOptions
from splatdag.scene.read_ahead import ReadAhead
from splatdag.scene.views import View, camera_tensors
from splatdag.splats.normalisation import Normalisation
from splatdag.training.ranks import ALONE, Ranks

LEAST_SIDE = 32
"""Least side of halved photos (pixels)."""
_AHEAD = 8
"""Least number of views to copy to the device ahead; those of two steps where they are more."""


@dataclass
class Batch:
    """Views of one size, to be rendered together."""

    views: Tensor
    """[C] indices of the training views."""
    viewmats: Tensor
    """[C, 4, 4] from the frame of training to the cameras."""
    Ks: Tensor
    """[C, 3, 3] intrinsics in pixels."""
    images_CHW3: Tensor
    """Colours in [0, 1], not multiplied by opacity."""
    alphas_CHW1: Tensor | None
    """Opacities in [0, 1]; None where all are opaque."""
    masks_CHW: Tensor | None
    """Masks of the pixels that count, bool; None is all."""
    depths: list[tuple[Tensor, Tensor]]
    """Pixels [M, 2] and depths [M] (units of training) of known points, for each view; empty without depth loss."""
    views_of_step: int
    """Views in all batches of the step, those of other ranks among them."""

    @property
    def share(self) -> float:
        """Share of this batch in the views of the step, which is its weight in the loss."""
        return len(self.views) / self.views_of_step

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.images_CHW3.shape[2], self.images_CHW3.shape[1]

    def targets(self, background: Tensor | None) -> Tensor:
        """Return the images that renders should equal, [C, H, W, 3]: photos over a background [3] (None: black)."""
        if self.alphas_CHW1 is None:
            return self.images_CHW3
        target = self.images_CHW3 * self.alphas_CHW1
        return target if background is None else target + background * (1 - self.alphas_CHW1)


def halved(batch: Batch, times: int) -> Batch:
    """Halve the views' width and height so many times, or as often as leaves sides of at least `LEAST_SIDE`.

    A pixel counts where all pixels that it covers do. A remainder at the right and lower border is cut off.
    """
    width, height = batch.size
    while times and min(width, height) >> times < LEAST_SIDE:
        times -= 1
    if not times:
        return batch
    factor = 2**times

    def mean(planes_CHWD: Tensor) -> Tensor:
        return avg_pool2d(planes_CHWD.permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1).contiguous()

    counted = None if batch.masks_CHW is None else mean(batch.masks_CHW[..., None].float())[..., 0] == 1
    Ks = batch.Ks.clone()
    Ks[:, :2] /= factor
    end = batch.viewmats.new_tensor([width // factor, height // factor])
    depths = [(pixels / factor, depth) for pixels, depth in batch.depths]
    depths = [(pixels[inside], depth[inside]) for pixels, depth in depths for inside in [(pixels < end).all(dim=1)]]
    if batch.alphas_CHW1 is None:
        images, alphas = mean(batch.images_CHW3), None
    else:  # colours count as much as they are seen
        alphas = mean(batch.alphas_CHW1)
        images = mean(batch.images_CHW3 * batch.alphas_CHW1) / alphas.clamp_min(1e-6)
    return Batch(batch.views, batch.viewmats, Ks, images, alphas, counted, depths, batch.views_of_step)


class TrainingViews:
    """Training views in rounds: each round has every view once, in random order, `batch_size` views per step."""

    def __init__(
        self,
        views: list[View],
        frame: Normalisation,
        options: SplatOptions,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.batch_size = min(options.batch_size, len(views))
        self.patch_size = options.patch_size
        self.options = options
        self.generator = torch.Generator().manual_seed(options.seed)
        self.left: list[int] = []
        cameras = [camera_tensors(view, frame, device) for view in views]
        self._viewmats = torch.cat([viewmat for viewmat, _ in cameras])
        self._Ks = torch.cat([K for _, K in cameras])
        if options.pose_noise:
            disturbance = PoseChange(len(views), options.pose_noise, torch.Generator().manual_seed(options.seed + 2))
            with torch.no_grad():
                self._viewmats = disturbance.to(device)(self._viewmats, torch.arange(len(views), device=device))
        self._views = views if ranks.alone else copied_where_they_fit(views, device)
        self._read_ahead = ReadAhead(self._views, device)
        self._shown: dict[int, View] = {}
        self._depths = [known_depths(view, frame, device) for view in views] if options.depth_loss else []

    def state(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        return {"left": self.left, "rng": self.generator.get_state()}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another run."""
        self.left = state["left"]
        self.generator.set_state(state["rng"].cpu())

    def next(self, step: int) -> list[Batch]:
        """Return this rank's views of a step, those of one size in one batch; steps count from 0."""
        if not self.left:
            self.left = torch.randperm(len(self._views), generator=self.generator).tolist()
        chosen, self.left = self.left[-self.batch_size :], self.left[: -self.batch_size]
        sizes: dict[tuple[int, ...], list[int]] = {}
        for view in chosen:
            sizes.setdefault(tuple(self._views[view].image_HW3.shape), []).append(view)
        times = max(0, self.options.num_downscales - step // self.options.resolution_schedule)
        # Crops are drawn for the views of all ranks, whose generators stay alike so.
        placed = self.ranks.shard([(view, self._window(view)) for views in sizes.values() for view in views])
        self._shown = self._read_ahead.take([view for view, _ in placed], self._upcoming())
        batches: dict[tuple[int, ...], list[tuple[int, tuple[slice, slice]]]] = {}
        for view, window in placed:
            batches.setdefault(tuple(self._views[view].image_HW3.shape), []).append((view, window))
        return [halved(self._batch(batch, len(chosen)), times) for batch in batches.values()]

    def _upcoming(self) -> list[int]:
        """Return indices of this rank's views of the next steps, as far as they are in this round.

        The next round's order is not drawn yet, and must not be drawn early. (Where views differ in size, a rank may
        get other views than these, which costs only time.)
        """
        found: list[int] = []
        ends = range(len(self.left), 0, -self.batch_size)
        for steps, end in enumerate(ends):
            if steps >= 2 and len(found) >= _AHEAD:
                break
            found += self.ranks.shard(self.left[max(0, end - self.batch_size) : end])
        return found

    def _batch(self, placed: list[tuple[int, tuple[slice, slice]]], views_of_step: int) -> Batch:
        index = torch.tensor([view for view, _ in placed], device=self._viewmats.device)
        windows = [window for _, window in placed]
        Ks = self._Ks[index]
        if self.patch_size is not None:
            Ks[:, :2, 2] -= Ks.new_tensor([[window[1].start or 0, window[0].start or 0] for window in windows])
        images = torch.stack([self._shown[view].image_HW3[window] for view, window in placed]).float() / 255
        depths = [self._known(view, window) for view, window in placed] if self._depths else []
        return Batch(
            index, self._viewmats[index], Ks, images, self._opacities(placed), self._counting(placed), depths,
            views_of_step,
        )  # fmt: skip

    def _window(self, view: int) -> tuple[slice, slice]:
        """Choose the rows and columns to train on: a random crop, or all."""
        if self.patch_size is None:
            return slice(None), slice(None)
        sides = []
        for side in self._views[view].image_HW3.shape[:2]:
            room = max(0, side - self.patch_size)
            start = int(torch.randint(0, room + 1, (), generator=self.generator))
            sides.append(slice(start, start + min(side, self.patch_size)))
        return sides[0], sides[1]

    def _opacities(self, placed: list[tuple[int, tuple[slice, slice]]]) -> Tensor | None:
        if all(self._shown[view].alpha_HW is None for view, _ in placed):
            return None
        alphas = [self._plane(self._shown[view].alpha_HW, view, 255)[window] for view, window in placed]
        return torch.stack(alphas)[..., None].float() / 255

    def _counting(self, placed: list[tuple[int, tuple[slice, slice]]]) -> Tensor | None:
        if all(self._shown[view].mask_HW is None for view, _ in placed):
            return None
        masks = [self._plane(self._shown[view].mask_HW, view, 1)[window] for view, window in placed]
        return torch.stack(masks).bool()

    def _plane(self, given: Tensor | None, view: int, otherwise: int) -> Tensor:
        image = self._shown[view].image_HW3
        return image.new_full(image.shape[:2], otherwise) if given is None else given.to(torch.uint8)

    def _known(self, view: int, window: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
        pixels, depths = self._depths[view]
        pixels = pixels - pixels.new_tensor([window[1].start or 0, window[0].start or 0])
        height, width = self._views[view].image_HW3[window].shape[:2]
        inside = ((pixels >= 0) & (pixels < pixels.new_tensor([width, height]))).all(dim=1)
        return pixels[inside], depths[inside]


def known_depths(view: View, frame: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return pixels [M, 2] and depths [M] (units of training) of the model's points in the photo, inside its mask."""
    points = np.zeros((0, 3)) if view.points_M3 is None else view.points_M3
    matrix = frame.world_to_camera(view.world_to_camera)
    seen = frame.points(points) @ matrix[:3, :3].T + matrix[:3, 3]
    seen = seen[seen[:, 2] > 0]
    pixels = (seen / seen[:, 2:]) @ view.K.T
    height, width = view.image_HW3.shape[:2]
    inside = ((pixels[:, :2] >= 0) & (pixels[:, :2] < (width, height))).all(axis=1)
    if view.mask_HW is not None:
        columns, rows = pixels[inside, :2].astype(np.int64).T
        inside[inside] = view.mask_HW.cpu().numpy()[rows, columns]
    return (
        torch.tensor(pixels[inside, :2], dtype=torch.float32, device=device),
        torch.tensor(seen[inside, 2], dtype=torch.float32, device=device),
    )
