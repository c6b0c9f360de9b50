"""The stage `scene.evaluate_renders`: pictures of any program measured as our own evaluations measure theirs."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.photosets import camera_of, colours, dataset, lenses, loaded, write_mask
from support.scenes import write_gaussian_scene
from support.train_runs import main as train

from splatdag.commands.runs import read_runs
from splatdag.scene import evaluate_renders as stage
from splatdag.scene.options import RendersOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job


def measured(renders: Path, out: Path, photos: Path | None = None, model: Path | None = None, **options: Any) -> Any:
    stage.main(renders, out, RendersOptions(**options), Job(), photos=photos, model=model)
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data`, in which a held-out photo has a mask, and a run on it, `results/captures/dog/single`."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_gaussian_scene(folder / "data")
    mask = np.full((32, 48), 255, np.uint8)
    mask[:, :16] = 0
    write_mask(data / "masks" / "4.png", mask)
    train(data, folder / "results" / "captures" / "dog" / "single", eval_steps=[20])
    return folder


def assert_alike(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal but for what 8 bits round away."""
    assert found.keys() == expected.keys()
    for key, close in {"psnr": 0.05, "ssim": 1e-3}.items():
        assert found[key] == pytest.approx(expected[key], abs=close)


def test_our_own_pictures_have_the_figures_of_our_evaluation(trained: Path) -> None:
    run = trained / "results" / "captures" / "dog" / "single"
    ours = json.loads((run / "metrics.json").read_text())
    found = measured(run / "renders", run / "again", trained / "data", test_every=4)
    assert found["step"] == ours["step"] == 60, "the last of the two steps"
    assert [view["name"] for view in found["views"]] == [view["name"] for view in ours["views"]] == ["0.png", "4.png"]
    for view, expected in zip(found["views"], ours["views"], strict=True):
        assert_alike(view, expected)
    assert_alike(found["mean"], ours["mean"])
    assert_alike(found["baseline"], ours["baseline"])
    assert {row["why"] for row in found["left_out"]} == {"of an earlier step"}
    cells = {row.name: row.cells for row in read_runs(trained / "results")}["captures/dog/single/again"]
    assert (cells["psnr"], cells["steps"]) == (found["mean"]["psnr"], 60)


def test_pictures_that_bring_their_truth_along_need_no_photos(trained: Path, tmp_path: Path) -> None:
    renders = trained / "results" / "captures" / "dog" / "single" / "renders"
    found = measured(renders, tmp_path / "out")
    ours = json.loads((renders.parent / "metrics.json").read_text())
    assert [view["name"] for view in found["views"]] == ["val_step59_0000.png", "val_step59_0001.png"]
    assert found["views"][0]["psnr"] == pytest.approx(ours["views"][0]["psnr"], abs=0.05)
    preview = cv2.imread(str(tmp_path / "out" / "preview.jpg"))
    assert preview.shape[0] > 2 * 320, "a row for each"
    with pytest.raises(UserError, match=r"photos: 1 are held out, but 2 pictures of step 59 are there; give split"):
        measured(renders, tmp_path / "other", trained / "data")
    assert not (tmp_path / "other").exists()


def noisy(pixels: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, sigma, pixels.shape)
    return (pixels + noise).clip(0, 255).round().astype(np.uint8)


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((image / 255.0 - truth / 255.0) ** 2)))


@lenses
def test_pictures_of_another_program_belong_to_the_undistorted_photos_of_their_names(tmp_path: Path, lens: str) -> None:
    names = ["left/0.jpg", "left/1.png", "right/0.png", "right/2.bmp"]
    dataset(tmp_path / "data", {name: colours(index) for index, name in enumerate(names)}, camera_of(lens))
    views = {view.name: view.image_HW3.numpy() for view in loaded(tmp_path / "data", 2)}
    renders = tmp_path / "renders"
    drawn = {"left/0.png": "left/0.jpg", "1.png": "left/1.png", "2.jpeg.png": None, "right/0.jpg": "right/0.png"}
    expected = {}
    for name, photo in drawn.items():
        (renders / name).parent.mkdir(parents=True, exist_ok=True)
        image = noisy(views[photo or "left/0.jpg"], 12)
        cv2.imwrite(str(renders / name), image[:, :, ::-1])
        if photo is not None:
            expected[photo] = psnr(cv2.imread(str(renders / name))[:, :, ::-1], views[photo])
    found = measured(renders, tmp_path / "out", tmp_path / "data", model=tmp_path / "data" / "model")
    assert {view["name"]: view["psnr"] for view in found["views"]} == pytest.approx(expected, abs=0.01)
    assert found["left_out"] == [{"name": "2.jpeg.png", "why": "no photo has this name"}]
    flat = views["right/2.bmp"].mean(axis=(0, 1))
    of_photos = [psnr(np.broadcast_to(flat, views[name].shape), views[name]) for name in expected]
    assert found["baseline"]["psnr"] == pytest.approx(np.mean(of_photos), abs=0.02)
    assert "step" not in found


def test_transparency_and_masks_count_as_in_a_training(tmp_path: Path) -> None:
    photo = np.dstack([colours(), np.full((150, 200), 255, np.uint8)])
    photo[:50, :, 3] = 0
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), photo)
    mask = np.full((150, 200), 255, np.uint8)
    mask[100:] = 0
    write_mask(tmp_path / "photos" / "masks" / "a.png", mask)
    drawn = noisy(photo[:, :, :3], 9)
    drawn[:50] = 255
    drawn[100:] = 0  # wrong where nobody looks
    (tmp_path / "renders").mkdir()
    cv2.imwrite(str(tmp_path / "renders" / "a.png"), drawn)
    expected = -10 * np.log10(np.mean((drawn[50:100] / 255.0 - photo[50:100, :, :3] / 255.0) ** 2) / 2)
    found = measured(tmp_path / "renders", tmp_path / "out", tmp_path / "photos", white_bg=True)
    assert found["mean"]["psnr"] == pytest.approx(expected, abs=1e-3)


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos, renders = tmp_path / "photos", tmp_path / "renders"
    for name in ("a.png", "b.png", "c.png", "d.png", "e.png"):
        write_mask(photos / name, colours())
    for name, size in {
        "a.png": (200, 150),
        "b.png": (100, 100),
        "c.png": (400, 300),
        "x.png": (9, 9),
        "y.png": (9, 9),
    }.items():
        write_mask(renders / name, cv2.resize(colours(), size))
    write_mask(renders / "d.png", colours())
    write_mask(renders / "sub" / "d.bmp", colours())
    with caplog.at_level(logging.INFO):
        found = measured(renders, tmp_path / "out", photos)
    assert [view["name"] for view in found["views"]] == ["a.png"]
    assert found["mean"]["psnr"] == 100
    assert found["left_out"] == [
        {"name": "b.png", "why": "100×100 pixels, but its photo b.png has 200×150"},
        {"name": "c.png", "why": "400×300 pixels, but its photo c.png has 200×150"},
        {"name": "d.png", "why": "2 pictures are of photo d.png"},
        {"name": "sub/d.bmp", "why": "2 pictures are of photo d.png"},
        {"name": "x.png", "why": "no photo has this name"},
        {"name": "y.png", "why": "no photo has this name"},
    ]
    assert "x.png and 1 more (no photo has this name)" in caplog.text
    assert "1 photos have no picture" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "photos: .* has no val_step.* with their ground truth; give --photos"),
        ({"photos": "gone"}, "photos: no such folder"),
        ({"model": "gone"}, "model: give the photos of the model, too"),
        ({"photos": "photos", "model": "gone"}, "model: no such file or folder"),
        ({"photos": "photos", "out": "renders"}, "result_dir: .* holds the renders"),
        ({"renders": "empty", "photos": "photos"}, "renders: no photos"),
        (
            {"photos": "others"},
            r"renders: none of the pictures can be measured; left out: a\.png \(no photo has this name",
        ),
        ({"renders": "small", "photos": "photos"}, r"a\.png: only 8×6 pixels as it is used"),
        ({"renders": "odd"}, r"val_step9_0000\.png: 201 pixels wide, expected ground truth \| prediction"),
        ({"renders": "damaged", "photos": "photos"}, r"damaged/a\.png: can't be decoded"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_nothing_is_written(
    tmp_path: Path, given: dict[str, str], message: str
) -> None:
    write_mask(tmp_path / "photos" / "a.png", colours())
    write_mask(tmp_path / "renders" / "a.png", colours())
    write_mask(tmp_path / "others" / "b.png", colours())
    write_mask(tmp_path / "small" / "a.png", colours()[:6, :8])
    write_mask(tmp_path / "odd" / "val_step9_0000.png", np.zeros((20, 201, 3), np.uint8))
    shutil.copytree(tmp_path / "renders", tmp_path / "damaged")
    (tmp_path / "damaged" / "a.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    places = {name: tmp_path / path for name, path in given.items()}
    renders, out = places.pop("renders", tmp_path / "renders"), places.pop("out", tmp_path / "out")
    with pytest.raises(UserError, match=message) as caught:
        measured(renders, out, **places)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert {path.name for path in (tmp_path / "renders").iterdir()} == {"a.png"}
