"""A run is made again from its manifest alone: by the commands that `reproduce` prints, run in a shell."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.flux4d import INDEX, TINY, street
from support.processes import run_module
from support.scenes import write_gaussian_scene
from support.train_runs import assert_same_results
from support.trainings import OPTIONS

from splatdag.commands.reproduce import commands, differences
from splatdag.workflow.manifest import Manifest, RunId, write_manifest
from splatdag.workflow.stage import run as run_stage


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a stage by its command line, in this process, which spares the imports."""

    def run(name: str, *words: object) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["", *map(str, words)])
        former = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as end:
            run_stage(import_module(f"splatdag.{name}").main)
        signal.signal(signal.SIGTERM, former)
        assert end.value.code == 0

    return run


def reproduce(*words: object) -> subprocess.CompletedProcess[str]:
    return run_module("splatdag.commands.reproduce", *words)


def run_lines(lines: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e"], input=lines, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_capture_is_made_again_from_its_manifest(tmp_path: Path, stage: Any) -> None:
    """Options came from a file that is gone, the paths were relative, and the run had its own name."""
    write_gaussian_scene(tmp_path / "data set")
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(OPTIONS | {"test_every": 4, "eval_steps": [40]}))
    paths = ["--data-dir=data set", "--model=data set/sparse/0", "--result-dir=results/run", "--log=logs/train.log"]
    more = ["--config=train.yaml", "--max-steps=50", "--run-id=captures/apple/single", "--sample=apple"]
    stage("scene.train", *paths, *more)
    (tmp_path / "train.yaml").unlink()
    run, again = tmp_path / "results" / "run", tmp_path / "again"
    done = reproduce(run / "manifest.json", "--into", again)
    assert (done.returncode, done.stderr) == (0, "")
    run_lines(done.stdout)
    assert_same_results(again, run)
    manifests: list[dict[str, Any]] = [json.loads((folder / "manifest.json").read_text()) for folder in (run, again)]
    for key in ("run", "sample", "options", "inputs", "code", "steps", "gaussians"):
        assert manifests[0][key] == manifests[1][key]


def test_what_is_not_as_it_was_is_told_and_the_commands_are_printed_all_the_same(tmp_path: Path, stage: Any) -> None:
    data = write_gaussian_scene(tmp_path / "data")
    paths = [f"--data-dir={data}", f"--model={data / 'sparse' / '0'}", f"--result-dir={tmp_path / 'run'}"]
    stage("scene.train", *paths, "--preset=small", "--max-steps=2", "--disable-video")
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["packages"]["numpy"] = "0.1"
    manifest["parts"][0]["code"] = "other"
    path.write_text(json.dumps(manifest))
    photo = data / "images" / "1.png"
    photo.write_bytes(photo.read_bytes() + b"0")
    done = reproduce(path)
    assert done.returncode == 0
    code, numpy, photos = done.stderr.splitlines()
    assert code == "not as it was: code of scene.train"
    assert numpy.startswith("not as it was: numpy ")
    assert numpy.endswith(", was 0.1")
    assert photos == "not as it was: photos (scene.train)"
    assert f"--result-dir={tmp_path / 'run'}" in done.stdout
    data.rename(tmp_path / "gone")
    *_, inputs = differences(Manifest.model_validate(manifest))
    assert inputs.startswith("inputs of scene.train: ")


def test_a_run_that_no_stage_wrote_can_not_be_made_again(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_manifest(path, "scene.train", RunId.parse("a/b/c"), {}, options={}, inputs={}, device="x")
    done = reproduce(path)
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path}: its manifest does not tell how it was made: no stage wrote it\n"
    path.write_text("{}")
    assert reproduce(path).stderr == f"{path}: not the manifest of a run (stage)\n"


@pytest.mark.slow
def test_a_run_of_flux4d_is_made_again_with_its_measurements(tmp_path: Path, stage: Any) -> None:
    """It goes on from a checkpoint of its own, whose name is another checkpoint's by then."""
    tiny = {name: list(value) if isinstance(value, tuple) else value for name, value in TINY.items()}
    (tmp_path / "train.yaml").write_text(json.dumps(tiny))
    logs, run, again = street(), tmp_path / "run", tmp_path / "again"
    shared = ["--index-path", logs / INDEX, "--data-root", logs, "--cache-dir", tmp_path / "lift"]
    train = [*shared, "--output-dir", "run", "--config=train.yaml"]
    stage("driving.training.train", *train, "--iters=3")
    stage("driving.training.train", *train, "--iters=5", "--resume-from=run/ckpt_last.pt")
    measured = ["--ckpt", "run/ckpt_last.pt", "--scene", "001", "--out-dir", "run/001", "--no-save-renders"]
    stage("driving.evaluation.evaluate", *shared, *measured)
    merged = ["--run-dir", "run", "--ckpt", "run/ckpt_last.pt", "--index-path", logs / INDEX, "--scenes", "001"]
    stage("driving.evaluation.merge", *merged)
    manifest = Manifest.model_validate_json((run / "manifest.json").read_text())
    assert differences(manifest) == []
    folder, *lines = map(shlex.split, commands(manifest, again))
    assert folder == ["cd", str(tmp_path)]
    for _, _, module, *words in lines:
        stage(module.removeprefix("splatdag."), *words)
    models = [torch.load(folder / "ckpt_last.pt", weights_only=True)["model"] for folder in (run, again)]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (run, again)]
    assert metrics[0]["mean"] == metrics[1]["mean"]
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (run, again)]
    assert manifests[0]["inputs"] == manifests[1]["inputs"]
    assert [part["name"] for part in manifests[1]["parts"]] == ["train", "001/evaluate", "merge"]
    assert [usage["stage"].rpartition(".")[2] for usage in manifests[1]["usage"]] == ["train", "evaluate", "merge"]
    assert sum(usage["seconds"] for usage in manifests[1]["usage"]) > manifests[1]["seconds"]["train"]


def test_what_evaluations_read_is_looked_at(tmp_path: Path, stage: Any) -> None:
    data = write_gaussian_scene(tmp_path / "data")
    paths = [f"--data-dir={data}", f"--model={data / 'sparse' / '0'}", f"--result-dir={tmp_path / 'run'}"]
    stage("scene.train", *paths, "--preset=small", "--max-steps=2", "--disable-video")
    results = [tmp_path / "run" / name for name in ("eval_on_data", "again")]
    stage("scene.evaluate", "--run=run", "--data-dir=data", f"--result-dir={results[0]}", "--data-factor=2")
    stage("scene.evaluate_renders", "--renders=run/renders", "--photos=data", f"--result-dir={results[1]}")
    manifests = [Manifest.model_validate_json((folder / "manifest.json").read_text()) for folder in results]
    assert [differences(manifest) for manifest in manifests] == [[], []]
    photo = data / "images" / "0.png"
    photo.write_bytes((data / "images" / "1.png").read_bytes())
    changed = ["photos (scene.evaluate)", "photos (scene.evaluate_renders)"]
    assert [differences(manifest) for manifest in manifests] == [[name] for name in changed]
    run_lines("\n".join(commands(manifests[1], tmp_path / "once more")))
    assert (tmp_path / "once more" / "preview.jpg").is_file()
