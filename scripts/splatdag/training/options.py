"""The common part of the options of all trainings."""

from __future__ import annotations

from collections.abc import Set
from typing import ClassVar

from splatdag.workflow.options import Options


class TrainingOptions(Options):
    """Options of a training, whatever it trains."""

    not_in_key: ClassVar[Set[str]] = frozenset()
    """Options that change nothing of what is learnt, so that a state is continued where they changed."""

    def training_key(self) -> str:
        """Write all options that what is learnt depends on as JSON."""
        return self.model_dump_json(exclude=set(self.not_in_key))

    def notices(self) -> list[str]:
        """List settings without effect, a line each."""
        return []
