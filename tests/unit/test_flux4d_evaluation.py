"""Checkpoints of Flux4D are measured wherever they come from; previews show the logs of the run alone."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.flux4d import INDEX, overfitted, street, trained

from splatdag.commands.runs import read_runs
from splatdag.driving.evaluation import evaluate, merge
from splatdag.driving.evaluation.measure_and_publish import MEASURED
from splatdag.driving.training_options import EvaluateOptions
from splatdag.workflow.digests import file_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import Manifest
from splatdag.workflow.publish import read_json
from splatdag.workflow.stage import Job

QUICK = EvaluateOptions(save_renders=False)


def evaluated(ckpt: Path, out: Path, options: EvaluateOptions = QUICK) -> Path:
    """Measure a checkpoint on the test log, in a folder."""
    evaluate.main(street() / INDEX, street(), ckpt, "001", out / "001", options, Job())
    merge.main(out, ckpt, street() / INDEX, ("001",), Job())
    return out


def stepped(source: Path, target: Path, step: int) -> Path:
    """A checkpoint of the same weights that says to be of another step."""
    content = torch.load(source, weights_only=True)
    torch.save(content | {"step": step}, target)
    return target


def test_a_checkpoint_from_anywhere_is_measured_without_the_folder_of_its_training(tmp_path: Path) -> None:
    elsewhere = tmp_path / "downloads" / "theirs.pt"
    elsewhere.parent.mkdir()
    shutil.copy(trained() / "ckpt_step_000006.pt", elsewhere)
    out = evaluated(elsewhere, tmp_path / "results" / "driving" / "theirs")
    assert {path.name for path in out.iterdir()} == {"001", "metrics.json", "preview.jpg", "manifest.json"}
    metrics, expected = read_json(out / "metrics.json"), read_json(trained() / "metrics.json")
    for part in ("mean", "baseline", "nvs", "scene_flow"):
        assert metrics[part] == expected[part]
    meta = metrics["meta"]
    assert (meta["step"], meta["camera_name"], meta["ckpt"]) == (6, "front_camera", str(elsewhere))
    manifest = Manifest.model_validate(read_json(out / "manifest.json"))
    assert manifest.stage == "driving.evaluation.evaluate"
    assert manifest.inputs["ckpt"] == file_digest(elsewhere)
    assert manifest.inputs.keys() == {"ckpt", "clips_001", "log_001"}
    assert (manifest.steps, manifest.options["channels"], manifest.options["max_eval_clips"]) == (6, [8, 8], None)
    assert {"startup", "eval", "publish", "total"} == manifest.seconds.keys()
    assert manifest.gaussians == read_json(trained() / "manifest.json")["gaussians"]
    assert [(run.name, run.fault) for run in read_runs(tmp_path / "results")] == [("driving/theirs", "")]


def test_another_step_of_a_run_is_what_its_metrics_and_manifest_say(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained(), run)
    ckpt = stepped(run / "ckpt_step_000006.pt", run / "ckpt_step_000004.pt", 4)
    evaluated(ckpt, run)
    assert read_json(run / "metrics.json")["meta"]["step"] == 4
    manifest = Manifest.model_validate(read_json(run / "manifest.json"))
    assert (manifest.steps, manifest.stage) == (4, "driving.training.train")


def test_the_folder_of_another_training_is_left_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(overfitted(), run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for work in (
        lambda: evaluate.main(street() / INDEX, street(), trained() / "ckpt_last.pt", "001", run / "001", QUICK, Job()),
        lambda: merge.main(run, trained() / "ckpt_last.pt", street() / INDEX, ("001",), Job()),
    ):
        with pytest.raises(
            UserError, match=r"run: has ckpt_last\.pt of another training; measure .* in a folder of its"
        ):
            work()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_was_measured_of_another_checkpoint_or_with_other_options_is_not_merged(tmp_path: Path) -> None:
    ckpt = trained() / "ckpt_last.pt"
    out = evaluated(ckpt, tmp_path / "out")
    other = stepped(ckpt, tmp_path / "other.pt", 5)
    with pytest.raises(UserError, match=r"001.metrics\.json: was measured with another checkpoint; evaluate"):
        merge.main(out, other, street() / INDEX, ("001",), Job())
    rows = read_json(out / "001" / MEASURED)
    rows["rows"]["manifest"]["options"]["dynamic_mask"] = "points_dilated"
    (out / "002").mkdir()
    (out / "002" / MEASURED).write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"002.metrics\.json: was measured with other options; evaluate"):
        merge.main(out, ckpt, street() / INDEX, ("001", "002"), Job())
    with pytest.raises(UserError, match="ckpt: no such file"):
        merge.main(out, tmp_path / "none.pt", street() / INDEX, ("001",), Job())
    (out / "001" / MEASURED).write_text('{"rows": {"manifest": null}}')
    with pytest.raises(UserError, match=r"001.metrics\.json: not what an evaluation writes"):
        merge.main(out, ckpt, street() / INDEX, ("001",), Job())
    with pytest.raises(UserError, match="scenes: none"):
        merge.main(out, ckpt, street() / INDEX, (), Job())


def reproduction(**more: Any) -> dict[str, Any]:
    """A checkpoint as the reproduction's scripts write it: `train_stage6.py`, and with more `train_flux4d.py`."""
    weights = {"stem.conv.weight": torch.zeros(32, 3, 3, 3, 15), "stem.bn.running_mean": torch.zeros(32)}
    return {"step": 30_000, "model_state": weights, "optimizer_state": {"state": {}, "param_groups": []}, **more}


STATES = {"python_random": random.Random(1).getstate(), "numpy": np.random.RandomState(1).get_state()}


@pytest.mark.parametrize("more", [{}, {"rng_state": STATES}], ids=["train_stage6", "train_flux4d"])
def test_a_checkpoint_of_the_reproduction_is_refused_with_the_reason(tmp_path: Path, more: dict[str, Any]) -> None:
    torch.save(reproduction(**more), tmp_path / "ckpt_last.pt")
    with pytest.raises(UserError, match="is a checkpoint of the Flux4D reproduction: its network is not ours") as error:
        evaluated(tmp_path / "ckpt_last.pt", tmp_path / "out")
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", None])
def test_what_is_no_checkpoint_is_refused_and_nothing_is_written(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file.pt"
    if content is None:
        torch.save({"anything": torch.zeros(3)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"file\.pt: (can't be read as a checkpoint|no checkpoint of flux4d)"):
        evaluated(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_preview_shows_the_run_s_own_logs_alone(tmp_path: Path) -> None:
    """Of a log of an earlier split the folder is still there, with red pictures of what was to be predicted."""
    out = tmp_path / "out"
    (clip,) = (trained() / "001").glob("001_*")
    earlier = out / "000" / clip.name
    shutil.copytree(clip, earlier)
    for path in earlier.glob("*.jpg"):
        Image.new("RGB", Image.open(path).size, (255, 0, 0)).save(path)
    evaluated(trained() / "ckpt_last.pt", out)
    preview = np.asarray(Image.open(out / "preview.jpg").convert("RGB")).astype(int)
    red = (preview[..., 0] > 200) & (preview[..., 1] < 60) & (preview[..., 2] < 60)
    assert red.mean() < 0.01
    assert preview.std() > 20
