"""Options of the upload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from splatdag.workflow.errors import UserError
from splatdag.workflow.options import Options

TOKEN = "HF_TOKEN"
"""The environment variable that the Hub's token is read from, and nowhere else."""


class UploadOptions(Options):
    """Recordings and a page per scene, to the Hub or to a folder."""

    section: ClassVar[str] = "sharing.upload"
    may_be_empty: ClassVar[tuple[str, ...]] = ("rrd_glob",)

    repo_id: str | None = Field(None, pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
    """Repository on the Hub, `owner/name`, made if it is not there. Not set: the same tree goes to `results/hub`."""
    repo_type: Literal["dataset", "model"] = "dataset"
    """Kind of repository."""
    branch: str = Field("main", pattern=r"^[A-Za-z0-9][\w./-]*$")
    """Branch that is committed to, made if it is not there."""
    include_samples: bool = False
    """Recordings of bundled samples go to the Hub, too; to `results/hub` they always do."""
    private: bool = False
    """A repository that upload makes is private; the web viewer can't open its files then."""
    selection: Literal["auto", "eval_all", "eval_latest", "none"] = "auto"
    """Evaluations of all epochs, of each task's latest, or none. auto: as `sharing.tasks` and `sharing.epoch` say."""
    rrd_glob: str | None = None
    """Names of more recordings to upload, whatever the selection: `trn_nv_generation_epoch_*.rrd`."""
    timeout_s: float = Field(120, gt=0)
    """Longest time that one request may stay without an answer (seconds)."""
    patience_s: float = Field(900, ge=0)
    """Longest total wait between attempts while the Hub is busy, down or asks to wait (seconds)."""


def token_of(environment: Mapping[str, str]) -> str:
    """Read the Hub's token from the environment.

    Raises:
        UserError: there is none.
    """
    token = environment.get(TOKEN, "").strip()
    if not token:
        raise UserError(f"{TOKEN}: not set in the environment, and sharing.upload.repo_id needs a token that may write")
    return token
