"""Presets: values that replace the defaults of a training."""

from __future__ import annotations

from typing import Any

MCMC: dict[str, Any] = {
    "init_opa": 0.5,
    "init_scale": 0.1,
    "opacity_reg": 0.01,
    "scale_reg": 0.01,
    "strategy": {"kind": "mcmc", "refine_stop_iter": 25_000, "cap_max": 1_000_000},
}

TUNED: dict[str, Any] = {
    "save_ply": True,
    "pose_opt": True,
    "antialiased": True,
    "eval_steps": [3_000, 7_000, 30_000],
    "ply_steps": [3_000, 7_000, 30_000],
    "scale_reg": 0.0005,
    "scales_lr": 0.003,
    "means_lr": 0.00012,
    "strategy": {
        "reset_every": 100_000,
        "pause_refine_after_reset": 0,
        "prune_scale3d": 0.22,
        "prune_scale2d": 0.12,
        "prune_opa": 0.006,
        "grow_grad2d": 0.00035,
        "grow_scale3d": 0.012,
        "refine_stop_iter": 26_000,
        "refine_scale2d_stop_iter": 26_000,
    },
}

FAST: dict[str, Any] = {
    "max_steps": 1_000,
    "batch_size": 4,
    "num_downscales": 1,
    "resolution_schedule": 400,
    "sh_degree_interval": 250,
    "means_lr": 2.4e-4,
    "final_lr_factor": 0.34,
    "average_steps": 240,
    "opacity_reg": 0.01,
    "scale_reg": 0.01,
    "strategy": {
        "refine_start_iter": 125,
        "refine_stop_iter": 750,
        "refine_every": 25,
        "reset_every": 100_000,
    },
}

FAST_FINE: dict[str, Any] = {
    **FAST,
    "max_steps": 1_400,
    "resolution_schedule": 560,
    "average_steps": 336,
    "strategy": {**FAST["strategy"], "refine_stop_iter": 1_050},
}

FAST_MCMC: dict[str, Any] = {
    **MCMC,
    "max_steps": 1_500,
    "batch_size": 4,
    "num_downscales": 1,
    "resolution_schedule": 520,
    "sh_degree_interval": 250,
    "final_lr_factor": 0.34,
    "average_steps": 255,
    "strategy": {
        **MCMC["strategy"],
        "refine_start_iter": 125,
        "refine_stop_iter": 1_245,
        "refine_every": 25,
    },
}

SMALL: dict[str, Any] = {
    "max_steps": 1_500,
    "eval_steps": [1_500],
    "sh_degree": 1,
    "sh_degree_interval": 200,
    "max_init_points": 12_000,
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
        "cap_max": 16_000,
    },
}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "mcmc": MCMC,
    "tuned": TUNED,
    "fast": FAST,
    "fast_fine": FAST_FINE,
    "fast_mcmc": FAST_MCMC,
    "small": SMALL,
}

MEANINGS = {
    "default": "the defaults of gsplat 1.5.3's `simple_trainer.py default`, but `data_factor` is 1",
    "mcmc": "those of `simple_trainer.py mcmc`: a fixed number of Gaussians, moved to where they are needed",
    "tuned": "the hyper-parameters of the old training scripts",
    "fast": "four views a step, coarse first, no opacity reset, little decay but the mean of the last steps",
    "fast_fine": "`fast`, with time for more Gaussians",
    "fast_mcmc": "`mcmc` in the way of `fast`: for few photos, where growing by gradients adds too many Gaussians",
    "small": "a budget that suits a CPU: small photos, few Gaussians, large steps",
}
"""Meanings of the presets, for the table in config/README.md."""
