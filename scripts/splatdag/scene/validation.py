"""Early stopping: some training views are set aside, and the Gaussians that do best on them are the result."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch

from splatdag.scene.options import SplatOptions
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.views import View, camera_tensors
from splatdag.splats.normalisation import Normalisation
from splatdag.workflow.errors import UserError

logger = logging.getLogger(__name__)


class Validation:
    """Evaluations of the views set aside, the best Gaussians so far, and the decision when to end."""

    def __init__(self, views: list[View], frame: Normalisation, options: SplatOptions, device: torch.device) -> None:
        self.options = options
        self.device = device
        self.views = [(view, camera_tensors(view, frame, device)) for view in views]
        self.best: dict[str, Any] = {"step": 0, "psnr": -math.inf, "parameters": {}, "looks": 0}

    @classmethod
    def set_aside(
        cls, views: list[View], frame: Normalisation, options: SplatOptions, device: torch.device
    ) -> tuple[list[View], Validation | None]:
        """Return the views to train on, and the validation on others, spread evenly; None without `validation_views`.

        Raises:
            UserError: too few views.
        """
        count = options.validation_views
        if not count:
            return views, None
        if count >= len(views):
            raise UserError(f"validation_views: {count} of {len(views)} training photos can't be set aside; lower it")
        chosen = {int(index) for index in (np.arange(count) + 0.5) * len(views) / count}
        logger.info("set aside to choose the best step by: %s", ", ".join(views[i].name for i in sorted(chosen)))
        left = [view for index, view in enumerate(views) if index not in chosen]
        return left, cls([views[index] for index in sorted(chosen)], frame, options, device)

    def state(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        return self.best

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another run."""
        self.best = state

    @staticmethod
    def is_due(options: SplatOptions, step: int) -> bool:
        """Tell whether an evaluation is due after this many steps: every `validate_every`, and after the last."""
        return bool(options.validation_views) and (step % options.validate_every == 0 or step == options.max_steps)

    @torch.no_grad()
    def ends(self, model: SplatModel, step: int) -> bool:
        """Evaluate if it is due after this many steps, and tell whether the training should end."""
        if not self.is_due(self.options, step):
            return False
        errors = []
        for kept, camera in self.views:
            view = kept.to(self.device)
            target = view.target(self.options.white_bg)
            image = model.draw(*camera, target.shape[1], target.shape[0])[0][0].clamp(0, 1)
            error = (image - target).square()
            errors.append(float(error.mean() if view.mask_HW is None else error[view.mask_HW].mean()))
        psnr = float(-10 * np.log10(np.maximum(errors, 1e-10)).mean())
        if not math.isfinite(psnr):
            raise UserError(f"step {step}: the photos set aside can't be drawn any more; lower the learning rates")
        if psnr > self.best["psnr"]:
            copies = {name: tensor.detach().clone() for name, tensor in model.parameters.items()}
            modules = {
                name: {key: value.clone() for key, value in module.state_dict().items()}
                for name, module in model.modules().items()
            }
            self.best = {"step": step, "psnr": psnr, "parameters": copies, "modules": modules, "looks": 0}
        else:
            self.best["looks"] += 1
        return self.best["looks"] >= self.options.patience

    def restore(self, model: SplatModel) -> int:
        """Put the best Gaussians back into the model; returns after how many steps they were."""
        logger.info("best on the photos set aside: %.2f dB after step %d", self.best["psnr"], self.best["step"])
        for name, tensor in self.best["parameters"].items():
            model.parameters[name] = tensor.requires_grad_()
        for name, module in model.modules().items():
            module.load_state_dict(self.best["modules"][name])
        return self.best["step"]
