"""Settings of a training without effect, reported when the config is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from splatdag.workflow.options import changed, differences

if TYPE_CHECKING:
    from splatdag.scene.options import SplatOptions

WITHOUT_EFFECT = ("disable_viewer", "port", "tb_every", "tb_save_image")
"""Options that simple_trainer has and that do nothing here."""
_OF_DEFAULT = (
    "prune_opa", "grow_grad2d", "grow_scale3d", "grow_scale2d", "prune_scale3d", "prune_scale2d",
    "refine_scale2d_stop_iter", "reset_every", "pause_refine_after_reset", "absgrad", "revised_opacity",
)  # fmt: skip
_OF_MCMC = ("noise_lr", "min_opacity")
_NEEDED = {
    "save_ply": ("ply_steps",),
    "num_downscales": ("resolution_schedule",),
    "depth_loss": ("depth_lambda",),
    "validation_views": ("validate_every", "patience"),
    "pose_opt": ("pose_opt_lr", "pose_opt_reg"),
    "app_opt": ("app_embed_dim", "app_opt_lr", "app_opt_reg"),
}
"""Options that have an effect only while another is on, by that one."""


def notices(options: SplatOptions) -> Iterator[str]:
    """Yield a line for each setting that has no effect beside the others."""
    given, strategy = changed(options), options.scaled().strategy
    steps = options.scaled().max_steps

    def some(names: tuple[str, ...]) -> str:
        return " and ".join(name for name in names if name in given)

    unused = some(WITHOUT_EFFECT)
    if unused:
        yield f"{unused}: without effect, since there is no viewer and no TensorBoard"
    own, others = (_OF_MCMC, _OF_DEFAULT) if strategy.kind == "mcmc" else (_OF_DEFAULT, _OF_MCMC)
    beside_preset = differences(options)
    foreign = [f"strategy.{name}" for name in others if name in beside_preset.get("strategy", {})]
    if foreign:
        yield f"{' and '.join(foreign)}: without effect, since strategy.kind is {strategy.kind}"
    last = min(strategy.refine_stop_iter, steps)
    if strategy.kind == "default":
        sizes = some(("strategy.prune_scale3d", "strategy.prune_scale2d"))
        if sizes and last <= strategy.reset_every + 1:
            yield (
                f"{sizes}: without effect, since size is looked at after step {strategy.reset_every:,}"
                f" (strategy.reset_every) and densification ends at step {last:,}"
            )
        elif "strategy.prune_scale2d" in given and strategy.refine_scale2d_stop_iter <= strategy.reset_every:
            yield "strategy.prune_scale2d: without effect, since refine_scale2d_stop_iter is not beyond reset_every"
        if "strategy.grow_scale2d" in given and not strategy.refine_scale2d_stop_iter:
            yield "strategy.grow_scale2d: without effect, since strategy.refine_scale2d_stop_iter is 0"
        if strategy.pause_refine_after_reset >= strategy.reset_every:
            yield "strategy.pause_refine_after_reset: not below reset_every, so nothing is ever densified"
    if some(tuple(f"strategy.{name}" for name in own)) and last <= strategy.refine_start_iter:
        yield f"strategy: without effect, since densification would begin after step {strategy.refine_start_iter:,}"
    for switch, names in _NEEDED.items():
        if not getattr(options, switch) and some(names):
            yield f"{some(names)}: without effect without {switch}"
    if "average_steps" in given and options.average_steps and steps <= strategy.refine_stop_iter:
        yield f"average_steps: without effect, since densification ends at step {strategy.refine_stop_iter:,}"
    if options.init_type == "random" and "max_init_points" in beside_preset:
        yield "max_init_points: without effect, since init_type is random"
    if options.disable_video and "render_traj_path" in beside_preset:
        yield "render_traj_path: without effect, since disable_video is on"
    if not options.sh_degree and "sh_degree_interval" in beside_preset:
        yield "sh_degree_interval: without effect, since sh_degree is 0"
    if "shN_lr" in beside_preset and (options.app_opt or not options.sh_degree):
        yield f"shN_lr: without effect, since {'app_opt is on' if options.app_opt else 'sh_degree is 0'}"
    if options.init_type == "sfm" and some(("init_num_pts", "init_extent")):
        yield f"{some(('init_num_pts', 'init_extent'))}: without effect, since init_type is sfm"
    if options.random_bkgd and options.white_bg:
        yield "random_bkgd: without effect, since white_bg is on"
    for name in ("eval_steps", "save_steps", "ply_steps"):
        late = [step for step in getattr(options.scaled(), name) if step > steps]
        if name in beside_preset and late:
            yield f"{name}: {', '.join(map(str, late))} will not be reached, since max_steps is {steps:,}"
