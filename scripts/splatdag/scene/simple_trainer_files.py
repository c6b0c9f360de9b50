"""simple_trainer's own files of a run: cfg.yml, ckpts/, ply/ and stats/, with its keys and zero-based steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from splatdag.scene.options import SplatOptions
from splatdag.scene.splat_model import SplatModel
from splatdag.splats.normalisation import Normalisation
from splatdag.splats.ply import write_ply
from splatdag.training.checkpoint import write_tensors
from splatdag.workflow.manifest import peak_resident_mb
from splatdag.workflow.publish import write_json, write_text

_OWN = (
    "ckpts/ckpt_*_rank0.pt",
    "ply/point_cloud_*.ply",
    "stats/train_step*_rank0.json",
    "stats/val_step*.json",
    "renders/val_step*_*.png",
    "videos/traj_*.mp4",
)
"""Patterns of the files of an older run to remove; nothing else that lies in these folders is touched."""


@dataclass
class RunFiles:
    """Files in a run's folder, beside the run contract's."""

    folder: Path
    options: SplatOptions
    """Options with `steps_scaler` applied."""
    frame: Normalisation
    inputs: dict[str, str]
    """Further values of cfg.yml: data_dir and result_dir."""

    def begin(self, anew: bool = True) -> None:
        """Write cfg.yml; with `anew`, first remove the manifest and files of an older run."""
        if anew:
            (self.folder / "manifest.json").unlink(missing_ok=True)
            for path in [path for pattern in _OWN for path in self.folder.glob(pattern)]:
                path.unlink()
        values = {**self.inputs, **self.options.model_dump(mode="json")}
        write_text(self.folder / "cfg.yml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))

    def save(self, step: int, model: SplatModel, seconds: float, last: bool) -> None:
        """Write the files that are due after so many steps: checkpoint and statistics, PLY."""
        options, name = self.options, step - 1
        if last or step in options.save_steps:
            figures = {"mem": _memory_gib(model), "ellipse_time": seconds, "num_GS": len(model.parameters["means"])}
            write_json(self.folder / "stats" / f"train_step{name:04d}_rank0.json", figures)
            write_tensors(self.folder / "ckpts" / f"ckpt_{name}_rank0.pt", self._checkpoint(name, model))
        if options.save_ply and (last or step in options.ply_steps):
            path = self.folder / "ply" / f"point_cloud_{name}.ply"
            write_ply(path, model.published(), self.frame, options.antialiased)

    def evaluated(self, step: int, figures: dict[str, float], seconds_per_image: float, gaussians: int) -> None:
        """Write the mean figures of an evaluation after so many steps."""
        values = {**figures, "ellipse_time": seconds_per_image, "num_GS": gaussians}
        write_json(self.folder / "stats" / f"val_step{step - 1:04d}.json", values)

    def render(self, step: int, index: int) -> Path:
        """Name the picture of a held-out view."""
        return self.folder / "renders" / f"val_step{step - 1}_{index:04d}.png"

    def video(self, step: int) -> Path:
        """Name the fly-through."""
        return self.folder / "videos" / f"traj_{step - 1}.mp4"

    def _checkpoint(self, name: int, model: SplatModel) -> dict[str, Any]:
        frame = self.frame
        return {
            "step": name,
            "splats": {key: tensor.detach() for key, tensor in model.parameters.items()},
            **{key: module.state_dict() for key, module in model.modules().items()},
            "frame": {"center": frame.center.tolist(), "scale": frame.scale, "extent": frame.extent},
            "options": model.options.model_dump(mode="json"),
        }


def _memory_gib(model: SplatModel) -> float:
    """Return the largest allocation on the CUDA device, or largest resident memory on the CPU, in GiB."""
    device = model.parameters["means"].device
    bytes_ = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_resident_mb() * 1e6
    return bytes_ / 2**30
