"""Checkpoint files of a run, `ckpts/ckpt_<step>_rank<rank>.pt`, and its cfg.yml."""

from __future__ import annotations

import re
from pathlib import Path

from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import read_json

_RANK = re.compile(r"(ckpt_\d+_rank)(\d+)\.pt")


def last_checkpoint(run_dir: Path) -> Path:
    """Find the checkpoint that a run published; of a run that is not finished, the one after the most steps.

    The published one is not the last where validation views chose an earlier step as the best.

    Raises:
        UserError: there is none.
    """
    found = {
        int(match.group(1)): path
        for path in (run_dir / "ckpts").glob("*.pt")
        if (match := re.fullmatch(r"ckpt_(\d+)_rank0\.pt", path.name))
    }
    if not found:
        raise UserError(f"run: no checkpoint in {run_dir / 'ckpts'} (ckpt_<step>_rank0.pt); train the run again")
    manifest = run_dir / "manifest.json"
    steps = read_json(manifest).get("steps", 0) if manifest.is_file() else 0
    return found.get(steps - 1, found[max(found)])


def of_all_ranks(path: Path) -> list[Path]:
    """List the files of all ranks of the step that a checkpoint is of.

    Raises:
        UserError: one is missing.
    """
    match = _RANK.fullmatch(path.name)
    if match is None:
        return [path]
    found = {
        int(other[2]): file
        for file in path.parent.iterdir()
        if (other := _RANK.fullmatch(file.name)) and other[1] == match[1]
    }
    missing = sorted(set(range(max(found) + 1)) - found.keys())
    if missing:
        raise UserError(f"{path}: {match[1]}{missing[0]}.pt is not beside it; the files of all ranks belong together")
    return [found[rank] for rank in sorted(found)]


def settings_file(path: Path) -> Path | None:
    """Find the cfg.yml of the run whose folder `ckpts` a checkpoint lies in; None where there is none."""
    file = path.parent.parent / "cfg.yml"
    return file if path.parent.name == "ckpts" and file.is_file() else None
