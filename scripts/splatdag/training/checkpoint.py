"""Files of tensors, and the state of a training between two steps, which only the same training continues from."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from splatdag.workflow.errors import UserError
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


def write_tensors(path: Path, value: Any) -> None:
    """Write a file that `read_tensors` reads, complete or not at all."""
    with complete(path) as temporary:
        torch.save(value, temporary)


class StateFile:
    """The state of a training in a run's `state/` folder, keyed by what the training depends on.

    Those of other trainings of the run are kept beside it, so that an option can be changed and changed back. The
    folder is there until Snakemake has noted that the run has ended well (`workflow.states`).
    """

    def __init__(self, folder: Path, key: dict[str, str]) -> None:
        """Use `folder` for the state of the training with this key (names to digests)."""
        self.path = folder / "checkpoint.pt"
        self._damaged = folder / "checkpoint.damaged.pt"
        self.key = key

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state on disk; a kill in the middle leaves the old one."""
        write_tensors(self.path, {"key": self.key, "state": state})

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Read the saved state, or None; one of another training, or unreadable, is set aside and named."""
        state = self._read(device) if self.path.exists() else None
        earlier = self._aside(self.key)
        if state is None and earlier.exists():
            earlier.replace(self.path)
            state = self._read(device)
        return state

    def _read(self, device: torch.device) -> dict[str, Any] | None:
        try:
            saved = read_tensors(self.path, device)
            state, key = saved["state"], saved["key"]
            changed = sorted(name for name in self.key if key.get(name) != self.key[name])
            aside = self._aside(key)
        except Exception as error:  # whatever a damaged file makes the reader raise
            self._set_aside(f"it can't be read ({type(error).__name__})", self._damaged)
            return None
        if changed:
            self._set_aside(f"{' and '.join(changed)} changed since", aside)
            return None
        return state

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Set the state aside if what it holds does not fit, so that the next attempt begins anew.

        Raises:
            UserError: it does not.
        """
        try:
            yield
        except Exception as error:
            self.path.replace(self._damaged)
            raise UserError(
                f"{self.path}: what it holds does not fit ({type(error).__name__}: {error}); it is kept as"
                f" {self._damaged}, run the same command again to begin anew"
            ) from error

    def _aside(self, key: dict[str, str]) -> Path:
        """Name the file that keeps the state of the training with a key while another one is trained."""
        digest = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=4).hexdigest()
        return self.path.with_suffix(f".{digest}.pt")

    def _set_aside(self, reason: str, aside: Path) -> None:
        self.path.replace(aside)
        logger.warning("state not continued: %s; it is kept as %s until this run has ended", reason, aside)
