"""A training that is stopped, killed or spoilt ends as one that never was."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pycolmap
import pytest
import torch
from support.train_runs import CONTRACT, assert_same_results, main, outputs, stopped_main
from support.train_runs import data as data
from support.train_runs import reference as reference
from support.trainings import OPTIONS, STEPS

from splatdag.scene import train as stage
from splatdag.scene.training import SplatTraining
from splatdag.training import run
from splatdag.training.devices import OutOfDeviceMemory
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import Manifest


def flags(run_dir: Path, data: Path) -> list[str]:
    strategy = [f"--strategy.{name}={value}" for name, value in OPTIONS["strategy"].items()]
    plain = [
        "--preset=small", "--max-steps=60", "--checkpoint-every=5", "--sh-degree-interval=20", "--test-every=4",
    ]  # fmt: skip
    paths = [f"--data-dir={data}", f"--model={data / 'sparse' / '0'}", f"--result-dir={run_dir}"]
    return [*paths, *plain, *strategy, "--eval-steps", "40"]


STAGE = """
import os, runpy
from splatdag.training.checkpoint import StateFile
save = StateFile.save
def save_once(file, state):
    save(file, state)
    StateFile.save = save
    os.kill(os.getpid(), {})
StateFile.save = save_once
runpy.run_module("splatdag.scene.train", run_name="__main__", alter_sys=True)
"""


def interrupted(run_dir: Path, data: Path, number: int) -> tuple[int, str]:
    """A process that gets a signal once it has saved its state; its exit code and its log."""
    (run_dir.parent / "stage.py").write_text(STAGE.format(int(number)))
    log = run_dir.parent / "train.log"
    command = [sys.executable, "stage.py", *flags(run_dir, data), f"--log={log}"]
    done = subprocess.run(command, cwd=run_dir.parent, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, log.read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 75)])
def test_a_process_ended_by_a_signal_is_continued_to_the_same_bytes(
    data: Path, tmp_path: Path, reference: Path, caplog: pytest.LogCaptureFixture, number: int, code: int
) -> None:
    run_dir = tmp_path / "run"
    returned, log = interrupted(run_dir, data, number)
    assert returned == code
    assert outputs(run_dir) == []
    if number == signal.SIGTERM:
        assert "stopped: state saved after step " in log.splitlines()[-1]
    with caplog.at_level(logging.INFO):
        main(data, run_dir, checkpoint_every=5)
    (message,) = [m for m in caplog.messages if m.startswith("continuing after step ")]
    assert 5 <= int(message.split()[-1]) < STEPS
    assert_same_results(run_dir, reference)


def test_a_stopped_stage_is_continued_to_the_same_bytes(
    data: Path, tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_main(data, tmp_path / "run", monkeypatch)
    with caplog.at_level(logging.INFO):
        main(data, tmp_path / "run")
    assert "continuing after step 41" in caplog.messages
    assert_same_results(tmp_path / "run", reference)


def change_photo(data: Path) -> None:
    pixels = cv2.imread(str(data / "images" / "3.png"))
    cv2.imwrite(str(data / "images" / "3.png"), 255 - pixels)


def change_model(data: Path) -> None:
    model = pycolmap.Reconstruction(str(data / "sparse" / "0"))
    model.points3D[1].xyz += 0.01
    model.write_binary(str(data / "sparse" / "0"))


CHANGES = [
    pytest.param({"seed": 1}, None, "options changed since", id="options"),
    pytest.param({}, change_photo, "photos changed since", id="photos"),
    # A model inside the data folder is part of both digests.
    pytest.param({}, change_model, "model and photos changed since", id="model"),
]


@pytest.mark.parametrize(("changes", "change", "reason"), CHANGES)
def test_the_state_of_another_training_is_set_aside_and_named(
    data: Path,
    tmp_path: Path,
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    change: Any,
    reason: str,
) -> None:
    stopped_main(data, tmp_path / "run", monkeypatch)
    if change is not None:
        change(data)
    main(data, tmp_path / "run", **changes)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    [aside] = (tmp_path / "run" / "state").glob("checkpoint.*.pt")
    assert warning == f"state not continued: {reason}; it is kept as {aside} until this run has ended"
    assert not any("continuing" in message for message in caplog.messages)
    assert (tmp_path / "run" / "splat.ply").read_bytes() != (reference / "splat.ply").read_bytes()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["steps"] == STEPS


def test_an_option_that_is_changed_and_changed_back_loses_no_state(
    data: Path, tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_main(data, tmp_path / "run", monkeypatch)
    main(data, tmp_path / "run", seed=1)
    with caplog.at_level(logging.INFO):
        main(data, tmp_path / "run")
        assert "continuing after step 41" in caplog.messages
        caplog.clear()
        main(data, tmp_path / "run", seed=1)
        assert f"continuing after step {STEPS}" in caplog.messages
        main(data, tmp_path / "run")
    assert_same_results(tmp_path / "run", reference)


def test_a_finished_run_whose_outputs_are_lost_is_published_again_without_a_step(
    data: Path, tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake removes them where the job fails after its work is done, and where its own end was not seen."""
    main(data, tmp_path / "run")
    for name in CONTRACT:
        (tmp_path / "run" / name).unlink()
    monkeypatch.setattr(SplatTraining, "optimise", None)
    main(data, tmp_path / "run")
    assert outputs(tmp_path / "run") == CONTRACT
    assert_same_results(tmp_path / "run", reference)


def test_a_state_that_does_not_fit_is_set_aside_and_the_next_attempt_begins_anew(
    data: Path, tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_main(data, tmp_path / "run", monkeypatch)
    path = tmp_path / "run" / "state" / "checkpoint.pt"
    saved = torch.load(path)
    del saved["state"]["training"]["strategy"]
    torch.save(saved, path)
    with pytest.raises(UserError, match=r"does not fit \(KeyError: 'strategy'\)"):
        main(data, tmp_path / "run")
    main(data, tmp_path / "run")
    assert_same_results(tmp_path / "run", reference)


def test_another_version_of_the_code_does_not_continue(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_main(data, tmp_path / "run", monkeypatch)
    monkeypatch.setattr(run, "code_digest", lambda name: "another")
    main(data, tmp_path / "run")
    assert any("state not continued: code changed since" in message for message in caplog.messages)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_other_content(path: Path) -> None:
    torch.save([1, 2, 3], path)


@pytest.mark.parametrize("damage", [truncate, write_other_content, lambda path: path.write_bytes(b"")])
def test_a_damaged_state_is_set_aside_and_training_starts_anew(
    data: Path,
    tmp_path: Path,
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Any,
) -> None:
    stopped_main(data, tmp_path / "run", monkeypatch)
    damage(tmp_path / "run" / "state" / "checkpoint.pt")
    main(data, tmp_path / "run")
    assert any("state not continued: it can't be read" in message for message in caplog.messages)
    assert_same_results(tmp_path / "run", reference)


def test_a_run_that_fails_to_publish_keeps_its_state_and_leaves_no_manifest_of_an_older_one(
    data: Path, tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = tmp_path / "run"
    main(data, run_dir, seed=1)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "write_curves", full)
        with pytest.raises(OSError, match="No space left"):
            main(data, run_dir)
    assert not (run_dir / "manifest.json").exists()
    with caplog.at_level(logging.INFO):
        main(data, run_dir)
    assert f"continuing after step {STEPS}" in caplog.messages
    assert_same_results(run_dir, reference)
    assert (run_dir / "manifest.json").exists()


def test_a_state_is_continued_where_photos_lie_elsewhere_or_is_saved_more_often(
    data: Path, tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_main(data, tmp_path / "run", monkeypatch)
    moved = data.rename(tmp_path / "elsewhere")
    with caplog.at_level(logging.INFO):
        main(moved, tmp_path / "run", checkpoint_every=7, port=1)
    assert "continuing after step 41" in caplog.messages
    assert_same_results(tmp_path / "run", reference)
    assert f"data_dir: {moved}\n" in (tmp_path / "run" / "cfg.yml").read_text()


def test_touching_photos_does_not_stop_a_state_from_being_continued(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_main(data, tmp_path / "run", monkeypatch)
    for path in (data / "images").iterdir():
        os.utime(path, (1, 1))
    with caplog.at_level(logging.INFO):
        main(data, tmp_path / "run")
    assert "continuing after step 41" in caplog.messages


def test_a_run_that_the_gpu_is_too_small_for_says_what_to_lower_and_keeps_a_manifest(
    data: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, optimise = tmp_path / "run", SplatTraining.optimise

    def exhausted(training: SplatTraining, step: int, infos: list[dict[str, Any]]) -> None:
        if step == 30:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        optimise(training, step, infos)

    with monkeypatch.context() as patch:
        patch.setattr(SplatTraining, "optimise", exhausted)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (500_000_000, 80_000_000_000))
        with pytest.raises(OutOfDeviceMemory) as error:
            main(data, run_dir)
    count = error.value.gaussians
    assert count > 105
    assert str(error.value) == (
        f"no memory left on the GPU after step 30 with {count} Gaussians (79.5 of 80.0 GB in use): lower"
        " strategy.cap_max, batch_size or max_image_size, raise strategy.grow_grad2d or data_factor, or set packed"
    )
    assert outputs(run_dir) == []
    manifest = Manifest.model_validate_json((run_dir / "state" / "manifest.json").read_text())
    assert (manifest.exit_reason, manifest.steps, manifest.gaussians) == ("cuda_oom", 30, count)
    main(data, run_dir)  # with more memory it goes on where its state was saved
    assert not (run_dir / "state" / "manifest.json").exists()
    assert_same_results(run_dir, reference)
