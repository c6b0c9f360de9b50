"""Manifests say which run they are of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from splatdag.workflow.manifest import Manifest, RunId, write_manifest


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("captures/room/single", ("captures", "room", "single")),
        ("captures/room/single/eval_on_night", ("captures", "room", "single/eval_on_night")),
        ("driving/flux4d/", ("driving", "flux4d", "")),
    ],
)
def test_a_run_is_read_from_text_and_written_as_that(text: str, parts: tuple[str, str, str]) -> None:
    run = RunId.parse(text)
    assert (run.area, run.scene, run.variant) == parts
    assert str(run) == text


def test_a_run_by_hand_is_known_by_its_stage_and_folder(tmp_path: Path) -> None:
    assert str(RunId.of("", "driving.training.train", tmp_path / "mine")) == "driving/mine/"
    assert str(RunId.of("captures/a/b", "scene.train", tmp_path)) == "captures/a/b"


def test_what_is_no_run_is_one_line() -> None:
    words = ["--data-dir=a", "--model=b", "--result-dir=c", "--run-id=room"]
    done = subprocess.run(
        [sys.executable, "-m", "splatdag.scene.train", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "run_id" in done.stderr
    assert "room: expected AREA/SCENE/VARIANT, such as captures/room/single" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_without_gaussians_needs_none(tmp_path: Path) -> None:
    run = RunId.parse("worlds/cave/single")
    write_manifest(tmp_path / "manifest.json", "scene.train", run, {}, options={}, inputs={}, device="x", sample="cave")
    manifest = Manifest.model_validate_json((tmp_path / "manifest.json").read_text())
    assert (manifest.run, manifest.sample, manifest.gaussians, manifest.offset) == (run, "cave", None, None)
