"""Requests to stop a training, which it follows between two steps."""

from __future__ import annotations

import signal
from typing import Any

import torch

from splatdag.training.ranks import Ranks


class StopRequest:
    """A request to stop by SIGTERM, from its making on; the loop looks between two steps."""

    def __init__(self) -> None:
        self.requested = self._agreed = False
        signal.signal(signal.SIGTERM, self._note)

    def agree(self, ranks: Ranks, device: torch.device) -> None:
        """Let the ranks agree on it; they must all end after the same step."""
        self._agreed = ranks.any(self.requested, device)

    def seen(self, ranks: Ranks) -> bool:
        """Tell whether to stop now: where there are several ranks, once they have agreed."""
        return self.requested if ranks.alone else self._agreed

    def _note(self, number: int, frame: Any) -> None:
        self.requested = True
