"""No training opens a file that it is measured on before it has learnt: such files may hold anything, or be gone."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.flux4d import INDEX, TINY, street
from support.scenes import write_gaussian_scene
from support.spying import opened
from support.train_runs import assert_same_results, main
from support.trainings import STEPS

from splatdag.driving.clips.clips import clips_of
from splatdag.driving.training import train
from splatdag.driving.training_options import TrainOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job

HELD_OUT = ("0.png", "4.png")
"""Of `write_gaussian_scene`, with test_every 4."""


def masked(folder: Path) -> Path:
    """The small scene, whose held-out photos have masks."""
    data = write_gaussian_scene(folder)
    (data / "masks").mkdir()
    for name in HELD_OUT:
        cv2.imwrite(str(data / "masks" / name), np.full((32, 48), 255, np.uint8))
    return data


def test_held_out_photos_are_opened_when_all_is_learnt_and_not_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Photos and masks that can't be decoded cost no step: once they are right again, the run is what it would be."""
    caplog.set_level(logging.INFO)
    data = masked(tmp_path / "data")
    main(data, tmp_path / "reference", eval_steps=[])
    files = [data / folder / name for folder in ("images", "masks") for name in HELD_OUT]
    right = {path: path.read_bytes() for path in files}
    for path in files:
        path.write_bytes(b"garbage")
    with opened() as paths, pytest.raises(UserError, match=r"images/0\.png: can't be decoded"):
        main(data, tmp_path / "run", eval_steps=[])
    first = min(paths.index(str(path)) for path in files if str(path) in paths)
    saved = [index for index, path in enumerate(paths) if "/run/state/" in path and path.endswith(".pt")]
    assert saved
    assert saved[-1] < first
    for path, content in right.items():
        path.write_bytes(content)
    caplog.clear()
    main(data, tmp_path / "run", eval_steps=[])
    assert f"continuing after step {STEPS}" in caplog.messages
    assert_same_results(tmp_path / "run", tmp_path / "reference")


def test_what_is_learnt_from_photos_has_the_same_bits_whatever_those_held_out_show(tmp_path: Path) -> None:
    """Also where they are evaluated in the middle of the training."""
    for name in ("one", "other"):
        data = write_gaussian_scene(tmp_path / name)
        if name == "other":
            for photo in HELD_OUT:
                cv2.imwrite(str(data / "images" / photo), 255 - cv2.imread(str(data / "images" / photo)))
        main(data, tmp_path / f"{name} run", max_steps=45)
    one, other = tmp_path / "one run", tmp_path / "other run"
    assert (one / "splat.ply").read_bytes() == (other / "splat.ply").read_bytes()
    psnr = [json.loads((run / "metrics.json").read_text())["mean"]["psnr"] for run in (one, other)]
    assert psnr[0] > psnr[1] + 5


def test_photos_that_are_evaluated_and_trained_on_are_opened_once(tmp_path: Path) -> None:
    data = write_gaussian_scene(tmp_path / "data")
    with opened() as paths:
        main(data, tmp_path / "run", split="all", max_steps=3, eval_steps=[])
    times = {path: paths.count(str(path)) for path in (data / "images").iterdir()}
    assert set(times.values()) == {3}, "for its digest, its size, and its pixels"


def test_flux4d_learns_without_the_logs_that_it_is_measured_on(tmp_path: Path) -> None:
    logs = Path(shutil.copytree(street(), tmp_path / "logs"))
    tested = {clip.scene_id for clip in clips_of(logs / INDEX, "test")}
    assert tested == {"001"}
    assert {clip.scene_id for clip in clips_of(logs / INDEX, "train")} == {"002"}
    shutil.rmtree(logs / "001")
    run = tmp_path / "run"
    with opened() as paths:
        train.main(logs / INDEX, logs, run, TrainOptions(**TINY | {"iters": 2}), Job(), cache_dir=tmp_path / "lift")
    assert any(path.startswith(f"{logs}/002/") for path in paths)
    assert not [path for path in paths if path.startswith(f"{logs}/001")]
    assert torch.load(run / "ckpt_last.pt", weights_only=True)["step"] == 2
