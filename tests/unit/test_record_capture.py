"""Recordings of captures' runs, read back."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.browser import CHROMIUM, chromium, web_viewer
from support.rrd import contents, entities, layout, rerun, views
from support.scenes import random_gaussians, write_gaussian_scene
from support.waiting import wait_until

from splatdag.captures.record_capture import main
from splatdag.recording.options import CaptureRecordingOptions
from splatdag.splats.gaussians import SH_C0
from splatdag.splats.normalisation import Normalisation
from splatdag.splats.ply import read_ply, write_ply
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job

HELD_OUT = ["0.png", "4.png"]
STEPS = [200, 400]
SIZE = (48, 32)


@pytest.fixture(scope="module")
def shared_capture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ball")
    write_gaussian_scene(folder)
    run = folder / "single"
    (run / "renders").mkdir(parents=True)
    (run / "stats").mkdir()
    write_ply(run / "splat.ply", random_gaussians(50), Normalisation(np.zeros(3), 2.0, 1.0))
    (run / "manifest.json").write_text(json.dumps({"offset": [0, 0, 0]}))
    (run / "metrics.json").write_text(json.dumps({"views": [{"name": name, "psnr": 20} for name in HELD_OUT]}))
    for step in STEPS:
        for index in range(len(HELD_OUT)):
            pair = np.full((SIZE[1], 2 * SIZE[0], 3), 10 * index, np.uint8)  # ground truth, dark
            pair[:, SIZE[0] :] = step // 2  # prediction
            Image.fromarray(pair).save(run / "renders" / f"val_step{step - 1}_{index:04d}.png")
        (run / "stats" / f"val_step{step - 1:04d}.json").write_text(json.dumps({"psnr": step / 20, "ssim": 0.5}))
    training = {"step": [0, 10, 20], "loss": [0.5, 0.25, 0.125], "psnr": [10.0, 12.0, 14.0]}
    held_out = [{"step": step, "psnr": step / 20, "ssim": 0.5} for step in STEPS]
    (run / "curves.json").write_text(json.dumps({"training": training, "held_out": held_out}))
    return folder


@pytest.fixture
def capture(shared_capture, tmp_path):
    """A finished run on a capture of eight photos, to break."""
    return Path(shutil.copytree(shared_capture, tmp_path / "ball"))


def record(capture, name="capture.rrd", **options):
    out = capture / name
    main(capture / "single", capture / "sparse" / "0", out, CaptureRecordingOptions(**options), Job())
    return out


def cut_short(path):
    path.write_bytes(path.read_bytes()[:200])


def older(run, figures):
    """A run without curves.json, whose first evaluation says this."""
    (run / "curves.json").unlink()
    (run / "stats" / "val_step0199.json").write_text(figures)


def pixels(row):
    return np.asarray(Image.open(io.BytesIO(bytes(row[0])))).astype(float)


def test_a_recording_is_valid_and_the_same_again(capture):
    first, again = record(capture), record(capture, "again.rrd")
    assert rerun("verify", first).returncode == 0
    assert rerun("compare", "--unordered", first, again).returncode == 0
    assert contents(first) == contents(again)


def test_held_out_views_are_prediction_beside_ground_truth_after_every_evaluation(capture):
    path = record(capture)
    panel = layout(path)["time_panel"]
    assert (panel["timeline"], panel["loop_mode"]) == ("step", 2)
    assert panel["time_selection"] == {"min": STEPS[0], "max": STEPS[-1]}, "before the first there is nothing to see"
    for index, name in enumerate(HELD_OUT):
        origin = f"held_out/{name}/pred_gt"
        assert views(path)[f"{name}: prediction | ground truth"] == (origin, True)
        rows = entities(path)[origin]
        assert rows["step"] == STEPS
        for step, row in zip(STEPS, rows["EncodedImage:blob"], strict=True):
            shown = pixels(row)
            assert np.abs(shown[:, : SIZE[0] - 8] - step // 2).max() < 6
            assert np.abs(shown[:, SIZE[0] + 8 :] - 10 * index).max() < 6


def test_pictures_of_an_only_evaluation_are_seen_at_every_step(capture):
    for path in (capture / "single" / "renders").glob(f"val_step{STEPS[0] - 1}_*"):
        path.unlink()
    path = record(capture)
    rows = entities(path)[f"held_out/{HELD_OUT[0]}/pred_gt"]
    assert "step" not in rows
    assert len(rows["EncodedImage:blob"]) == 1
    panel = layout(path)["time_panel"]
    assert (panel["loop_mode"], panel["fps"]) == (3, STEPS[-1] / 5), "the curves are played in five seconds"


def test_the_splat_has_its_colours_sizes_turns_and_harmonics(capture):
    splat = {name: tensor.numpy() for name, tensor in read_ply(capture / "single" / "splat.ply").items()}
    rows = {name: values[0] for name, values in entities(record(capture))["world/splat"].items()}
    np.testing.assert_array_equal(np.array(rows["GaussianSplats3D:centers"], np.float32), splat["means"])
    np.testing.assert_allclose(rows["GaussianSplats3D:scales"], np.exp(splat["scales"]), rtol=1e-6)
    np.testing.assert_allclose(np.array(rows["GaussianSplats3D:quaternions"])[:, 3], splat["quats"][:, 0], atol=1e-6)
    rgba = np.array([[value >> shift & 255 for shift in (24, 16, 8, 0)] for value in rows["GaussianSplats3D:colors"]])
    np.testing.assert_allclose(rgba[:, :3] / 255, (0.5 + SH_C0 * splat["sh0"][:, 0]).clip(0, 1), atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(rgba[:, 3] / 255, 1 / (1 + np.exp(-splat["opacities"])), atol=0.5 / 255 + 1e-6)
    harmonics = np.array(rows["GaussianSplats3D:sh_coefficients"])
    assert rows["GaussianSplats3D:spherical_harmonics_degree"] == [1]
    np.testing.assert_allclose(harmonics[:, :3], splat["shN"], atol=1e-3)
    assert not harmonics[:, 3:].any()


def test_gaussians_may_be_points_or_of_one_colour(capture):
    points = entities(record(capture, gaussians=False))["world/splat"]
    assert len(points["Points3D:positions"][0]) == 50
    flat = entities(record(capture, sh_degree=0))["world/splat"]
    assert "GaussianSplats3D:sh_coefficients" not in flat


def test_cameras_and_points_lie_in_the_frame_of_the_splat(capture):
    (capture / "single" / "manifest.json").write_text(json.dumps({"offset": [100, 0, 0]}))
    found = entities(record(capture))
    assert len(found["world/cameras/training"]["LineStrips3D:strips"][0]) == 3 * 6, "three lines for each of six"
    assert {name for name in found if name.startswith("world/cameras/held_out/")} == {
        f"world/cameras/held_out/{name}" for name in HELD_OUT
    }
    camera = found["world/cameras/held_out/0.png"]
    assert camera["Pinhole:resolution"][0] == [list(SIZE)]
    [center] = camera["Transform3D:translation"][0]
    np.testing.assert_allclose(np.linalg.norm(np.add(center, [100, 0, 0])), 3.03, atol=0.05)
    assert np.median(np.array(found["world/points"]["Points3D:positions"][0])[:, 0]) == pytest.approx(-100, abs=0.3)


def test_loss_and_psnr_are_curves_over_steps(capture):
    found = entities(record(capture))
    assert found["plots/loss/training"]["step"] == [0, 10, 20]
    assert found["plots/loss/training"]["Scalars:scalars"] == [[0.5], [0.25], [0.125]]
    assert found["plots/psnr/held_out"]["Scalars:scalars"] == [[10.0], [20.0]]
    assert {"loss", "psnr"} <= views(capture / "capture.rrd").keys()


def test_a_run_that_was_finished_before_curves_were_numbers_has_its_evaluations(capture):
    (capture / "single" / "curves.json").unlink()
    path = record(capture)
    assert entities(path)["plots/psnr/held_out"]["Scalars:scalars"] == [[10.0], [20.0]]
    assert "loss" not in views(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "manifest.json").unlink(), "single: the run is not finished, it has no manifest.json"),
        (lambda run: shutil.rmtree(run / "renders"), "renders: no pictures of all 2 held-out views; train the run"),
        (lambda run: (run / "splat.ply").write_text("no"), "splat.ply: not a PLY file of Gaussians"),
        (lambda run: (run / "metrics.json").write_text('{"views": [{"name": "x"}]}'), "no pictures of all 1 held-out"),
        (lambda run: shutil.rmtree(run.parent / "sparse"), "can't read the COLMAP model"),
        (
            lambda run: cut_short(run.parent / "sparse/0/images.bin"),
            "images.bin: damaged or cut short, it has only 200",
        ),
        (lambda run: (run / "curves.json").write_text("{}"), "curves.json: not what a training writes (KeyError"),
        (lambda run: (run / "curves.json").write_text("[]"), "curves.json: not an object of names and values"),
        (lambda run: older(run, '{"ssim": 0.5}'), "val_step0199.json: not what a training writes (KeyError: 'psnr')"),
        (lambda run: older(run, '{"psnr": "x"}'), "val_step0199.json: not what a training writes (ValueError"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(capture, spoil, message):
    spoil(capture / "single")
    with pytest.raises(UserError) as caught:
        record(capture)
    assert message in str(caught.value)
    assert not list(capture.glob("*.rrd"))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_web_viewer_of_the_wheel_shows_a_recording(capture):
    """In a headless browser with WebGL in software: the window's own grey gives way to pictures."""
    path = record(capture, gaussians=False)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        web_viewer(path) as address,
        chromium(Path(profile)) as page,
    ):
        page.open(address)
        wait_until(lambda: _shows(page, STEPS[-1] // 2, 10), every_s=1)  # a screenshot is work for the browser, too


def _shows(page, *levels):
    """Tell whether areas of these greys, as large as a part of a view, are on the page."""
    shown = page.screenshot().astype(int)
    return all((np.abs(shown - level).max(axis=2) < 5).sum() > 4000 for level in levels)
