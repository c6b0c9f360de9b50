"""Manifests say which run they are of."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.processes import run_module

from splatdag.workflow.attempts import Attempt
from splatdag.workflow.manifest import Manifest, RunId, manifest_of, merged, write_manifest


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
    done = run_module("splatdag.scene.train", *words)
    assert done.returncode == 2
    assert "run_id" in done.stderr
    assert "room: expected AREA/SCENE/VARIANT, such as captures/room/single" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_without_gaussians_needs_none(tmp_path: Path) -> None:
    run = RunId.parse("worlds/cave/single")
    write_manifest(tmp_path / "manifest.json", "scene.train", run, {}, options={}, inputs={}, device="x", sample="cave")
    manifest = Manifest.model_validate_json((tmp_path / "manifest.json").read_text())
    assert (manifest.run, manifest.sample, manifest.gaussians, manifest.offset) == (run, "cave", None, None)


def test_a_run_of_several_processes_adds_up_what_each_used(tmp_path: Path) -> None:
    run = RunId.parse("driving/flux4d/")
    used = Attempt(started="", seconds=30.0, device="x", threads=2, host="a")

    def part(stage: str, name: str, seconds: dict[str, float], memory: dict[str, float], attempts: int) -> Manifest:
        made = manifest_of(stage, run, tmp_path, seconds, part=name, options={}, inputs={name: "1"}, device=name)
        usage = [used.model_copy(update={"stage": stage}) for _ in range(attempts)]
        return made.model_copy(update={"peak_memory_mb": memory, "usage": usage})

    training = part("driving.training.train", "train", {"startup": 2, "train": 50}, {"host": 900, "cuda": 70}, 3)
    evaluation = part("driving.evaluation.evaluate", "001/evaluate", {"startup": 3, "eval": 9}, {"host": 400}, 1)
    merge = part("driving.evaluation.merge", "merge", {"startup": 1, "publish": 4}, {"host": 450}, 1)
    whole = merged([training, evaluation, merge], steps=12)
    assert whole.seconds == {"startup": 6, "train": 50, "eval": 9, "publish": 4, "total": 69}
    assert whole.peak_memory_mb == {"host": 900, "cuda": 70}
    assert [usage.stage.rpartition(".")[2] for usage in whole.usage] == [*["train"] * 3, "evaluate", "merge"]
    assert (whole.stage, whole.device, whole.inputs) == ("driving.training.train", "train", {"train": "1"})
    assert (whole.steps, [part.name for part in whole.parts]) == (12, ["train", "001/evaluate", "merge"])
