"""The stage `captures.evaluate`: a run measured on another dataset, and what is refused before anything is written."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image
from support.scenes import gaussian_scene, write_gaussian_scene

from splatdag.commands.runs import read_runs
from splatdag.scene import evaluate as stage
from splatdag.scene import evaluation, train
from splatdag.scene.ckpt_files import last_checkpoint
from splatdag.scene.options import EvaluateOptions, TrainOptions
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.views import View
from splatdag.splats.normalisation import Normalisation, normalisation
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job
from splatdag.workflow.weights import Weights

STEPS = 40


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, `results/captures/dog/single`, and the dataset `data` that it was trained on."""
    folder = tmp_path_factory.mktemp("project")
    data = write_gaussian_scene(folder / "data")
    options = TrainOptions(preset="small", max_steps=STEPS, save_steps=[9], test_every=4, antialiased=True)
    run = folder / "results" / "captures" / "dog" / "single"
    train.main(data, data / "sparse" / "0", run, options, Job(threads=2, run_id="captures/dog/single"))
    return folder


@pytest.fixture
def run(project: Path) -> Path:
    return project / "results" / "captures" / "dog" / "single"


def evaluated(run: Path, data: Path, name: str, **options: Any) -> dict[str, Any]:
    folder = run / f"eval_on_{name}"
    stage.main(data, folder, EvaluateOptions(**options), Job(threads=2), run=run)
    return json.loads((folder / "metrics.json").read_text())


def test_on_the_capture_itself_the_held_out_photos_score_as_they_did_in_the_training(project: Path, run: Path) -> None:
    """The checkpoint, its frame and the options that count in rendering come back whole."""
    here = {view["name"]: view for view in evaluated(run, project / "data", "itself")["views"]}
    there = json.loads((run / "metrics.json").read_text())
    assert len(here) == 8
    assert [view["name"] for view in there["views"]] == ["0.png", "4.png"]
    for view in there["views"]:
        assert here[view["name"]] == view


def test_the_folder_keeps_the_run_contract_and_the_names_of_simple_trainer(project: Path, run: Path) -> None:
    found = evaluated(run, project / "data", "contract")
    folder = run / "eval_on_contract"
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json", "preview.jpg", "manifest.json", "stats", "renders", "cfg.yml"
    }  # fmt: skip
    stats = json.loads((folder / "stats" / "val_step0039.json").read_text())
    assert stats["psnr"] == found["mean"]["psnr"]
    assert stats["num_GS"] == json.loads((run / "manifest.json").read_text())["gaussians"]
    for index, view in enumerate(found["views"]):
        pair = np.asarray(Image.open(folder / "renders" / f"val_step39_{index:04d}.png")).astype(float) / 255
        truth, render = np.split(pair, 2, axis=1)
        assert -10 * np.log10(((truth - render) ** 2).mean()) == pytest.approx(view["psnr"], abs=0.2)


def test_compare_has_the_evaluation_as_a_run_of_its_own(project: Path, run: Path) -> None:
    mean = evaluated(run, project / "data", "itself")["mean"]
    runs = {row.name: row.cells for row in read_runs(project / "results")}
    row = runs["captures/dog/single/eval_on_itself"]
    assert (row["scene"], row["variant"], row["psnr"]) == ("dog", "single/eval_on_itself", mean["psnr"])
    assert runs["captures/dog/single"]["variant"] == "single"


def weights(name: str, **more: Any) -> Weights:
    fields = {"source": "https://x", "revision": "1", "licence": "L", "licence_url": "https://x", "commercial": None}
    return Weights(name=name, **{**fields, **more})


class Constant:
    """LPIPS of one value, with weights of its own."""

    weights = [weights("AlexNet", used_for="metrics", folder=Path("/here"))]

    def __call__(self, image: Any, target: Any, mask: Any) -> float:
        return 0.25


def test_the_manifest_names_the_weights_that_it_measured_by_and_those_that_the_run_was_made_with(
    project: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads((run / "manifest.json").read_text())["weights"] == []
    monkeypatch.setattr(stage, "weights_of_run", lambda folder: [weights(str(folder)), *Constant.weights])
    monkeypatch.setattr(evaluation, "lpips_where_possible", lambda net, side, device: Constant())
    assert evaluated(run, project / "data", "measured", eval_match_string="3")["mean"]["lpips"] == 0.25
    found = json.loads((run / "eval_on_measured" / "manifest.json").read_text())["weights"]
    assert [(one["name"], one["used_for"]) for one in found] == [(str(run), "results"), ("AlexNet", "metrics")]
    assert "folder" not in found[1], "nothing of this machine"


def test_a_match_string_chooses_the_photos(project: Path, run: Path) -> None:
    assert [view["name"] for view in evaluated(run, project / "data", "three", eval_match_string="3")["views"]] == [
        "3.png"
    ]


def test_photos_are_scaled_as_in_the_training_unless_told_otherwise(project: Path, run: Path) -> None:
    evaluated(run, project / "data", "half", data_factor=2)
    options = json.loads((run / "eval_on_half" / "manifest.json").read_text())["options"]
    assert (options["data_factor"], options["max_image_size"]) == (2, 640)
    assert Image.open(run / "eval_on_half" / "renders" / "val_step39_0000.png").size == (48, 16)


def test_a_dataset_in_another_frame_is_told_in_the_log(
    project: Path, run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_gaussian_scene(tmp_path / "moved")
    model = pycolmap.Reconstruction(str(data / "sparse" / "0"))
    model.transform(pycolmap.Sim3d(1, pycolmap.Rotation3d(), np.array([200.0, 0, 0])))
    model.write(str(data / "sparse" / "0"))
    with caplog.at_level(logging.WARNING):
        evaluated(run, project / "data", "itself")
        assert caplog.text == ""
        evaluated(run, data, "moved")
    assert "times as far out as the run's; is its COLMAP model in the same world frame" in caplog.text


@pytest.fixture
def scene() -> tuple[SplatModel, list[View], Normalisation]:
    truth, views = gaussian_scene()
    frame = normalisation(np.array([view.center for view in views]), truth["means"].numpy())
    means = torch.tensor(frame.points(truth["means"].double().numpy()), dtype=torch.float32)
    normalised = {**truth, "means": means, "scales": truth["scales"] - np.log(frame.scale)}
    return SplatModel(normalised, TrainOptions(sh_degree=1)), views, frame


def turned(view: View) -> View:
    """The same camera, looking back."""
    return replace(view, world_to_camera=np.diag([-1.0, 1, -1, 1]) @ view.world_to_camera)


def test_views_that_show_nothing_are_told_where_they_are_most(scene: Any) -> None:
    model, views, frame = scene
    assert stage.frame_warnings(model, views, frame) == []
    half = [turned(view) for view in views[:4]] + views[4:]
    assert stage.frame_warnings(model, half, frame) == []
    [line] = stage.frame_warnings(model, [turned(view) for view in views[:5]] + views[5:], frame)
    assert line.startswith("nothing is to be seen in 5 of 8 views")


def test_the_last_checkpoint_is_that_after_the_most_steps(tmp_path: Path) -> None:
    (tmp_path / "ckpts").mkdir()
    for name in ("ckpt_999_rank0.pt", "ckpt_29999_rank0.pt", "ckpt_6999_rank0.pt", "ckpt_30000_rank0.old.pt"):
        (tmp_path / "ckpts" / name).touch()
    assert last_checkpoint(tmp_path).name == "ckpt_29999_rank0.pt"


def test_a_checkpoint_may_be_named_in_place_of_the_run(project: Path, run: Path, tmp_path: Path) -> None:
    early = run / "ckpts" / "ckpt_8_rank0.pt"
    stage.main(project / "data", tmp_path / "early", EvaluateOptions(), Job(threads=2), ckpt=early)
    assert json.loads((tmp_path / "early" / "manifest.json").read_text())["steps"] == 9


def test_a_checkpoint_of_others_is_refused(project: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "ckpt_6_rank0.pt"
    torch.save({"step": 6, "splats": {"means": torch.zeros(3, 3)}}, foreign)  # as simple_trainer's, which has no frame
    with pytest.raises(UserError, match=r"ckpt_6_rank0\.pt: not a checkpoint of splatdag"):
        stage.main(project / "data", tmp_path / "out", EvaluateOptions(), Job(threads=2), ckpt=foreign)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give one of --run, a run's folder, --ckpt, a checkpoint, and --ply"),
        ({"run": "RUN", "ckpt": "RUN/ckpts/ckpt_8_rank0.pt"}, "give one of --run"),
        ({"run": "RUN", "ply": "RUN/splat.ply"}, "give one of --run"),
        ({"ply": "RUN/splat7.ply"}, "ply: no such file"),
        ({"run": "RUN", "trained_on": "EMPTY"}, "trained_on: .* knows its frame; leave it out"),
        ({"run": "EMPTY"}, "run: no checkpoint in .*ckpts"),
        ({"ckpt": "RUN/ckpts/ckpt_7_rank0.pt"}, "ckpt: no such file"),
        ({"run": "RUN", "result_dir": "RUN"}, "result_dir: .* holds the run itself; give a folder in it"),
        ({"run": "RUN", "data_dir": "DATA/images"}, "data_dir: no COLMAP model in"),
        ({"run": "RUN", "data_dir": "EMPTY"}, "data_dir: no photos"),
        ({"run": "RUN", "word": "RIGHT"}, "eval_match_string: no photo has the word 'RIGHT' in its name"),
        (
            {"run": "RUN", "factor": 5},
            r"\.png: only 10×6 pixels as it is used, at least 11 each way.*lower data_factor",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_one_line_and_nothing_is_written(
    project: Path, run: Path, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"RUN": str(run), "DATA": str(project / "data"), "EMPTY": str(tmp_path / "empty")}

    def place(name: str, default: str | None = None) -> Path | None:
        text = given.get(name, default)
        for word, folder in places.items():
            text = text.replace(word, folder) if text else text
        return Path(text) if text else None

    options = EvaluateOptions(data_factor=given.get("factor"), eval_match_string=given.get("word"))
    result_dir = place("result_dir", str(tmp_path / "out"))
    before = sorted(run.rglob("*"))
    with pytest.raises(UserError, match=message) as caught:
        files = {name: place(name) for name in ("run", "ckpt", "ply", "trained_on")}
        stage.main(place("data_dir", "DATA"), result_dir, options, Job(threads=2), **files)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert sorted(run.rglob("*")) == before
