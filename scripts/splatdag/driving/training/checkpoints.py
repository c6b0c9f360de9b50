"""Checkpoints of Flux4D: the network, the optimiser, the step, and the options that they belong to."""

from __future__ import annotations

import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import torch

from splatdag.driving.network.model import Flux4D
from splatdag.driving.training_options import LearnOptions
from splatdag.training.checkpoint import read_tensors, write_tensors
from splatdag.workflow.errors import UserError
from splatdag.workflow.options import validated
from splatdag.workflow.publish import complete

_LARGEST_PICKLE = 1 << 24
"""Bytes of a checkpoint's names and shapes; tensors lie beside them."""
VELOCITY_UNIT = "metres per clip time (0 to 1 over a clip); divide by clip_seconds for m/s"
LAST = "ckpt_last.pt"
"""Second name of a run's checkpoint of the most steps, from its first checkpoint on."""
STEP_FILE, STEP_FILES = "ckpt_step_{:06d}.pt", "ckpt_step_*.pt"
"""Names of the checkpoints of a run, after so many steps."""


def save_checkpoint(run_dir: Path, state: dict[str, Any], options: LearnOptions) -> None:
    """Write a run's checkpoint after so many steps, complete or not at all, and give it the name of the last."""
    path = run_dir / STEP_FILE.format(state["step"])
    checkpoint = {
        "model": {name: tensor.detach() for name, tensor in state["model"].items()},
        "moments": state["moments"],
        "step": state["step"],
        "options": learnt_options(options),
        "velocity_unit": VELOCITY_UNIT,
    }
    write_tensors(path, checkpoint)
    with complete(run_dir / LAST) as temporary:
        temporary.unlink()
        os.link(path, temporary)


def remove_older(run_dir: Path, steps: int) -> None:
    """Remove what an older training of the run left: checkpoints of more steps, and the manifest."""
    (run_dir / "manifest.json").unlink(missing_ok=True)
    for path in run_dir.glob(STEP_FILES):
        if steps_of(path) > steps:
            path.unlink()
    if not steps:
        (run_dir / LAST).unlink(missing_ok=True)


def learnt_options(options: LearnOptions) -> dict[str, Any]:
    """Take the options of the network and of its training, as plain values."""
    return {name: value for name, value in options.model_dump(mode="json").items() if name in LearnOptions.model_fields}


def steps_of(path: Path) -> int:
    """Read from its name how many steps a run's checkpoint has."""
    return int(path.stem.rpartition("_")[2])


def load_ckpt(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        UserError: it is missing, damaged, or no checkpoint of Flux4D.
    """
    if not path.is_file():
        raise UserError(f"ckpt: no such file: {path}")
    if _is_reproductions(path):
        raise UserError(
            f"{path}: is a checkpoint of the Flux4D reproduction: its network is not ours (layers of spconv, 15 numbers"
            " a point), and its options are not in the file; evaluate it with its own eval_stage6.py, which reads our"
            " index too, or train with the target flux4d"
        )
    try:
        given = read_tensors(path, device)
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise UserError(f"{path}: can't be read as a checkpoint ({type(error).__name__})") from None
    if not isinstance(given, dict) or not {"model", "moments", "step", "options"} <= given.keys():
        raise UserError(f"{path}: no checkpoint of flux4d (model, moments, step and options)")
    return given


def _is_reproductions(path: Path) -> bool:
    """Tell whether a checkpoint is the reproduction's, by the words in its pickle; nothing in it is executed."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as file:
                words = file.read(_LARGEST_PICKLE)
        return any(word == "model_state" for _, word, _ in pickletools.genops(words))
    except Exception:  # whatever a damaged file makes the readers raise; it is named where it is read
        return False


def load_model(path: Path, device: torch.device) -> tuple[Flux4D, LearnOptions, int]:
    """The network of a checkpoint, the options that it was trained with, and after how many steps.

    Raises:
        UserError: as `load_ckpt`, or its options are not those of this version.
    """
    given = load_ckpt(path, device)
    options = validated(LearnOptions, given["options"], f"{path}: options")
    model = Flux4D(options).to(device)
    try:
        model.load_state_dict(given["model"])
    except (RuntimeError, TypeError, AttributeError):
        raise UserError(f"{path}: its weights are not those of the network that its options describe") from None
    if not isinstance(given["step"], int):
        raise UserError(f"{path}: step: expected a whole number")
    return model, options, given["step"]
