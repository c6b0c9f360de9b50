"""Options of a training, for every area that trains splats. Names are those of gsplat 1.5.3's simple_trainer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from splatdag.workflow.options import Options


class StrategyOptions(Options):
    """Densification and pruning, as gsplat's DefaultStrategy."""

    prune_opa: float = Field(0.005, ge=0, lt=1)
    """Gaussians of lower opacity are removed."""
    grow_grad2d: float = Field(0.0002, ge=0)
    """Gaussians whose mean screen-space gradient is above this are duplicated or split."""
    grow_scale3d: float = Field(0.01, gt=0)
    """Up to this size (times scene scale) a Gaussian is duplicated, above it is split."""
    prune_scale3d: float = Field(0.1, gt=0)
    """Gaussians larger than this (times scene scale) are removed, once step > reset_every."""
    refine_start_iter: int = Field(500, ge=0)
    """First step of densification."""
    refine_stop_iter: int = Field(15_000, ge=0)
    """No densification from this step on."""
    refine_every: int = Field(100, gt=0)
    """Steps between two densifications."""
    reset_every: int = Field(3_000, gt=0)
    """Steps between two resets of the opacities."""
    pause_refine_after_reset: int = Field(0, ge=0)
    """Steps after a reset without densification."""
    absgrad: bool = False
    """Sum absolute instead of signed gradients over pixels (needs a larger grow_grad2d, such as 0.0006)."""
    revised_opacity: bool = False
    """Opacity of split Gaussians chosen so that the pair covers what the one did."""
    max_gaussians: int | None = Field(None, gt=0)
    """Cap on the number of Gaussians; when there is not room for all, those with the largest gradients grow."""


_SMALL: dict[str, Any] = {
    "max_steps": 1_500,
    "eval_steps": [1_500],
    "sh_degree": 1,
    "sh_degree_interval": 200,
    "init_num_pts": 12_000,
    "means_lr": 4.8e-4,
    "scales_lr": 1.5e-2,
    "opacities_lr": 1.5e-1,
    "quats_lr": 3e-3,
    "sh0_lr": 7.5e-3,
    "shN_lr": 3.75e-4,
    "strategy": {
        "prune_opa": 0.01,
        "absgrad": True,
        "grow_grad2d": 0.002,
        "refine_start_iter": 200,
        "refine_stop_iter": 1_050,
        "reset_every": 100_000,
        "revised_opacity": True,
        "max_gaussians": 16_000,
    },
}


class SplatOptions(Options):
    """Training of one scene. Steps are counted from 1."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "small": _SMALL}

    preset: Literal["default", "small"] = "default"
    """Where the other defaults come from: simple_trainer's, or a small budget that suits a CPU."""
    max_steps: int = Field(30_000, gt=0)
    """Optimisation steps."""
    eval_steps: list[PositiveInt] = [7_000, 30_000]
    """Steps after which the held-out photos are evaluated; the last step always is."""
    checkpoint_every: int = Field(1_000, gt=0)
    """Steps between two saves of the training state."""
    seed: int = Field(42, ge=0)
    """Seed of initialisation, sampling and densification."""

    init_num_pts: int | None = Field(None, gt=0)
    """Points to start from; of more, those seen in most photos are taken. Unset: all."""
    init_opa: float = Field(0.1, gt=0, lt=1)
    """Opacity at the start."""
    init_scale: float = Field(1.0, gt=0)
    """Size at the start, times the distance to the three nearest points."""
    sh_degree: int = Field(3, ge=0, le=3)
    """Degree of the spherical harmonics."""
    sh_degree_interval: int = Field(1_000, gt=0)
    """Steps after which one degree more is used."""
    ssim_lambda: float = Field(0.2, ge=0, le=1)
    """Weight of 1 - SSIM in the loss; the rest is L1."""
    near_plane: float = Field(0.01, gt=0)
    """Nearest distance that is drawn (normalised scene units)."""
    far_plane: float = Field(1e10, gt=0)
    """Farthest distance that is drawn (normalised scene units)."""
    antialiased: bool = False
    """Opacity is lowered where the screen-space blur enlarges a Gaussian (Mip-Splatting)."""
    random_bkgd: bool = False
    """A random background colour in each step, which discourages transparency."""

    means_lr: float = Field(1.6e-4, ge=0)
    """Learning rate of the positions, times the scene scale; falls to 1 % over the run."""
    scales_lr: float = Field(5e-3, ge=0)
    """Learning rate of the log scales."""
    opacities_lr: float = Field(5e-2, ge=0)
    """Learning rate of the opacity logits."""
    quats_lr: float = Field(1e-3, ge=0)
    """Learning rate of the rotations."""
    sh0_lr: float = Field(2.5e-3, ge=0)
    """Learning rate of the base colour."""
    shN_lr: float = Field(2.5e-3 / 20, ge=0)
    """Learning rate of the view-dependent colour."""
    opacity_reg: float = Field(0.0, ge=0)
    """Weight of the mean opacity in the loss."""
    scale_reg: float = Field(0.0, ge=0)
    """Weight of the mean size in the loss."""
    strategy: StrategyOptions = StrategyOptions()
    """Densification and pruning."""
