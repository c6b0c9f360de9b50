"""Checkpoints and splats from anywhere: those of gsplat's simple_trainer and PLY files, evaluated as in the world."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
import torch
from support.scenes import arc, write_gaussian_scene
from support.simple_trainer import OF_DATASET, in_frame, save
from torch import Tensor

from splatdag.scene import evaluate, train
from splatdag.scene.options import EvaluateOptions, TrainOptions
from splatdag.scene.saved_splats import load_ckpt
from splatdag.splats.normalisation import Normalisation, simple_trainer_frames
from splatdag.splats.ply import read_ply, write_ply
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job

# What examples/datasets/normalize.py of gsplat 1.5.3 makes of `turned_scene`: world to normalised world, [3, 4]. The
# libraries of numpy choose the signs of eigenvectors, so that rows may have others.
TURNED = {
    1.0: [
        [0.021807902, -0.038560133, 0.021191071, -1.395333034],
        [0.014512498, -0.016023841, -0.044092560, -0.094994681],
        [0.041537125, 0.025843425, 0.004279555, -1.664630333],
    ],
    -1.0: [
        [-0.021768588, 0.038622272, -0.021118205, 1.398672942],
        [-0.023904302, -0.030155009, -0.030508847, 1.019651618],
        [-0.036962723, -0.003244293, 0.032167711, 1.122875696],
    ],
}
SCENE_SCALE = 0.4434252915


def turned_scene(skew: float) -> tuple[np.ndarray, np.ndarray]:
    """Cameras and points somewhere in a large world, with more points above or below their mean."""
    turn, shift = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0], [0.48, 0.64, 0.6]]), np.array([40.0, -7, 12])
    generator = np.random.default_rng(5)
    points = generator.normal(0, [2, 0.4, 1], (200, 3)) + np.array([0.1, 0.2, -0.3])
    points[:, 1] += skew * generator.exponential(1, 200)
    poses = np.array(arc(7))
    poses[:, :3, :3] = poses[:, :3, :3] @ turn.T
    poses[:, :3, 3] = 3 * poses[:, :3, 3] - poses[:, :3, :3] @ shift
    return poses, points @ turn.T * 3 + shift


def matrix_of(frame: Normalisation) -> np.ndarray:
    """World to frame, [3, 4]."""
    assert frame.rotation is not None
    turn = frame.rotation / frame.scale
    return np.column_stack([turn, -turn @ frame.center])


@pytest.mark.parametrize("skew", TURNED)
def test_the_frame_is_that_of_simple_trainer(skew: float) -> None:
    poses, points = turned_scene(skew)
    frames = simple_trainer_frames(poses, points)
    errors = [np.abs(matrix_of(frame) - TURNED[skew]).max() for frame in frames]
    assert min(errors) == min(errors[:2]) < 1e-8, "that of 1.5 is among the first two"
    np.testing.assert_allclose([frame.extent for frame in frames], SCENE_SCALE, rtol=1e-8)
    for frame in frames:
        assert np.linalg.det(frame.rotation) == pytest.approx(1)
        inside = np.einsum("vij,pj->vpi", poses[:, :3, :3], points) + poses[:, None, :3, 3]
        moved = np.array([frame.world_to_camera(pose) for pose in poses])
        seen = np.einsum("vij,pj->vpi", moved[:, :3, :3], frame.points(points)) + moved[:, None, :3, 3]
        np.testing.assert_allclose(seen * frame.scale, inside, atol=1e-8)


def test_cameras_in_one_place_have_no_frame() -> None:
    assert simple_trainer_frames(np.tile(np.eye(4), (3, 1, 1)), np.random.default_rng(0).normal(size=(9, 3))) == []


CFG = """antialiased: true
data_dir: data/garden
data_factor: 1
eval_steps:
- 7000
init_extent: 3.0
lpips_net: alex
near_plane: 0.01
strategy: !!python/object:gsplat.strategy.default.DefaultStrategy
  absgrad: false
  antialiased: false
test_every: 4
"""
"""The part of simple_trainer's cfg.yml that a Python without gsplat stumbles over, and some more."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` and a run of ours on it; `theirs/ckpts/`, the same Gaussians as simple_trainer would have saved them."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_gaussian_scene(folder / "data")
    options = TrainOptions(preset="small", max_steps=60, test_every=4, antialiased=True, disable_video=True)
    train.main(data, data / "sparse" / "0", folder / "run", options, Job(threads=2))
    theirs = in_frame(read_ply(folder / "run" / "splat.ply"), OF_DATASET)
    save(folder / "theirs" / "ckpts" / "ckpt_6999_rank0.pt", theirs)
    (folder / "theirs" / "cfg.yml").write_text(CFG)
    return folder


def evaluated(data: Path, out: Path, options: dict[str, Any] | None = None, **files: Path) -> dict[str, Any]:
    evaluate.main(data, out, EvaluateOptions(**(options or {})), Job(threads=2), **files)
    return json.loads((out / "metrics.json").read_text())


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert [view["name"] for view in found["views"]] == [view["name"] for view in expected["views"]]
    for view, other in zip(found["views"], expected["views"], strict=True):
        assert view["psnr"] == pytest.approx(other["psnr"], abs=0.01)
        assert view["ssim"] == pytest.approx(other["ssim"], abs=3e-4)


def test_a_checkpoint_of_simple_trainer_scores_what_its_gaussians_score_in_the_world(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = json.loads((trained / "run" / "metrics.json").read_text())
    ckpt = trained / "theirs" / "ckpts" / "ckpt_6999_rank0.pt"
    with caplog.at_level(logging.INFO):
        found = evaluated(trained / "data", tmp_path / "out", ckpt=ckpt)
    assert_equal(found, ours)
    assert found["step"] == 7000
    assert "frame: simple_trainer's" in caplog.text
    assert (tmp_path / "out" / "renders" / "val_step6999_0001.png").is_file()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["options"]["split"], manifest["options"]["test_every"]) == ("test_every", 4)
    assert (manifest["steps"], manifest["options"]["antialiased"]) == (7000, True)


def test_without_its_cfg_options_say_how_it_was_trained(trained: Path, tmp_path: Path) -> None:
    ours = json.loads((trained / "run" / "metrics.json").read_text())
    [theirs] = (trained / "theirs" / "ckpts").iterdir()
    ckpt = tmp_path / "downloaded.pt"
    ckpt.write_bytes(theirs.read_bytes())
    plain = evaluated(trained / "data", tmp_path / "plain", {"split": "all"}, ckpt=ckpt)
    assert len(plain["views"]) == 8
    assert json.loads((tmp_path / "plain" / "manifest.json").read_text())["options"]["antialiased"] is False
    found = evaluated(trained / "data", tmp_path / "out", {"antialiased": True, "test_every": 4}, ckpt=ckpt)
    assert_equal(found, ours)


def test_files_of_several_ranks_belong_together(trained: Path, tmp_path: Path) -> None:
    ours = json.loads((trained / "run" / "metrics.json").read_text())
    [whole] = (trained / "theirs" / "ckpts").iterdir()
    splats = torch.load(whole, weights_only=True)["splats"]
    for rank in range(3):
        save(tmp_path / f"ckpt_9_rank{rank}.pt", {name: tensor[rank::3] for name, tensor in splats.items()}, 9)
    save(tmp_path / "ckpt_19_rank0.pt", splats, 19)
    options = {"antialiased": True, "test_every": 4}
    found = evaluated(trained / "data", tmp_path / "out", options, ckpt=tmp_path / "ckpt_9_rank1.pt")
    assert_equal(found, ours)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["gaussians"] == len(splats["means"])
    assert set(manifest["inputs"]) == {"photos", "checkpoint", "checkpoint_rank1", "checkpoint_rank2"}
    save(tmp_path / "ckpt_9_rank2.pt", splats, 8)
    with pytest.raises(UserError, match=r"of its ranks are of steps \[8, 9\]"):
        load_ckpt(tmp_path / "ckpt_9_rank0.pt", torch.device("cpu"))
    (tmp_path / "ckpt_9_rank1.pt").unlink()
    with pytest.raises(UserError, match=r"ckpt_9_rank1\.pt is not beside it"):
        load_ckpt(tmp_path / "ckpt_9_rank0.pt", torch.device("cpu"))


def test_on_another_dataset_the_frame_is_that_of_the_one_trained_on(trained: Path, tmp_path: Path) -> None:
    ours = json.loads((trained / "run" / "metrics.json").read_text())
    other = write_gaussian_scene(tmp_path / "other")
    model = pycolmap.Reconstruction(str(other / "sparse" / "0"))
    for image_id in [image.image_id for image in model.images.values() if image.name not in ("0.png", "4.png")]:
        model.deregister_frame(model.images[image_id].frame_id)
    model.write(str(other / "sparse" / "0"))
    [ckpt] = (trained / "theirs" / "ckpts").iterdir()
    found = evaluated(other, tmp_path / "out", ckpt=ckpt, trained_on=trained / "data")
    assert_equal(found, ours)


def test_a_training_in_the_world_s_frame_with_light_and_cameras_of_its_own(tmp_path: Path) -> None:
    """Without normalize_world_space our checkpoints are simple_trainer's but for two parts."""
    data = write_gaussian_scene(tmp_path / "data")
    changes = {"app_opt": True, "pose_opt": True, "normalize_world_space": False, "sh_degree": 1}
    options = TrainOptions(preset="small", max_steps=40, test_every=4, disable_video=True, **changes)
    train.main(data, data / "sparse" / "0", tmp_path / "run", options, Job(threads=2))
    saved = torch.load(tmp_path / "run" / "ckpts" / "ckpt_39_rank0.pt", weights_only=True)
    parts = {name: saved[name] for name in ("pose_adjust", "app_module")}
    ckpt = save(tmp_path / "ckpt_39_rank0.pt", saved["splats"], 39, **parts)
    found = evaluated(data, tmp_path / "out", {"test_every": 4}, ckpt=ckpt)
    assert_equal(found, json.loads((tmp_path / "run" / "metrics.json").read_text()))
    with pytest.raises(UserError, match="its colours need app_module"):
        load_ckpt(save(tmp_path / "without.pt", saved["splats"]), torch.device("cpu"))
    del parts["app_module"]["color_head.0.bias"]
    with pytest.raises(UserError, match="app_module is not simple_trainer's"):
        load_ckpt(save(tmp_path / "damaged.pt", saved["splats"], **parts), torch.device("cpu"))


def test_a_ply_file_scores_what_its_run_does_in_any_frame(trained: Path, tmp_path: Path) -> None:
    ours = json.loads((trained / "run" / "metrics.json").read_text())
    options = {"split": "test_every", "test_every": 4}
    assert_equal(evaluated(trained / "data", tmp_path / "own", options, ply=trained / "run" / "splat.ply"), ours)
    [ckpt] = (trained / "theirs" / "ckpts").iterdir()
    theirs = torch.load(ckpt, weights_only=True)["splats"]
    still = Normalisation(np.zeros(3), 1.0, 1.0)
    write_ply(tmp_path / "point_cloud_6999.ply", theirs, still, antialiased=True)
    found = evaluated(trained / "data", tmp_path / "theirs", options, ply=tmp_path / "point_cloud_6999.ply")
    assert_equal(found, ours)
    assert found["step"] == 7000


def test_what_was_taken_off_positions_far_away_is_put_back(tmp_path: Path) -> None:
    """As of georeferenced models."""
    data, far = write_gaussian_scene(tmp_path / "data"), np.array([500_000.0, 4_000_000.0, 100.0])
    model = pycolmap.Reconstruction(str(data / "sparse" / "0"))
    model.transform(pycolmap.Sim3d(1, pycolmap.Rotation3d(), far))
    model.write(str(data / "sparse" / "0"))
    options = TrainOptions(preset="small", max_steps=40, test_every=4, disable_video=True)
    train.main(data, data / "sparse" / "0", tmp_path / "run", options, Job(threads=2))
    found = evaluated(
        data, tmp_path / "out", {"split": "test_every", "test_every": 4}, ply=tmp_path / "run" / "splat.ply"
    )
    assert_equal(found, json.loads((tmp_path / "run" / "metrics.json").read_text()))


def splats(count: int = 4, **changes: Tensor) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "means": (3,), "scales": (3,), "quats": (4,), "opacities": (), "sh0": (1, 3), "shN": (15, 3)
    }  # fmt: skip
    return {name: torch.zeros(count, *shape) for name, shape in shapes.items()} | changes


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "post-processing": (
        lambda folder: save(folder / "a.pt", splats(), post_processing={}),
        "holds post_processing, which is not supported; expected a checkpoint of gsplat's simple_trainer with",
    ),
    "splatfacto": (
        lambda folder: Path(torch.save({"pipeline": {}, "step": 1}, folder / "a.pt") or folder / "a.pt"),
        "holds pipeline, which is not supported",
    ),
    "other tensors": (
        lambda folder: save(folder / "a.pt", splats(w=torch.zeros(4))),
        r"its splats are means, .*, w; expected means, scales, quats, opacities, sh0, shN",
    ),
    "other sizes": (
        lambda folder: save(folder / "a.pt", splats(scales=torch.zeros(4, 2))),
        r"scales is \[4, 2\], expected \[4, 3\]",
    ),
    "fewer of one": (lambda folder: save(folder / "a.pt", splats(quats=torch.zeros(3, 4))), r"quats is \[3, 4\]"),
    "degree 4": (lambda folder: save(folder / "a.pt", splats(shN=torch.zeros(4, 24, 3))), "24 coefficients of colour"),
    "no number": (
        lambda folder: save(folder / "a.pt", splats(means=torch.full((4, 3), torch.nan))),
        "means has values that are not finite",
    ),
    "fisheye": (
        lambda folder: (
            (folder / "cfg.yml").write_text("camera_model: fisheye\n")
            and save(folder / "ckpts" / "a.pt", splats())
        ),
        "camera_model: photos are undistorted",
    ),
    "3DGUT": (
        lambda folder: (folder / "cfg.yml").write_text("with_ut: true\n") and save(folder / "ckpts" / "a.pt", splats()),
        "with_ut: 3DGUT is not supported",
    ),
    "a list": (
        lambda folder: Path(torch.save([1], folder / "a.pt") or folder / "a.pt"),
        "not a checkpoint of splatdag or simple_trainer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_one_line(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as caught:
        load_ckpt(make(tmp_path), torch.device("cpu"))
    assert "\n" not in str(caught.value)
