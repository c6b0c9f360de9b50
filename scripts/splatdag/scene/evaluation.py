"""Evaluation of a splat on held-out views: figures, preview and fly-through."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splatdag.scene.image_cache import TierChoice
from splatdag.scene.load import Scene
from splatdag.scene.measure import Distance, Pair, check_mask, check_size, measure, with_pictures
from splatdag.scene.preview import spread, write_preview
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.views import View, camera_tensors
from splatdag.splats.lpips import Lpips, Net, NoLpips, lpips_where_possible
from splatdag.splats.normalisation import Normalisation
from splatdag.workflow.errors import UserError

_CPU = torch.device("cpu")


def check_views(views: list[View]) -> None:
    """Stop at photos that can't be measured.

    Raises:
        UserError: the smallest photo is too small, or a mask leaves too little.
    """
    sizes = [(*view.image_HW3.shape[:2], view.name) for view in views]
    height, width, name = min(sizes, key=lambda of: min(of[:2]))
    check_size(name, width, height)
    for view in views:
        check_mask(view.name, view.mask_HW)


@dataclass
class HeldOut:
    """Photos to evaluate on: none is opened before it is first evaluated."""

    scene: Scene
    names: list[str]
    """Names of the photos."""
    trained_on: list[View]
    """Views of the training, loaded already; some may be evaluated, too."""
    lpips_net: Net
    image_cache: TierChoice
    threads: int
    device: torch.device
    kept: str = field(default="", init=False)
    """Number, size and place of the photos that were opened, for people."""

    @cached_property
    def views(self) -> list[View]:
        """The photos, opened on first use.

        Raises:
            UserError: as `Scene.load` and `check_views`.
        """
        known = {view.name: view for view in self.trained_on}
        if closed := [name for name in self.names if name not in known]:
            loaded = self.scene.load(closed, self.threads, image_cache=self.image_cache, device=self.device)
            self.kept = loaded.kept
            known |= {view.name: view for view in loaded.views}
        views = [known[name] for name in self.names]
        check_views(views)
        return views

    @cached_property
    def lpips(self) -> Lpips | NoLpips:
        """LPIPS, where its weights are on disk and the photos are large enough."""
        least_side = min(min(view.image_HW3.shape[:2]) for view in self.views)
        return lpips_where_possible(self.lpips_net, least_side, self.device)

    @property
    def with_trained(self) -> list[View]:
        """All photos of the run, in name order."""
        every = {view.name: view for view in (*self.trained_on, *self.views)}
        return [every[name] for name in sorted(every)]


@torch.no_grad()
def predict(model: SplatModel, view: View, frame: Normalisation) -> Tensor:
    """Render a view: image [H, W, 3] in [0, 1], on the model's device."""
    height, width = view.image_HW3.shape[:2]
    camera = camera_tensors(view, frame, model.parameters["means"].device)
    return model.draw(*camera, width, height)[0][0].clamp(0, 1)


@dataclass
class Evaluation:
    """Figures of a model on held-out views."""

    figures: dict[str, Any]
    """Figures in the form of `measure`."""
    seconds_per_image: float
    """Wall time of rendering one view."""


def evaluate(
    model: SplatModel,
    views: list[View],
    frame: Normalisation,
    mean_color: Tensor,
    *,
    measure_lpips: Distance | None = None,
    render: Callable[[int], Path] | None = None,
) -> Evaluation:
    """Render views and measure them beside their photos.

    Args:
        model: Gaussians in the frame of training.
        views: held-out views.
        frame: from the world to the frame of training.
        mean_color: [3] mean colour of the training views, the trivial baseline.
        measure_lpips: None leaves LPIPS out.
        render: where the picture of a view goes, ground truth | prediction; None writes none.
    """
    seconds = 0.0

    def rendered() -> Iterator[Pair]:
        nonlocal seconds
        for view in views:
            begin = time.perf_counter()
            image = predict(model, view, frame)
            if image.is_cuda:
                torch.cuda.synchronize(image.device)
            seconds += time.perf_counter() - begin
            yield pair_of(image, view, model)

    pairs: Iterable[Pair] = rendered() if render is None else with_pictures(rendered(), render)
    figures = measure(pairs, mean_color, measure_lpips)
    return Evaluation(figures, seconds / max(len(views), 1))


def pair_of(image: Tensor, view: View, model: SplatModel) -> Pair:
    """Return a rendered view beside its photo, on the device of the image."""
    there = view.to(image.device)
    return Pair(view.name, image, there.target(model.options.white_bg), there.mask_HW)


def mean_color(views: list[View], white: bool = False, device: torch.device = _CPU) -> Tensor:
    """Compute the mean colour [3] of the pixels that count in views, in [0, 1], on a device.

    Raises:
        UserError: nothing counts.
    """
    means = []
    for view in (view.to(device) for view in views):
        target = view.target(white)
        counted = target.flatten(0, 1) if view.mask_HW is None else target[view.mask_HW]
        if len(counted):
            means.append(counted.mean(dim=0))
    if not means:
        raise UserError("after scaling, the masks leave nothing of any photo; white is what counts")
    return torch.stack(means).mean(dim=0)


def write_preview_of(path: Path, model: SplatModel, views: list[View], frame: Normalisation) -> None:
    """Write a preview of some views spread over all."""
    write_preview(path, (pair_of(predict(model, view, frame), view, model) for view in spread(views)))


@torch.no_grad()
def write_flythrough(
    path: Path, model: SplatModel, views: list[View], frame: Normalisation, points_P3: np.ndarray
) -> None:
    """Write a video along a path past the views (`render_traj_path`), as large as the first of them.

    Args:
        path: the file; not written where there are fewer than two views.
        model: Gaussians in the frame of training.
        views: all views of the scene, in name order.
        frame: from the world to the frame of training.
        points_P3: points of the scene in the world.
    """
    from splatdag.formats.video import write_video
    from splatdag.scene.flythrough import FPS, camera_path  # half a second of imports that most stages don't need

    poses = camera_path([view.world_to_camera for view in views], model.options.render_traj_path, points_P3)
    if len(poses):
        write_video(path, _film(model, views[0], frame, poses), FPS)


def _film(model: SplatModel, like: View, frame: Normalisation, poses: np.ndarray) -> Iterator[np.ndarray]:
    for index, pose in enumerate(poses):
        if index == 0 or not np.array_equal(pose, poses[index - 1]):
            image = predict(model, replace(like, world_to_camera=pose), frame)
            picture = (image * 255).round().to(torch.uint8).cpu().numpy()
        yield picture
