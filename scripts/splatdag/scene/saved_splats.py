"""Splats read back from files: our checkpoints, gsplat's simple_trainer's, and PLY files of any program."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from splatdag.scene.appearance import FEATURES, Appearance
from splatdag.scene.camera_changes import PoseChange
from splatdag.scene.ckpt_files import of_all_ranks, settings_file
from splatdag.scene.options import TrainOptions
from splatdag.scene.splat_model import SplatModel
from splatdag.splats.gaussians import Parameters
from splatdag.splats.normalisation import Normalisation
from splatdag.splats.ply import read_comments, read_ply
from splatdag.training.checkpoint import read_tensors
from splatdag.workflow.errors import UserError
from splatdag.workflow.options import validated
from splatdag.workflow.small_file import read_small

logger = logging.getLogger(__name__)
_GEOMETRY: dict[str, tuple[int, ...]] = {"means": (3,), "scales": (3,), "quats": (4,), "opacities": ()}
_COLORS: dict[str, tuple[int, ...]] = {"sh0": (1, 3), "shN": (-1, 3)}
_APPEARANCE: dict[str, tuple[int, ...]] = {"features": (FEATURES,), "colors": (3,)}
"""Shapes of simple_trainer's tensors, per Gaussian; -1 is any number."""
_PARTS = frozenset({"step", "splats", "pose_adjust", "app_module"})
"""Keys of simple_trainer's checkpoints."""
_SETTINGS = frozenset(
    {"data_factor", "test_every", "lpips_net", "antialiased", "white_bg", "near_plane", "far_plane", "camera_model"}
    | {"with_ut", "with_eval3d"}
)
"""Options of a training that count in an evaluation."""
_STEPS = ((re.compile(r"point_cloud_(\d+)\.ply"), 1), (re.compile(r"iteration_(\d+)/[^/]+\.ply"), 0))
"""Names of PLY files with a step in them, and the number to add to it: simple_trainer counts from 0, Inria from 1."""


@dataclass
class SavedSplats:
    """Gaussians and the options to render them with."""

    model: SplatModel
    options: TrainOptions
    step: int
    """Steps done; 0 is unknown."""
    files: list[Path]
    frame: Normalisation | None
    """Transformation from the world to the frame of the Gaussians; None where the file does not have it."""
    offset: np.ndarray
    """[3] vector that was subtracted from positions in the world, where there is no frame."""
    of_simple_trainer: bool = False


def load_ckpt(path: Path, device: torch.device) -> SavedSplats:
    """Read a checkpoint of ours, or one of simple_trainer with those of its other ranks.

    Raises:
        UserError: it can't be read, or holds something that is not supported.
    """
    saved = _read(path, device)
    if "frame" not in saved or "options" not in saved:
        return _of_simple_trainer(path, saved, device)
    try:
        center = np.array(saved["frame"]["center"], dtype=np.float64).reshape(3)
        frame = Normalisation(center, float(saved["frame"]["scale"]), float(saved["frame"]["extent"]))
        splats, step = saved["splats"], saved["step"] + 1
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise UserError(f"{path}: not a checkpoint of splatdag ({type(error).__name__})") from None
    options = validated(TrainOptions, saved["options"], str(path))
    model = _with_modules(path, SplatModel(splats, options), saved, device)
    return SavedSplats(model, options, step, [path], frame, np.zeros(3))


def load_ply(path: Path, device: torch.device) -> SavedSplats:
    """Read a PLY file in Inria's layout.

    Raises:
        UserError: as `read_ply`, or it has colours of a degree above 3.
    """
    parameters = {name: tensor.to(device) for name, tensor in read_ply(path).items()}
    comments = read_comments(path)
    options = TrainOptions(sh_degree=_degree(path, parameters["shN"]), antialiased=comments.get("antialiased") == "1")
    try:
        offset = np.array([float(value) for value in comments.get("offset", "0 0 0").split()])
    except ValueError:
        raise UserError(f"{path}: offset {comments['offset']!r} in its header, expected three numbers") from None
    names = [(pattern.search(path.absolute().as_posix()), first) for pattern, first in _STEPS]
    step = next((int(match[1]) + first for match, first in names if match), 0)
    return SavedSplats(SplatModel(parameters, options), options, step, [path], None, offset)


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        saved = read_tensors(path, device)
        assert isinstance(saved, dict)
    except Exception as error:  # whatever a damaged or foreign file makes the reader raise
        raise UserError(f"{path}: not a checkpoint of splatdag or simple_trainer ({type(error).__name__})") from None
    return saved


def _of_simple_trainer(path: Path, saved: dict[str, Any], device: torch.device) -> SavedSplats:
    """Read Gaussians of all ranks: positions, log scales and logits of opacity as ours, in simple_trainer's frame."""
    if unknown := sorted(map(str, saved.keys() - _PARTS)):
        raise UserError(
            f"{path}: holds {', '.join(unknown[:5])}, which is not supported; expected a checkpoint of gsplat's"
            f" simple_trainer with {', '.join(sorted(_PARTS))}"
        )
    files = of_all_ranks(path)
    if len(files) > 1:
        logger.info("%s: the Gaussians of %d ranks together", path.parent, len(files))
    parts = [_splats(file, saved if file == path else _read(file, device)) for file in files]
    steps = {step for step, _ in parts}
    if len(steps) > 1:
        raise UserError(f"{path}: the files of its ranks are of steps {sorted(steps)}; keep those of one training")
    try:
        parameters = {name: torch.cat([splats[name] for _, splats in parts]) for name in parts[0][1]}
    except (KeyError, RuntimeError):
        raise UserError(f"{path}: the files of its ranks do not fit each other; keep those of one training") from None
    settings = _settings(settings_file(path))
    if "shN" in parameters:
        settings |= {"sh_degree": _degree(path, parameters["shN"])}
    else:
        settings |= {"app_opt": True, **_appearance_sizes(path, saved)}
    options = validated(TrainOptions, settings, f"{path}: trained with")
    model = _with_modules(path, SplatModel(parameters, options), saved, device)
    if model.pose_adjust is not None:
        logger.info("the training changed its cameras (pose_opt); the photos are seen from those of the COLMAP model")
    return SavedSplats(model, options, parts[0][0] + 1, files, None, np.zeros(3), of_simple_trainer=True)


def _splats(path: Path, saved: dict[str, Any]) -> tuple[int, Parameters]:
    """Return step and tensors of a file of simple_trainer, checked."""
    splats, step = saved.get("splats"), saved.get("step")
    if not isinstance(step, int) or not isinstance(splats, dict) or not all(map(torch.is_tensor, splats.values())):
        raise UserError(f"{path}: not a checkpoint of splatdag or simple_trainer: no step, or no tensors in `splats`")
    names = set(splats)
    shapes = _GEOMETRY | (_APPEARANCE if "features" in names else _COLORS)
    if names != shapes.keys():
        found = ", ".join(sorted(map(str, names))) or "none"
        raise UserError(
            f"{path}: not a checkpoint of splatdag or simple_trainer: its splats are {found}; expected"
            f" {', '.join(shapes)}"
        )
    count = len(splats["means"])
    for name, shape in shapes.items():
        tensor = splats[name]
        fits = tensor.dim() == len(shape) + 1 and len(tensor) == count
        if not fits or any(own not in (-1, side) for own, side in zip(shape, tensor.shape[1:], strict=True)):
            raise UserError(f"{path}: {name} is {list(tensor.shape)}, expected {[count, *shape]}")
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path}: {name} has values that are not finite")
    return step, {name: splats[name].float() for name in shapes}


def _degree(path: Path, shN: Tensor) -> int:
    """Return the degree of spherical harmonics with K coefficients beside the first, in `shN` [N, K, 3]."""
    degree = math.isqrt(shN.shape[1] + 1) - 1
    if (degree + 1) ** 2 != shN.shape[1] + 1 or degree > 3:
        raise UserError(f"{path}: {shN.shape[1]} coefficients of colour beside the first, expected 0, 3, 8 or 15")
    return degree


def _appearance_sizes(path: Path, saved: dict[str, Any]) -> dict[str, int]:
    """Return the length of a photo's code and the degree of the directions, from the appearance network's sizes."""
    try:
        embed_dim = saved["app_module"]["embeds.weight"].shape[1]
        inputs = saved["app_module"]["color_head.0.weight"].shape[1]
    except (KeyError, IndexError, AttributeError):
        raise UserError(f"{path}: its colours need app_module, which is not in it") from None
    return {"app_embed_dim": embed_dim, "sh_degree": math.isqrt(max(inputs - embed_dim - FEATURES, 1)) - 1}


def _with_modules(path: Path, model: SplatModel, saved: dict[str, Any], device: torch.device) -> SplatModel:
    """Return the model with its networks, which have simple_trainer's names and sizes."""
    try:
        if "pose_adjust" in saved:
            model.pose_adjust = PoseChange(len(saved["pose_adjust"]["embeds.weight"])).to(device)
            model.pose_adjust.load_state_dict(saved["pose_adjust"])
        if "app_module" in saved:
            views, width = saved["app_module"]["embeds.weight"].shape
            model.app_module = Appearance(views, width, model.options.sh_degree, torch.Generator()).to(device)
            model.app_module.load_state_dict(saved["app_module"])
    except (KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: its pose_adjust or app_module is not simple_trainer's: {reason}") from None
    return model


def _settings(path: Path | None) -> dict[str, Any]:
    """Read the options of a training's cfg.yml that count in an evaluation; none where there is no file.

    The file has tags of Python objects, so that only its plain lines are read.
    """
    if path is None:
        return {}
    try:
        lines = read_small(path).decode("utf-8").splitlines()
        plain = [match for line in lines if (match := re.fullmatch(r"(\w+): ([\w.+-]+)", line))]
        found = {match[1]: yaml.safe_load(match[2]) for match in plain if match[1] in _SETTINGS}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: can't be read: {' '.join(str(error).split())[:120]}") from None
    logger.info("%s: %s", path, ", ".join(f"{key} {value}" for key, value in found.items()))
    return found
