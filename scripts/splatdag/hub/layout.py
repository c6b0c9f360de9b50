"""Places of a run's recordings and page in the published tree."""

from __future__ import annotations

import re
from dataclasses import dataclass

from splatdag.workflow.errors import UserError
from splatdag.workflow.sheets import NAME

_MAX_NAME = 150
"""Longest name of an experiment or scene (characters): file systems allow 255 with what stages add."""


@dataclass(frozen=True, order=True)
class Scene:
    """One page of the published tree.

    Raises:
        UserError: a name is not fit for a folder on every system and for a URL.
    """

    exp: str
    """Experiment."""
    name: str
    """Scene within it."""

    def __post_init__(self) -> None:
        for what, name in (("experiment", self.exp), ("scene", self.name)):
            if not re.fullmatch(NAME, name) or name.endswith(".") or len(name) > _MAX_NAME:
                raise UserError(
                    f"{what} {name!r}: not a name for a folder of the Hub; letters, digits, _, - and single dots"
                    f" inside, at most {_MAX_NAME}"
                )

    def __str__(self) -> str:
        return f"{self.exp}/{self.name}"

    @property
    def folder(self) -> str:
        """Folder of the page, in the tree."""
        return f"experiments/{self.exp}/{self.name}"

    @property
    def page(self) -> str:
        """The page, in the tree."""
        return f"{self.folder}/README.md"

    @property
    def recordings(self) -> str:
        """Folder of the recordings, in the tree."""
        return f"{self.folder}/rerun_files"
