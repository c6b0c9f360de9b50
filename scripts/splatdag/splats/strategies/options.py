"""Options of densification and pruning; names are gsplat's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from splatdag.workflow.options import Options


class StrategyOptions(Options):
    """Densification and pruning of Gaussians: gsplat's DefaultStrategy or MCMCStrategy."""

    kind: Literal["default", "mcmc"] = "default"
    """Densification by screen-space gradients, or Markov-chain Monte Carlo: relocation and noise."""
    refine_start_iter: int = Field(500, ge=0)
    """First step of densification."""
    refine_stop_iter: int = Field(15_000, ge=0)
    """No densification from this step on; simple_trainer's `mcmc` has 25000, as preset mcmc does."""
    refine_every: int = Field(100, gt=0)
    """Steps between two densifications."""
    cap_max: int | None = Field(None, gt=0)
    """Cap on the number of Gaussians; in `default`, those with the largest gradients grow while there is room."""

    prune_opa: float = Field(0.005, ge=0, lt=1)
    """`default`: Gaussians of lower opacity are removed."""
    grow_grad2d: float = Field(0.0002, ge=0)
    """`default`: Gaussians whose mean screen-space gradient is above this are duplicated or split."""
    grow_scale3d: float = Field(0.01, gt=0)
    """`default`: up to this size (times scene scale) a Gaussian is duplicated, above it is split."""
    grow_scale2d: float = Field(0.05, gt=0)
    """`default`: larger ones on screen (radius over the longest side) are split, until refine_scale2d_stop_iter."""
    prune_scale3d: float = Field(0.1, gt=0)
    """`default`: larger ones (times scene scale) are removed, once step > reset_every."""
    prune_scale2d: float = Field(0.15, gt=0)
    """`default`: larger ones on screen are removed, once step > reset_every, until refine_scale2d_stop_iter."""
    refine_scale2d_stop_iter: int = Field(0, ge=0)
    """`default`: size on screen counts up to this step."""
    reset_every: int = Field(3_000, gt=0)
    """`default`: steps between two resets of the opacities."""
    pause_refine_after_reset: int = Field(0, ge=0)
    """`default`: steps after a reset without densification."""
    absgrad: bool = False
    """`default`: sum absolute instead of signed gradients over pixels (with a larger grow_grad2d, such as 0.0006)."""
    revised_opacity: bool = False
    """`default`: opacity of split Gaussians chosen so that the pair covers what the one did."""

    noise_lr: float = Field(5e5, ge=0)
    """`mcmc`: strength of the noise on positions, times their learning rate."""
    min_opacity: float = Field(0.005, ge=0, lt=1)
    """`mcmc`: Gaussians of lower opacity are moved to where the opaque ones are."""
