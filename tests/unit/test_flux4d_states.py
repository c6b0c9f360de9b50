"""What a training of Flux4D continues from: its own state while all is the same, and any checkpoint."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps
from support.flux4d import INDEX, TINY, street, trained

from splatdag.driving.clips import index
from splatdag.driving.evaluation import evaluate, merge
from splatdag.driving.options import IndexOptions
from splatdag.driving.training import flux4d_training, train
from splatdag.driving.training.checkpoints import load_ckpt
from splatdag.driving.training_options import EvaluateOptions, TrainOptions
from splatdag.workflow.errors import Stopped, UserError
from splatdag.workflow.manifest import Manifest
from splatdag.workflow.stage import Job

CPU = torch.device("cpu")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The small logs, to be edited: 001 is measured on, 002 learnt from."""
    return shutil.copytree(street(), tmp_path / "logs")


def options(**changes: Any) -> TrainOptions:
    return TrainOptions(**TINY | changes)


def main(logs: Path, run_dir: Path, **changes: Any) -> None:
    train.main(logs / INDEX, logs, run_dir, options(**changes), Job(), cache_dir=run_dir.parent / "lift")


def stopped_main(logs: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """A training that SIGTERM stops after four steps."""
    step, calls = flux4d_training.training_step, []

    def step_and_stop(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(flux4d_training, "training_step", step_and_stop)
        with pytest.raises(Stopped, match="state saved after step"):
            main(logs, run_dir, **changes)


def network(run_dir: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_ckpt(run_dir / "ckpt_last.pt", CPU)["model"]
    return found


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def invert_images(logs: Path) -> None:
    for path in (logs / "002" / "camera" / "front_camera").glob("*.jpg"):
        with Image.open(path) as image:
            ImageOps.invert(image.convert("RGB")).save(path)


def swap_tables(logs: Path) -> None:
    first, second = sorted((logs / "002" / "lidar").glob("*.pkl*"))[:2]
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def move_camera(logs: Path) -> None:
    path = logs / "002" / "camera" / "front_camera" / "poses.json"
    poses = json.loads(path.read_text())
    poses[0]["position"]["x"] += 0.5
    path.write_text(json.dumps(poses))


CHANGES = [(invert_images, "images"), (swap_tables, "lidar"), (move_camera, "poses")]


@pytest.mark.parametrize(("change", "name"), CHANGES)
def test_a_state_learnt_from_other_data_is_set_aside_and_what_changed_is_named(
    logs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    change: Any,
    name: str,
) -> None:
    stopped_main(logs, tmp_path / "run", monkeypatch)
    change(logs)
    with caplog.at_level(logging.INFO):
        main(logs, tmp_path / "run")
    assert any(f"state not continued: {name} changed since" in message for message in caplog.messages)
    assert not any("continuing" in message for message in caplog.messages)
    main(logs, tmp_path / "anew")
    assert_same(network(tmp_path / "run"), network(tmp_path / "anew"))


def test_a_state_goes_on_where_nothing_that_is_learnt_from_changed(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The logs lie elsewhere, their files were touched, a test log changed, and the index was written again."""
    main(logs, tmp_path / "whole")
    stopped_main(logs, tmp_path / "run", monkeypatch)
    for path in (logs / "001").rglob("*.jpg"):
        path.unlink()
    for path in (logs / "002").rglob("*.json"):
        path.touch()
    moved = logs.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(index, "now", lambda: "2001-01-01T00:00:00Z")
    before = (moved / INDEX).read_bytes()
    report, chosen = moved / "report.json", IndexOptions(val_scenes=("001",))
    shutil.copytree(street() / "001", moved / "001", dirs_exist_ok=True)
    index.main(moved, moved / INDEX, moved / "tiny.pkl", report, chosen, Job())
    assert (moved / INDEX).read_bytes() != before
    (moved / "001" / "lidar" / "poses.json").write_text("[]")
    with caplog.at_level(logging.INFO):
        main(moved, tmp_path / "run")
    assert "continuing after step 4" in caplog.messages
    assert_same(network(tmp_path / "run"), network(tmp_path / "whole"))


def test_the_last_checkpoint_is_there_from_the_first_on(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_main(logs, tmp_path / "run", monkeypatch, save_ckpt_every=3)
    assert (tmp_path / "run" / "ckpt_last.pt").samefile(tmp_path / "run" / "ckpt_step_000003.pt")
    main(logs, tmp_path / "run", save_ckpt_every=3)
    assert (tmp_path / "run" / "ckpt_last.pt").samefile(tmp_path / "run" / "ckpt_step_000006.pt")


@pytest.mark.parametrize("there", [True, False])
def test_a_run_goes_on_from_its_own_last_checkpoint_also_where_a_kill_comes_between(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    """Snakemake removes ckpt_last.pt, which a rule makes, before it starts the job."""
    run_dir = tmp_path / "run"
    main(logs, run_dir, iters=4)
    main(logs, tmp_path / "beside", iters=12, resume_from=str(run_dir / "ckpt_step_000004.pt"))
    chosen = {"iters": 12, "resume_from": str(run_dir / "ckpt_last.pt"), "save_ckpt_every": 2}
    if not there:
        (run_dir / "ckpt_last.pt").unlink()
    stopped_main(logs, run_dir, monkeypatch, **chosen)
    if not there:
        (run_dir / "ckpt_last.pt").unlink()
    with caplog.at_level(logging.INFO):
        main(logs, run_dir, **chosen)
    assert "continuing after step 8" in caplog.messages
    assert_same(network(run_dir), network(tmp_path / "beside"))
    meta = json.loads((run_dir / "meta.json").read_text())
    assert (meta["steps_before"], meta["resume_from"]) == (4, str(run_dir / "ckpt_step_000004.pt"))
    assert {path.name for path in run_dir.glob("ckpt_step_*")} == {
        f"ckpt_step_{step:06d}.pt" for step in (4, 6, 8, 10, 12)
    }
    shutil.rmtree(run_dir / "state")  # as when Snakemake has noted the end
    invert_images(logs)
    main(logs, run_dir, **chosen)
    assert json.loads((run_dir / "meta.json").read_text())["steps_before"] == 4


def test_a_checkpoint_that_is_missing_is_named_before_anything_is_done(logs: Path, tmp_path: Path) -> None:
    for name, reason in (
        ("ckpt_last.pt", "and no ckpt_step_XXXXXX.pt beside it"),
        ("ckpt_step_000004.pt", "ckpt_step_000004.pt"),
    ):
        with pytest.raises(UserError, match=f"resume_from: no such file.*{reason}"):
            main(logs, tmp_path / "run", resume_from=str(tmp_path / "run" / name))


def test_the_log_of_a_training_is_in_its_run_too(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        stopped_main(logs, tmp_path / "run", monkeypatch)
        main(logs, tmp_path / "run")
        logging.getLogger(__name__).info("no line of it")
    lines = (tmp_path / "run" / "train.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines if "continuing" in line] == ["continuing after step 4"]
    assert "step 6 of 6, loss" in lines[-1]


def test_the_manifest_tells_of_all_that_made_the_run() -> None:
    run = trained()
    manifest = Manifest.model_validate_json((run / "manifest.json").read_text())
    meta = json.loads((run / "meta.json").read_text())
    assert [part.name for part in manifest.parts] == ["train", "001/evaluate", "merge"]
    assert manifest.peak_memory_mb["host"] >= meta["peak_memory_mb"]["host"]
    assert manifest.seconds["train"] == meta["seconds"]["train"]
    assert {"startup", "train", "eval", "publish", "total"} == set(manifest.seconds)
    assert manifest.stage == "driving.training.train"
    assert set(manifest.inputs) == {"clips", "images", "lidar", "poses"}
    assert set(manifest.parts[1].inputs) == {"ckpt", "clips_001", "log_001"}
    assert str(manifest.run) == "driving/flux4d/"


def test_a_run_measured_after_fewer_steps_says_so(logs: Path, tmp_path: Path) -> None:
    main(logs, tmp_path / "run", save_ckpt_every=2)
    ckpt = tmp_path / "run" / "ckpt_step_000004.pt"
    evaluate.main(logs / INDEX, logs, ckpt, "001", tmp_path / "run" / "001", EvaluateOptions(save_renders=False), Job())
    merge.main(tmp_path / "run", ckpt, logs / INDEX, ("001",), Job())
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["steps"] == 4
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["meta"]["step"] == 4
    assert json.loads((tmp_path / "run" / "meta.json").read_text())["steps"] == 6
