"""Pretrained weights: what they are, under which licence, and whether they are on this machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from splatdag.workflow.errors import UserError
from splatdag.workflow.publish import read_json, write_json
from splatdag.workflow.user_cache import user_cache


class Weights(BaseModel):
    """Pretrained weights; in a manifest, without the fields that hold for one machine only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name that their publisher gives them, such as `facebook/VGGT-1B`."""
    source: str
    """Address that they are published at."""
    revision: str
    """Commit or version at the source, or the start of the SHA-256."""
    licence: str
    """SPDX identifier, or what the publisher says."""
    licence_url: str
    """Address of the licence."""
    commercial: bool | None
    """Whether the licence allows commercial use; None where the publisher does not say."""
    used_for: Literal["results", "metrics"] = "results"
    """Use: `metrics` where they only measure, so that their licence does not reach the published results."""
    folder: Path | None = Field(None, exclude=True)
    """Folder on this machine; None where the config does not name it."""
    files: dict[str, str] = Field({}, exclude=True)
    """Files in that folder, each with its SHA-256 or the start of it; empty where it is not known."""

    def described(self) -> str:
        """Return the licence in words, with what it means for commercial use."""
        terms = {True: "", False: ", not for commercial use", None: ", commercial use not stated"}
        return self.licence + terms[self.commercial]

    @property
    def barred(self) -> bool:
        """Tell whether results made with them can't be used commercially without a look at their licence."""
        return self.commercial is False and self.used_for == "results"

    def check(self) -> tuple[str, str]:
        """Check that they are on this machine: return `found` and no text, else the problem in a word and in a line."""
        if self.folder is None:
            return "not set", "no folder is known"
        for name, expected in self.files.items():
            path = self.folder / name
            if not path.is_file():
                return "missing", f"missing: {path}"
            if expected and not (found := _sha256(path)).startswith(expected):
                return "other SHA-256", f"{path}: its SHA-256 starts with {found[: len(expected)]}, not {expected}"
        return "found", ""


def weights_of_run(folder: Path) -> list[Weights]:
    """Read the weights that a run's manifest names; none where the run has no manifest, or one without weights.

    Raises:
        UserError: the manifest can't be read.
    """
    manifest = folder / "manifest.json"
    given = read_json(manifest).get("weights", []) if manifest.is_file() else []
    try:
        return TypeAdapter(list[Weights]).validate_python(given)
    except ValidationError as error:
        raise UserError(f"{manifest}: weights: {error.errors()[0]['msg']}") from None


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a large file, which is read again only when its size, times or inode have changed."""
    stat = path.stat()
    state = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    memory = (
        user_cache() / "weights" / f"{hashlib.blake2b(str(path.resolve()).encode(), digest_size=8).hexdigest()}.json"
    )
    try:
        known = json.loads(memory.read_bytes())
        if known["state"] == state:
            return str(known["sha256"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    write_json(memory, {"state": state, "sha256": digest})
    return digest
