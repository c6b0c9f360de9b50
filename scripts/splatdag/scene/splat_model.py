"""Trained model: Gaussians and, with `pose_opt` and `app_opt`, changes of the cameras and colours per photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splatdag.scene.appearance import FEATURES, Appearance
from splatdag.scene.camera_changes import PoseChange
from splatdag.scene.options import SplatOptions
from splatdag.splats.gaussians import SH_C0, Parameters, colors_of
from splatdag.splats.render import RenderMode, render


@dataclass
class SplatModel:
    """Gaussians, options and networks. Without `app_module`, parameters are those of `gaussians.Parameters`;
    with it, `features` [N, 32] and `colors` [N, 3] (logits) stand in for `sh0` and `shN`."""

    parameters: Parameters
    options: SplatOptions
    pose_adjust: PoseChange | None = None
    app_module: Appearance | None = None

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the networks, by their names in simple_trainer's checkpoints."""
        parts = {"pose_adjust": self.pose_adjust, "app_module": self.app_module}
        return {name: part for name, part in parts.items() if part is not None}

    def learnt(self) -> list[Tensor]:
        """Return every tensor that has a gradient, in an order that is always the same."""
        networks = [tensor for part in self.modules().values() for tensor in part.parameters()]
        return [*self.parameters.values(), *networks]

    def draw(
        self,
        viewmats: Tensor,
        Ks: Tensor,
        width: int,
        height: int,
        *,
        sh_degree: int | None = None,
        background: Tensor | None = None,
        views: Tensor | None = None,
        render_mode: RenderMode = "RGB",
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Render C cameras: image [C, H, W, 3 or 4], alpha [C, H, W, 1] and `render`'s info.

        Args:
            viewmats: [C, 4, 4] from the frame of training to the cameras.
            Ks: [C, 3, 3] intrinsics in pixels.
            width: of the image.
            height: of the image.
            sh_degree: degree to use; None is the options'.
            background: [3] colour; None is black, or white where the options say so.
            views: [C] which training photos these are, whose light to use; None is no photo.
            render_mode: as `render`'s.
        """
        options, parameters = self.options, self.parameters
        degree = options.sh_degree if sh_degree is None else sh_degree
        if background is None and options.white_bg:
            background = torch.ones(3, device=viewmats.device)
        if self.app_module is None:
            colors = colors_of(parameters)
        else:
            centers = torch.linalg.inv(viewmats)[:, None, :3, 3]
            colors = self._colors(parameters["means"] - centers, degree, views)
        return render(
            parameters["means"],
            parameters["quats"],
            parameters["scales"].exp(),
            torch.sigmoid(parameters["opacities"]),
            colors,
            viewmats,
            Ks,
            width,
            height,
            sh_degree=degree if self.app_module is None else None,
            near_plane=options.near_plane,
            far_plane=options.far_plane,
            render_mode=render_mode,
            antialiased=options.antialiased,
            absgrad=options.strategy.kind == "default" and options.strategy.absgrad,
            packed=options.packed,
            backgrounds=None if background is None else background.expand(len(viewmats), 3),
        )

    def _colors(self, directions: Tensor, sh_degree: int, views: Tensor | None) -> Tensor:
        assert self.app_module is not None
        return self.app_module(self.parameters["features"], self.parameters["colors"], directions, sh_degree, views)

    @torch.no_grad()
    def published(self) -> Parameters:
        """Return the Gaussians as every viewer takes them: with `app_opt`, in the colours of a photo code of zeros.

        These are constant: the network gets the mean of its inputs over all directions, degree 0.
        """
        if self.app_module is None:
            return self.parameters
        means = self.parameters["means"]
        colors = self._colors(torch.zeros_like(means)[None], 0, None)[0]
        geometry = {name: self.parameters[name] for name in ("means", "scales", "quats", "opacities")}
        return {**geometry, "sh0": (colors[:, None] - 0.5) / SH_C0, "shN": colors.new_zeros(len(colors), 0, 3)}


def start_model(start: Parameters, options: SplatOptions, views: int, device: torch.device) -> SplatModel:
    """Make the model that a training begins with.

    Args:
        start: Gaussians to start from.
        options: of the training.
        views: training photos.
        device: where to train.
    """
    generator = torch.Generator().manual_seed(options.seed + 3)
    if options.app_opt:
        colors = (start["sh0"][:, 0] * SH_C0 + 0.5).clamp(1e-3, 1 - 1e-3)
        geometry = {name: start[name] for name in ("means", "scales", "quats", "opacities")}
        features = torch.rand((len(colors), FEATURES), generator=generator)
        start = {**geometry, "features": features, "colors": torch.logit(colors)}
    model = SplatModel({name: tensor.to(device).requires_grad_() for name, tensor in start.items()}, options)
    if options.pose_opt:
        model.pose_adjust = PoseChange(views).to(device)
    if options.app_opt:
        model.app_module = Appearance(views, options.app_embed_dim, options.sh_degree, generator).to(device)
    return model
