"""Plans of all areas, made from a config as the Snakefile makes them, in a folder of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from splatdag.areas import Plans
from splatdag.config import read_config
from splatdag.workflow.area import Context

MakePlans = Callable[..., Plans]
SHEET = "capture\tdata_dir\n"


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlans:
    """Plan a config in the test's folder, which becomes the working directory; its sheet has no row unless written."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "config" / "captures.tsv", SHEET)

    def make(given: dict[str, Any] | None = None, targets: Iterable[str] = ("all",), **more: Any) -> Plans:
        asked = frozenset(targets)
        context = Context("results", "logs", tmp_path, tmp_path / "cache", targets=lambda: asked, **more)
        return Plans(read_config(given or {}), context)

    return make


def write(path: str | Path, text: str = "") -> Path:
    """Write a file, with the folders above it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return Path(path)


def job(**wildcards: str) -> Any:
    """Wildcards of a job."""
    return SimpleNamespace(**wildcards)
