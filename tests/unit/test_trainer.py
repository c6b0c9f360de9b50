"""Training: it learns, it repeats, and a stopped, killed or spoilt run ends as one that never was."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image
from plyfile import PlyData
from scenes import gaussian_scene, random_gaussians, write_gaussian_scene

from splatdag.captures import train as stage
from splatdag.captures.options import TrainOptions
from splatdag.splats.checkpoint import Checkpoint
from splatdag.splats.devices import use_device
from splatdag.splats.evaluation import evaluate, mean_color
from splatdag.splats.gaussians import SH_C0, Parameters, from_points
from splatdag.splats.trainer import Trained, train
from splatdag.splats.views import normalisation
from splatdag.workflow.errors import Stopped
from splatdag.workflow.manifest import Manifest
from splatdag.workflow.stage import Job

STEPS = 60
OPTIONS: dict[str, Any] = {
    "preset": "small",
    "max_steps": STEPS,
    "eval_steps": [],
    "checkpoint_every": 25,
    "sh_degree_interval": 20,
    "strategy": {
        "refine_start_iter": 4, "refine_every": 5, "refine_stop_iter": 50, "reset_every": 30, "grow_grad2d": 0.001,
        "cap_max": 400,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _threads_and_signals() -> Iterator[None]:
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)


def options(**changes: Any) -> TrainOptions:
    return TrainOptions(**{**OPTIONS, **changes})


class Training:
    """The tiny scene, trained in this process."""

    def __init__(self, folder: Path) -> None:
        self.device = use_device(0, 2)
        self.truth, views = gaussian_scene()
        self.views, self.held_out = [v for i, v in enumerate(views) if i % 4], views[::4]
        self.points = self.truth["means"][::3].double().numpy()
        self.frame = normalisation(np.array([view.center for view in views]), self.points)
        self.checkpoint = Checkpoint(folder / "state", {})
        self.stop_at: int | None = None

    def start(self, chosen: TrainOptions) -> Parameters:
        return from_points(
            self.frame.points(self.points),
            (self.truth["sh0"][::3, 0].numpy() * SH_C0 + 0.5).clip(0, 1),
            sh_degree=chosen.sh_degree,
            init_opacity=chosen.init_opa,
            init_scale=chosen.init_scale,
            generator=torch.Generator().manual_seed(chosen.seed),
        )

    def run(self, chosen: TrainOptions, stop: bool = False) -> Trained:
        """Train; with `stop`, SIGTERM arrives in the evaluation, and the step after it is the last."""

        def measure(parameters: Parameters) -> dict[str, Any]:
            if stop:
                os.kill(os.getpid(), signal.SIGTERM)
            return evaluate(parameters, self.held_out, self.frame, chosen, mean_color(self.views), self.device)

        return train(self.views, self.frame, self.start(chosen), chosen, self.checkpoint, measure, self.device)


def assert_identical(one: Trained, other: Trained) -> None:
    assert one.parameters.keys() == other.parameters.keys()
    for name, value in one.parameters.items():
        assert torch.equal(value, other.parameters[name]), name
    assert (one.step, one.curve, one.evaluations) == (other.step, other.curve, other.evaluations)


def test_training_beats_an_image_of_the_mean_colour_by_far(tmp_path: Path) -> None:
    result = Training(tmp_path).run(options(max_steps=150))
    losses = [row[1] for row in result.curve]
    assert np.mean(losses[-4:]) < 0.5 * losses[0]
    figures = result.evaluations[-1]
    assert figures["mean"]["psnr"] > figures["baseline"]["psnr"] + 5
    assert figures["mean"]["ssim"] > figures["baseline"]["ssim"] + 0.2


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tmp_path: Path) -> None:
    one, again = (Training(tmp_path / name).run(options()) for name in ("one", "again"))
    assert_identical(one, again)
    other = Training(tmp_path / "other").run(options(seed=43))
    assert not torch.equal(one.parameters["quats"][:10], other.parameters["quats"][:10])


VARIANTS = [
    pytest.param({}, id="usual"),
    pytest.param({"random_bkgd": True, "antialiased": True, "sh_degree": 0}, id="random background, no harmonics"),
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_run_stopped_again_and_again_ends_with_the_bits_of_one_that_was_not(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Stops between two refinements, right after one, after the reset at 30, and once no more refining is done."""
    chosen = options(eval_steps=[7, 20, 33, 52], **changes)
    whole = Training(tmp_path / "whole").run(chosen)
    assert len(whole.parameters["means"]) > 150
    for step in chosen.eval_steps:
        stopped = Training(tmp_path / "stopped")
        with pytest.raises(Stopped, match=f"state saved after step {step + 1};"):
            stopped.run(chosen, stop=True)
    assert_identical(Training(tmp_path / "stopped").run(chosen), whole)


def test_a_state_is_saved_every_so_many_steps_but_not_after_the_last(tmp_path: Path) -> None:
    training = Training(tmp_path)
    saved: list[int] = []
    training.checkpoint.save = lambda state: saved.append(state["step"])  # type: ignore[method-assign]
    training.run(options(checkpoint_every=20))
    assert saved == [20, 40]


def test_the_first_step_moves_positions_by_their_rate_times_the_scene_scale(tmp_path: Path) -> None:
    """Adam's first step is as long as its rate; with the other rates at zero nothing else moves."""
    still = {f"{name}_lr": 0.0 for name in ("scales", "opacities", "quats", "sh0", "shN")}
    quiet = {"refine_stop_iter": 0}
    training = Training(tmp_path)
    chosen = options(max_steps=1, means_lr=1e-3, strategy=quiet, **still)
    before = training.start(chosen)
    after = training.run(chosen).parameters
    moved = (after["means"] - before["means"]).abs().max().item()
    assert moved == pytest.approx(1e-3 * training.frame.extent, rel=1e-2)
    for name in ("scales", "opacities", "quats", "sh0", "shN"):
        assert torch.equal(after[name], before[name])


# The stage: python -m splatdag.captures.train


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_gaussian_scene(tmp_path / "data")


FLAGS = {"test_every": 4, "eval_steps": [40]}


def main(data: Path, run_dir: Path, **changes: Any) -> None:
    stage.main(data, data / "sparse" / "0" / "points3D.bin", run_dir, options(**{**FLAGS, **changes}), Job(threads=2))


def stopped_main(data: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that SIGTERM stops after step 41."""

    def measure(*args: Any, **kwargs: Any) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "evaluate", measure)
        with pytest.raises(Stopped, match="after step 41"):
            main(data, run_dir)
    assert outputs(run_dir) == []
    assert (run_dir / "state" / "checkpoint.pt").exists()


def outputs(run_dir: Path) -> list[str]:
    return sorted(path.name for path in run_dir.iterdir() if path.name != "state")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("reference")
    data = write_gaussian_scene(folder / "data")
    main(data, folder / "run")
    return folder / "run"


def assert_same_results(run_dir: Path, reference: Path) -> None:
    assert (run_dir / "splat.ply").read_bytes() == (reference / "splat.ply").read_bytes()
    assert (run_dir / "metrics.json").read_bytes() == (reference / "metrics.json").read_bytes()


def test_a_run_is_complete_its_manifest_last_and_its_state_gone(reference: Path) -> None:
    assert outputs(reference) == ["curves.png", "manifest.json", "metrics.json", "preview.jpg", "splat.ply"]
    assert not (reference / "state").exists()
    times = {path.name: path.stat().st_mtime_ns for path in reference.iterdir()}
    assert max(times, key=times.__getitem__) == "manifest.json"


def test_the_manifest_says_what_ran(reference: Path) -> None:
    manifest = Manifest.model_validate_json((reference / "manifest.json").read_text())
    assert manifest.stage == "captures.train"
    assert TrainOptions(**manifest.options) == options(**FLAGS)
    assert set(manifest.inputs) == {"photos", "model"}
    assert manifest.gaussians == PlyData.read(str(reference / "splat.ply"))["vertex"].count
    assert manifest.gaussians > 150
    assert (manifest.steps, manifest.offset, manifest.exit_reason) == (STEPS, [0, 0, 0], "finished")
    parts = {name: value for name, value in manifest.seconds.items() if name != "total"}
    assert set(parts) >= {"startup", "train", "eval"}
    assert manifest.seconds["total"] == pytest.approx(sum(parts.values()), abs=0.05)
    assert min(parts.values()) >= 0


def test_the_mean_figures_are_those_of_the_held_out_views(reference: Path) -> None:
    metrics = json.loads((reference / "metrics.json").read_text())
    assert metrics["step"] == STEPS
    assert [view["name"] for view in metrics["views"]] == ["0.png", "4.png"]
    for key in ("psnr", "ssim"):
        assert metrics["mean"][key] == pytest.approx(sum(view[key] for view in metrics["views"]) / 2, abs=1e-9)
    assert metrics["mean"]["psnr"] > metrics["baseline"]["psnr"] + 3


def test_the_pictures_can_be_decoded(reference: Path) -> None:
    preview = cv2.imread(str(reference / "preview.jpg"))
    assert preview.shape[0] > 2 * 320
    assert preview.shape[1] > 2 * 480
    # Left is the prediction, right the ground truth: alike, and no blank.
    left, right = preview[:320, :480].astype(float), preview[:320, 486 : 486 + 480].astype(float)
    assert np.abs(left[40:] - right[40:]).mean() < 0.5 * right[40:].std()
    with Image.open(reference / "curves.png") as curves:
        curves.load()
        assert min(curves.size) > 300


def test_the_file_on_disk_scores_what_the_metrics_say(reference: Path, data: Path) -> None:
    """Held-out views drawn from splat.ply with the world's cameras, PSNR by its formula."""
    from scenes import intrinsics, photo_of

    from splatdag.splats.ply import read_ply

    parameters = read_ply(reference / "splat.ply")
    metrics = json.loads((reference / "metrics.json").read_text())
    _, views = gaussian_scene()
    for row in metrics["views"]:
        view = next(v for v in views if v.name == row["name"])
        image = photo_of(parameters, view.world_to_camera, intrinsics())
        error = np.mean((image - view.image_HW3.numpy() / 255.0) ** 2)
        assert -10 * np.log10(error) == pytest.approx(row["psnr"], abs=0.01)


def flags(run_dir: Path, data: Path) -> list[str]:
    strategy = [f"--strategy.{name}={value}" for name, value in OPTIONS["strategy"].items()]
    plain = [
        "--preset=small", "--max-steps=60", "--checkpoint-every=5", "--sh-degree-interval=20", "--test-every=4",
    ]  # fmt: skip
    paths = [f"--data-dir={data}", f"--model={data / 'sparse' / '0'}", f"--result-dir={run_dir}"]
    return [*paths, *plain, *strategy, "--eval-steps", "40"]


def interrupted(run_dir: Path, data: Path, number: int) -> tuple[int, str]:
    """A process that gets a signal once it has saved its state; its exit code and its log."""
    log = run_dir.parent / "train.log"
    command = [sys.executable, "-m", "splatdag.captures.train", *flags(run_dir, data), f"--log={log}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (run_dir / "state" / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return process.returncode, log.read_text()


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
    aside = tmp_path / "run" / "state" / "checkpoint.old.pt"
    assert warning == f"state not continued: {reason}; it is kept as {aside} until this run is published"
    assert not any("continuing" in message for message in caplog.messages)
    assert (tmp_path / "run" / "splat.ply").read_bytes() != (reference / "splat.ply").read_bytes()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["steps"] == STEPS


def test_another_version_of_the_code_does_not_continue(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_main(data, tmp_path / "run", monkeypatch)
    monkeypatch.setattr(stage, "code_digest", lambda name: "another")
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
    assert "continuing after step 50" in caplog.messages
    assert_same_results(run_dir, reference)
    assert (run_dir / "manifest.json").exists()


def test_touching_photos_does_not_stop_a_state_from_being_continued(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped_main(data, tmp_path / "run", monkeypatch)
    for path in (data / "images").iterdir():
        os.utime(path, (1, 1))
    with caplog.at_level(logging.INFO):
        main(data, tmp_path / "run")
    assert "continuing after step 41" in caplog.messages


def test_the_known_gaussians_score_far_better_than_any_training_here() -> None:
    """The scene's photos are what its Gaussians look like, so the figures above have a ceiling."""
    truth, views = gaussian_scene()
    frame = normalisation(np.array([view.center for view in views]), truth["means"].double().numpy())
    normalised: Parameters = {
        **random_gaussians(300),
        "means": torch.tensor(frame.points(truth["means"].double().numpy()), dtype=torch.float32),
        "scales": truth["scales"] - float(np.log(frame.scale)),
    }
    figures = evaluate(normalised, views, frame, options(), mean_color(views), torch.device("cpu"))
    assert figures["mean"]["psnr"] > 50
