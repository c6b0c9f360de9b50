"""What jobs of `captures_ckpts` are told of the files that they read: they run again when one changes, no sooner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.area_plans import MakePlans, job, write
from support.area_plans import plans as plans

from splatdag.workflow.errors import UserError

CKPT = "theirs/ckpts/ckpt_9_rank0.pt"
CHANGES: dict[str, tuple[str, bool]] = {
    "its own file": (CKPT, True),
    "the file of another rank": ("theirs/ckpts/ckpt_9_rank1.pt", True),
    "how it was trained": ("theirs/cfg.yml", True),
    "cameras that it was trained with": ("data/sparse/0/cameras.bin", True),
    "files of other steps": ("theirs/ckpts/ckpt_19_rank0.pt", False),
    "statistics": ("theirs/stats/val_step0009.json", False),
    "photos that it was trained on": ("data/images/0.png", False),
}


@pytest.fixture
def told(plans: MakePlans, tmp_path: Path) -> Callable[..., list[Any]]:
    """What the job of a file of splats is told of it, as another run of Snakemake would find it now."""
    for name in (*(name for name, _ in CHANGES.values()), "data/sparse/0/images.bin", "data/sparse/0/points3D.bin"):
        write(tmp_path / name)

    def tell(**files: str) -> list[Any]:
        plan = plans({"captures": {"ckpts": {"theirs": {"data_dir": "few", **files}}}})["captures"]
        methods = ("ckpt_kind", "ckpt_file", "ckpt_trained_on", "ckpt_digest", "ckpt_trained_on_digest", "ckpt_flags")
        return [getattr(plan, method)(job(ckpt="theirs")) for method in methods]

    return tell


@pytest.mark.parametrize("case", CHANGES)
def test_a_checkpoint_is_measured_again_when_what_is_read_with_it_changes(
    case: str, told: Callable[..., list[Any]]
) -> None:
    file, again = CHANGES[case]
    before = told(ckpt=CKPT, trained_on="data")
    assert before[-1] == ["--trained-on=data"]
    write(file, "changed")
    assert (told(ckpt=CKPT, trained_on="data") != before) == again


def test_of_a_ply_file_only_itself_is_read(told: Callable[..., list[Any]]) -> None:
    write("theirs/ckpts/ckpt_9_rank7.ply")
    before = told(ply="theirs/ckpts/ckpt_9_rank7.ply")
    assert before[:3] == ["ply", "theirs/ckpts/ckpt_9_rank7.ply", []]
    write("theirs/cfg.yml", "changed")
    assert told(ply="theirs/ckpts/ckpt_9_rank7.ply") == before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "config.captures.ckpts.theirs: .*give one of ckpt, a checkpoint, and ply, a file of Gaussians"),
        ({"ckpt": CKPT, "ply": CKPT}, "config.captures.ckpts.theirs: .*give one of ckpt"),
        ({"ckpt": "no.pt"}, r"config\.captures\.ckpts\.theirs\.ckpt: no such file: no\.pt"),
        ({"ply": "no.ply"}, r"config\.captures\.ckpts\.theirs\.ply: no such file: no\.ply"),
        ({"ckpt": "theirs/ckpts/ckpt_3_rank1.pt"}, r"ckpt_3_rank0\.pt is not beside it"),
        ({"ckpt": CKPT, "trained_on": "theirs"}, r"theirs\.trained_on: no COLMAP model in theirs"),
    ],
)
def test_what_cannot_be_measured_is_one_line_while_planning(
    files: dict[str, str], message: str, told: Callable[..., list[Any]]
) -> None:
    write("theirs/ckpts/ckpt_3_rank1.pt")
    with pytest.raises(UserError, match=message) as caught:
        told(**files)
    assert "\n" not in str(caught.value)
