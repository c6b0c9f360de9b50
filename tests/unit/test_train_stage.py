"""The stage `captures.train`: the files of a run."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData
from support.scenes import gaussian_scene
from support.train_runs import CONTRACT, FLAGS, outputs
from support.train_runs import data as data
from support.train_runs import reference as reference
from support.trainings import STEPS, options

from splatdag.captures import train as captures_train
from splatdag.scene.options import TrainOptions
from splatdag.workflow.manifest import Manifest, RunId
from splatdag.workflow.stage import Job


def test_a_run_is_complete_its_manifest_last(reference: Path) -> None:
    assert outputs(reference) == CONTRACT
    times = {path.name: path.stat().st_mtime_ns for path in reference.iterdir() if path.is_file()}
    assert max(times, key=times.__getitem__) == "manifest.json"


def test_the_manifest_says_what_ran(reference: Path) -> None:
    manifest = Manifest.model_validate_json((reference / "manifest.json").read_text())
    assert manifest.stage == "scene.train"
    assert TrainOptions(**manifest.options) == options(**FLAGS)
    assert set(manifest.inputs) == {"photos", "model", "held_out"}
    assert manifest.gaussians == PlyData.read(str(reference / "splat.ply"))["vertex"].count
    assert manifest.gaussians > 150
    assert (manifest.steps, manifest.offset, manifest.exit_reason) == (STEPS, [0, 0, 0], "finished")
    parts = {name: value for name, value in manifest.seconds.items() if name != "total"}
    assert set(parts) >= {"startup", "train", "eval"}
    assert manifest.seconds["total"] == pytest.approx(sum(parts.values()), abs=0.05)
    assert min(parts.values()) >= 0


def test_a_training_by_hand_is_a_capture_named_as_its_folder(data: Path, tmp_path: Path) -> None:
    chosen = captures_train.TrainOptions(preset="small", max_steps=2, disable_video=True)
    captures_train.main(data, data / "sparse" / "0", tmp_path / "dog", chosen, Job())
    manifest = Manifest.model_validate_json((tmp_path / "dog" / "manifest.json").read_text())
    assert manifest.run == RunId(area="captures", scene="dog", variant="")


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
    from support.scenes import intrinsics, photo_of

    from splatdag.splats.ply import read_ply

    parameters = read_ply(reference / "splat.ply")
    metrics = json.loads((reference / "metrics.json").read_text())
    _, views = gaussian_scene()
    for row in metrics["views"]:
        view = next(v for v in views if v.name == row["name"])
        image = photo_of(parameters, view.world_to_camera, intrinsics())
        error = np.mean((image - view.image_HW3.numpy() / 255.0) ** 2)
        assert -10 * np.log10(error) == pytest.approx(row["psnr"], abs=0.01)


def test_the_published_file_renders_as_the_checkpoint_does(reference: Path) -> None:
    """The file in the world's frame and the checkpoint in that of training, each with its cameras.

    Alike to 1e-4 but for single pixels where rounding decides whether a Gaussian reaches the least alpha, 1/255.
    """
    from splatdag.scene.evaluation import predict
    from splatdag.scene.saved_splats import load_ckpt
    from splatdag.scene.splat_model import SplatModel
    from splatdag.splats.normalisation import Normalisation
    from splatdag.splats.ply import read_ply

    loaded = load_ckpt(reference / "ckpts" / f"ckpt_{STEPS - 1}_rank0.pt", torch.device("cpu"))
    published = SplatModel(read_ply(reference / "splat.ply"), loaded.options)
    world = Normalisation(np.zeros(3), 1.0, 1.0)
    for view in gaussian_scene()[1]:
        difference = predict(loaded.model, view, loaded.frame) - predict(published, view, world)
        assert (difference.abs() > 1e-4).float().mean() < 2e-3
        assert difference.abs().max() < 1 / 255
