"""Options of a training, for every area that trains splats. Names are those of gsplat 1.5.3's simple_trainer."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from splatdag.scene.notices import WITHOUT_EFFECT, notices
from splatdag.scene.presets import MEANINGS, PRESETS
from splatdag.splats.strategies.options import StrategyOptions
from splatdag.training.options import TrainingOptions
from splatdag.workflow.options import Options


class SplatOptions(TrainingOptions):
    """Training of one scene. Steps are counted from 1."""

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    preset_meanings: ClassVar[dict[str, str]] = MEANINGS
    auto: ClassVar[dict[str, str]] = {"cpu": "small", "gpu": "fast"}
    not_in_key: ClassVar[Set[str]] = {*WITHOUT_EFFECT, "checkpoint_every", "image_cache"}
    refused: ClassVar[dict[str, str]] = {
        "compression": "compressed splats are not supported; publish splat.ply",
        "use_bilateral_grid": "bilateral grids are not supported; app_opt evens out exposure",
        "use_fused_bilagrid": "bilateral grids are not supported; app_opt evens out exposure",
        "bilateral_grid_*": "bilateral grids are not supported; app_opt evens out exposure",
        "with_ut": "3DGUT is not supported; photos are undistorted when they are loaded",
        "with_eval3d": "3DGUT is not supported; photos are undistorted when they are loaded",
        "post_processing": "neither bilateral grids nor PPISP are supported; app_opt evens out exposure",
        "load_exposure": "exposure is not read from EXIF; app_opt evens it out",
        "sh_fp16": "spherical harmonics are 32-bit floats; leave sh_fp16 out",
        "ckpt": "use python -m splatdag.scene.evaluate; a killed training continues by itself",
    }

    preset: Literal["auto", "default", "mcmc", "tuned", "fast", "fast_fine", "fast_mcmc", "small"] = "auto"
    """Preset of the other options' defaults; auto: `small` on a CPU, `fast` on a GPU, as log and manifest then say."""
    max_steps: int = Field(30_000, gt=0)
    """Optimisation steps."""
    steps_scaler: float = Field(1.0, gt=0)
    """Factor on all numbers of steps: max_steps, *_steps, sh_degree_interval and the strategy's."""
    batch_size: int = Field(1, gt=0)
    """Views per step, of all GPUs together; learning rates grow with its root. Larger than the number of views, it is
    lowered to that."""
    eval_steps: list[PositiveInt] = [7_000, 30_000]
    """Steps after which the held-out photos are evaluated; the last step always is."""
    save_steps: list[PositiveInt] = [7_000, 30_000]
    """Steps after which `ckpts/` gets a file; the last step always."""
    save_ply: bool = False
    """Also write `ply/` at ply_steps and the last step."""
    ply_steps: list[PositiveInt] = [7_000, 30_000]
    """Steps after which `ply/` gets a file, with save_ply."""
    disable_video: bool = False
    """No fly-through in `videos/` after evaluations."""
    render_traj_path: Literal["interp", "ellipse", "spiral", "raw"] = "interp"
    """Path of the fly-through: through the cameras, around the scene, a spiral, or from camera to camera."""
    lpips_net: Literal["alex", "vgg"] = "alex"
    """Network of LPIPS, which is measured where its weights are on disk; both get colours from -1 to 1, as LPIPS is
    defined, whereas simple_trainer gives `vgg` colours from 0 to 1, so its figures differ."""
    checkpoint_every: int = Field(1_000, gt=0)
    """Steps between two saves of the training state."""
    image_cache: Literal["auto", "device", "host", "disk"] = "auto"
    """Place of the photos: `auto` takes the first of GPU, memory and scratch file (TMPDIR) with room to spare."""
    seed: int = Field(42, ge=0)
    """Seed of initialisation, sampling and densification."""

    init_type: Literal["sfm", "random"] = "sfm"
    """Start from the model's points, or from random ones."""
    init_num_pts: int = Field(100_000, gt=0)
    """Random points to start from, in a cube around the cameras' centre."""
    init_extent: float = Field(3.0, gt=0)
    """Half the side of the cube of random points, times the scene scale."""
    max_init_points: int | None = Field(None, gt=0)
    """Largest number of points to take from the model, those seen in most photos. Unset: all."""
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
    packed: bool = False
    """CUDA: keep only visible Gaussians during rasterisation; less memory, a little slower."""
    random_bkgd: bool = False
    """A random background colour in each step, which discourages transparency."""
    white_bg: bool = False
    """A white background in place of a black one."""
    num_downscales: int = Field(0, ge=0, le=4)
    """Times that photos are halved at the start of the training (splatfacto's name); coarse first is sooner done."""
    resolution_schedule: int = Field(3_000, gt=0)
    """Steps after which photos are twice as large, with num_downscales."""
    patch_size: int | None = Field(None, ge=16)
    """Train on random crops of this side (pixels)."""

    means_lr: float = Field(1.6e-4, ge=0)
    """Learning rate of the positions, times the scene scale; falls to final_lr_factor over the run."""
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
    final_lr_factor: float = Field(0.01, gt=0, le=1)
    """Share of means_lr and pose_opt_lr that is left in the last step."""
    average_steps: int = Field(0, ge=0)
    """The result is the mean of the Gaussians of so many last steps, as far as they come after densification."""
    visible_adam: bool = False
    """Update only Gaussians that the step's views show (Taming 3DGS)."""
    sparse_grad: bool = False
    """Sparse gradients and lazy moments (SparseAdam); needs packed."""

    opacity_reg: float = Field(0.0, ge=0)
    """Weight of the mean opacity in the loss."""
    scale_reg: float = Field(0.0, ge=0)
    """Weight of the mean size in the loss."""
    depth_loss: bool = False
    """Hold the rendered disparity to that of the model's points (L1)."""
    depth_lambda: float = Field(1e-2, ge=0)
    """Weight of the depth loss."""
    validation_views: int = Field(0, ge=0)
    """Training photos set aside to choose the best step: the Gaussians with the best PSNR on them are the result; 0 is
    none."""
    validate_every: int = Field(100, gt=0)
    """Steps between two evaluations of the validation views."""
    patience: int = Field(10, gt=0)
    """Evaluations of the validation views without a better result, in a row, after which the training ends."""

    pose_opt: bool = False
    """Optimise the cameras of the training photos."""
    pose_opt_lr: float = Field(1e-5, ge=0)
    """Learning rate of the cameras; falls to final_lr_factor over the run."""
    pose_opt_reg: float = Field(1e-6, ge=0)
    """Weight decay of the cameras' changes."""
    pose_noise: float = Field(0.0, ge=0)
    """Disturb the cameras of the training photos, to test pose_opt."""
    app_opt: bool = False
    """Colours from a small network with a code per training photo, for changing light; PLY files get the mean look."""
    app_embed_dim: int = Field(16, ge=0)
    """Length of the code of a photo."""
    app_opt_lr: float = Field(1e-3, ge=0)
    """Learning rate of the network; ten times as much for the codes."""
    app_opt_reg: float = Field(1e-6, ge=0)
    """Weight decay of the codes."""

    disable_viewer: bool = False
    """Does nothing: there is no viewer to disable."""
    port: int = 8080
    """Does nothing: there is no viewer."""
    tb_every: int = 100
    """Does nothing: the curves are in curves.png."""
    tb_save_image: bool = False
    """Does nothing: pictures are in renders/."""
    strategy: StrategyOptions = StrategyOptions()
    """Densification and pruning."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.unresolved:
            return self
        if self.sparse_grad and not self.packed:
            raise ValueError("sparse_grad needs packed")
        if self.sparse_grad and self.visible_adam:
            raise ValueError("sparse_grad and visible_adam exclude each other")
        if self.strategy.kind == "mcmc" and self.strategy.cap_max is None:
            raise ValueError("strategy.cap_max: the mcmc strategy needs a cap, such as 1000000 (preset mcmc has it)")
        return self

    def notices(self) -> list[str]:
        """Return settings without effect, a line each."""
        return list(notices(self))

    def scaled(self) -> Self:
        """Return the options with `steps_scaler` applied."""
        factor = self.steps_scaler
        if factor == 1:
            return self

        def times(steps: int) -> int:
            return max(1, int(steps * factor)) if steps else 0

        lists = {
            name: [times(step) for step in getattr(self, name)] for name in ("eval_steps", "save_steps", "ply_steps")
        }
        single = {
            name: times(getattr(self, name))
            for name in ("max_steps", "average_steps", "sh_degree_interval", "resolution_schedule", "validate_every")
        }
        strategy = {
            name: times(getattr(self.strategy, name))
            for name in (
                "refine_start_iter",
                "refine_stop_iter",
                "refine_every",
                "reset_every",
                "refine_scale2d_stop_iter",
                "pause_refine_after_reset",
            )
        }
        changed_strategy = self.strategy.model_copy(update=strategy)
        return self.model_copy(update={**lists, **single, "strategy": changed_strategy, "steps_scaler": 1.0})


class TrainOptions(SplatOptions):
    """Training of one scene from posed photos."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        **SplatOptions.presets,
        "small": {**SplatOptions.presets["small"], "max_image_size": 640},
    }
    refused: ClassVar[dict[str, str]] = {
        **SplatOptions.refused,
        "ncore*": "NCore data is not supported; give photos, a COLMAP dataset or a transforms.json",
        "train_list": "give what is held out instead, as split: a file with their names",
        "eval_list": "give the file as split",
        "vis_concat_gt": "renders always show ground truth and prediction side by side; leave vis_concat_gt out",
        "data_type": "only COLMAP data and photos are supported; leave data_type out",
        "camera_model": "photos are undistorted to pinhole views when they are loaded; leave camera_model out",
    }
    may_be_empty: ClassVar[tuple[str, ...]] = ("eval_match_string",)

    data_factor: int = Field(1, ge=1)
    """Photos are scaled down by this factor; `images_<factor>/` is used where it is there."""
    max_image_size: int | None = Field(None, ge=16)
    """Photos whose longest side is larger are scaled down further, to this (pixels)."""
    split: str = "test_every"
    """Held-out photos: `test_every`, `all` (train on all and evaluate on the same), or a list file's path."""
    test_every: int = Field(8, ge=1)
    """Every n-th photo, from the first in name order, is held out for evaluation; 1 is `split: all`."""
    match_string: str | None = None
    """Train only on photos with this word in their names (any case, letters and digits around it do not match)."""
    eval_match_string: str | None = None
    """Evaluate only on photos with this word; unset: as match_string; empty: all that are held out."""
    normalize_world_space: bool = True
    """Train in a frame where the cameras are centred and of median distance one."""
    global_scale: float = Field(1.0, gt=0)
    """Factor on the scene scale, which learning rate and densification use."""

    @classmethod
    def _refuses(cls, key: str, value: Any) -> bool:
        return super()._refuses(key, None if value == _ACCEPTED.get(key) else value)

    def notices(self) -> list[str]:
        """Return settings without effect, a line each."""
        found = super().notices()
        if self.split != "test_every" and self.test_every != TrainOptions.model_fields["test_every"].default:
            found.append(f"test_every: without effect, since split is {self.split}")
        return found


_ACCEPTED = {"data_type": "colmap", "camera_model": "pinhole"}
"""Values of simple_trainer's options that are accepted, since they name what is done anyway."""


class EvaluateOptions(Options):
    """Evaluation of a run, or of a file of splats, on a dataset; options that are not set are as in the training."""

    data_factor: int | None = Field(None, ge=1)
    """Photos are scaled down by this factor."""
    max_image_size: int | None = Field(None, ge=16)
    """Photos whose longest side is larger are scaled down further, to this (pixels)."""
    lpips_net: Literal["alex", "vgg"] | None = None
    """Network of LPIPS, which is measured where its weights are on disk."""
    split: str | None = None
    """Photos to evaluate on: `all`, `test_every`, or a list file's path. Unset: `test_every` for a checkpoint of
    simple_trainer on the dataset that it was trained on, else `all`."""
    test_every: int | None = Field(None, ge=1)
    """Every n-th photo is held out, with `split: test_every`."""
    eval_match_string: str | None = None
    """Evaluate only on photos with this word in their names; unset or empty: on all."""
    antialiased: bool | None = None
    """Opacity is lowered where the screen-space blur enlarges a Gaussian (Mip-Splatting)."""
    white_bg: bool | None = None
    """A white background in place of a black one."""


class RendersOptions(Options):
    """Evaluation of pictures that any program rendered."""

    may_be_empty: ClassVar[tuple[str, ...]] = ("eval_match_string",)

    data_factor: int = Field(1, ge=1)
    """Photos are taken from `images_<factor>/` where that is there; larger ones are scaled to their renders anyway."""
    white_bg: bool = False
    """Transparent photos and pictures show white in place of black."""
    lpips_net: Literal["alex", "vgg"] = "alex"
    """Network of LPIPS, which is measured where its weights are on disk."""
    split: str = "test_every"
    """Held-out photos of pictures `val_step…`, which are numbered: `test_every`, `all`, or a list file's path."""
    test_every: int = Field(8, ge=1)
    """Every n-th photo was held out."""
    match_string: str | None = None
    """The training was of photos with this word in their names."""
    eval_match_string: str | None = None
    """The evaluation was of photos with this word in their names; unset: as match_string; empty: of all held out."""
