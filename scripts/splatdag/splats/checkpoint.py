"""The state of a training between two steps: complete on disk, and only continued by the same training."""

from __future__ import annotations

import logging
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from splatdag.workflow.publish import complete

logger = logging.getLogger(__name__)


def read_tensors(path: Path, device: torch.device) -> Any:
    """Read what `torch.save` wrote; nothing in it is executed.

    Raises:
        Exception: any; also for a changed byte, which `torch.load` does not notice.
    """
    with zipfile.ZipFile(path) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError("torch.save compresses nothing")  # and unpacking may take for ever
        if (changed := archive.testzip()) is not None:
            raise ValueError(f"{changed} is not what was written")
    return torch.load(path, map_location=device, weights_only=True)


class Checkpoint:
    """One file in a run's `state/` folder, keyed by what the training depends on."""

    def __init__(self, folder: Path, key: dict[str, str]) -> None:
        """Use `folder` for the state of the training with this key (names to digests)."""
        self.path = folder / "checkpoint.pt"
        self.key = key

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state on disk; a kill in the middle leaves the old one."""
        with complete(self.path) as temporary:
            torch.save({"key": self.key, "state": state}, temporary)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The saved state, or None; one of another training, or unreadable, is set aside and named."""
        if not self.path.exists():
            return None
        try:
            saved = read_tensors(self.path, device)
            state = saved["state"]
            changed = sorted(name for name in self.key if saved["key"].get(name) != self.key[name])
        except Exception as error:  # whatever a damaged file makes the reader raise
            self._set_aside(f"it can't be read ({type(error).__name__})")
            return None
        if changed:
            self._set_aside(f"{' and '.join(changed)} changed since")
            return None
        return state

    def _set_aside(self, reason: str) -> None:
        aside = self.path.with_suffix(".old.pt")
        self.path.replace(aside)
        logger.warning("state not continued: %s; it is kept as %s until this run is published", reason, aside)

    def remove(self) -> None:
        """Remove the state folder; the run is published."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
