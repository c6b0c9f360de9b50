"""All readers of files that users have: a valid file of each, how it is read, and how values are put into it."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import human_trees
import numpy as np
import pandaset_logs
import PIL.Image
import pycolmap
import scenes
import test_transforms
import torch
import yaml

from splatdag.captures.model import read_model
from splatdag.captures.options import FrameOptions, PoseOptions, TrainOptions
from splatdag.captures.sheet import Stages, read_captures
from splatdag.captures.split import check_split
from splatdag.captures.transforms import posed_model
from splatdag.config import read_config
from splatdag.driving.checkpoints import load_model, save_ckpt
from splatdag.driving.clips import read_index
from splatdag.driving.lift_cache import cached_at, lifted
from splatdag.driving.log_check import measured
from splatdag.driving.model import Flux4D
from splatdag.driving.pandaset import Log
from splatdag.driving.training_options import LearnOptions
from splatdag.sharing.cameras import camera_names, read_cameras
from splatdag.sharing.capture import read_run
from splatdag.sharing.colmap import read_colmap
from splatdag.sharing.drive import read_clips
from splatdag.sharing.images import recorded
from splatdag.sharing.meshes import meshes_folder, read_people
from splatdag.sharing.options import RecordingOptions
from splatdag.sharing.results_tree import read_epoch
from splatdag.sharing.rrd_files import read_recording
from splatdag.sharing.scene_metrics import metrics_table
from splatdag.splats.checkpoint import Checkpoint
from splatdag.splats.model import SplatModel
from splatdag.splats.pixels import read_header, read_mask, read_pixels
from splatdag.splats.ply import read_ply, write_ply
from splatdag.splats.records import RunFiles, load_ckpt
from splatdag.splats.views import Normalisation
from splatdag.workflow.config_file import options_before_flags
from splatdag.workflow.digests import contents_digest
from splatdag.workflow.inventory import photo_names
from splatdag.workflow.publish import read_json
from splatdag.workflow.runs import read_runs
from splatdag.workflow.site import read_site
from splatdag.workflow.yaml_text import read_yaml

CPU = torch.device("cpu")
STILL = Normalisation(np.zeros(3), 1.0, 1.0)


@dataclass(frozen=True)
class Tree:
    """How nested values are read from a file and written into it."""

    load: Callable[[Path], Any]
    save: Callable[[Path, Any], None]


@dataclass(frozen=True)
class Reader:
    """A reader of files."""

    write: Callable[[Path], list[Path]]
    """Make valid files in a folder; returns those that are to be damaged."""
    read: Callable[[Path], object]
    """Read what is in the folder."""
    tree: Tree | None = None
    share: float = 1.0
    """Of the usual number of cases; slow readers get fewer."""
    refuses: bool = True
    """False for what is made anew where it is damaged."""


JSON = Tree(
    lambda path: json.loads(path.read_text()),
    lambda path, value: void(path.write_text(json.dumps(value, default=repr))),
)
YAML = Tree(
    lambda path: yaml.safe_load(path.read_text()),
    lambda path, value: void(path.write_text(yaml.dump(value, default_flow_style=None))),
)
NPZ = Tree(lambda path: dict(np.load(path)), lambda path, value: np.savez(path, **dict(value)))
TORCH = Tree(lambda path: torch.load(path, weights_only=True), lambda path, value: torch.save(value, path))


def void(_: object) -> None:
    """Nothing."""


def _load_pickle(path: Path) -> Any:
    data = path.read_bytes()
    return pickle.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


def _save_pickle(path: Path, value: Any) -> None:
    data = pickle.dumps(value, protocol=4)
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


PICKLE = Tree(_load_pickle, _save_pickle)


def _pixels(height: int = 24, width: int = 32, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, channels), dtype=np.uint8)


def _image(suffix: str, mode: str, folder: Path) -> list[Path]:
    path, exif = folder / f"a.{suffix}", PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    image = PIL.Image.fromarray(_pixels(channels=4)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = PIL.Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    image.save(path, exif=exif)
    return [path]


def _read_image(folder: Path) -> None:
    [path] = folder.glob("a.*")
    header, pixels = read_header(path), read_pixels(path)
    assert header.size == pixels.size
    assert pixels.turned().rgb.size == pixels.rgb.size


def _colmap(kind: str, folder: Path) -> list[Path]:
    scenes.write_gaussian_scene(folder / "scene")
    model = pycolmap.Reconstruction(str(folder / "scene" / "sparse" / "0"))
    return sorted(scenes.write_model(folder / "model", model, kind).iterdir())


def _read_colmap(folder: Path) -> None:
    read_model(folder / "model")
    read_colmap(folder / "model")


def _transforms(folder: Path) -> list[Path]:
    test_transforms.write(folder, test_transforms.NERFSTUDIO, 0.5, ply_file_path="points.ply", k1=0.1)
    write_ply(folder / "points.ply", scenes.random_gaussians(9), STILL)
    return [folder / "transforms.json"]


def _read_transforms(folder: Path) -> None:
    photo_names(folder)
    posed_model(folder)


def _ply(folder: Path) -> list[Path]:
    write_ply(folder / "a.ply", scenes.random_gaussians(20), STILL)
    return [folder / "a.ply"]


SHEET = (
    "# mine\ncapture\tdata_dir\tmatch_string\tresult_dir\ttrain.max_steps\ttrain.eval_steps\tresources.train.mem_mb\n"
    "dog\tphotos\t0\tout/dog\t7\t[1, 2]\t9000\ncat\tphotos\t1\tout/cat\t8\t[3]\n"
)


def _sheet(folder: Path) -> list[Path]:
    (folder / "photos").mkdir()
    for name in "01":
        cv2.imwrite(str(folder / "photos" / f"{name}.jpg"), _pixels())
    (folder / "captures.tsv").write_text(SHEET)
    return [folder / "captures.tsv"]


def _read_sheet(folder: Path) -> None:
    shared = Stages(FrameOptions(), PoseOptions(), TrainOptions(preset="small"))
    for capture in read_captures(folder / "captures.tsv", shared, folder / "results").values():
        for variant in capture.dual_variants:
            capture.stages.train_flags(variant, external=False)


CONFIG = {
    "captures": {"train": {"max_steps": 100, "eval_steps": [10, 20], "strategy": {"cap_max": 9}, "preset": "small"}},
    "driving": {"index": {"val_scenes": ["001"]}, "train": {"voxel_size": 0.5, "channels": [8, 16]}},
    "sharing": {"upload": {"repo_id": "a/b"}, "tasks": ["nvs"]},
}


def _config(folder: Path) -> list[Path]:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, default_flow_style=None))
    return [folder / "config.yaml"]


def _read_config(folder: Path) -> None:
    options_before_flags(TrainOptions, ["--config", str(folder / "config.yaml")])
    read_config(read_yaml(folder / "config.yaml", "config"))


def _site(folder: Path) -> list[Path]:
    shipped = Path(__file__).parents[2] / "workflow_profiles" / "slurm" / "site.yaml"
    return [Path(shutil.copy(shipped, folder / "site.yaml"))]


def _index(folder: Path) -> list[Path]:
    lines = [pandaset_logs.write_lines(folder / "one.jsonl", name, 6, [0, 2, 4]) for name in ("001",)]
    clip = json.loads(lines[0].read_text())
    _save_pickle(folder / "index.pkl", {"meta": {}, "clips": [clip, clip | {"clip_id": "other"}]})
    return [folder / "index.pkl"]


def _street(folder: Path) -> Path:
    cameras = ("front_camera",)
    return pandaset_logs.write_street(folder / "street", logs=1, frames=2, points=300, cameras=cameras) / "001"


def _log(folder: Path) -> list[Path]:
    log = _street(folder)
    return [path for path in log.rglob("*") if path.is_file() and path.suffix in (".json", ".pkl", ".gz")]


def _read_log(folder: Path) -> None:
    log = Log(folder / "street" / "001")
    for frame in range(2):
        log.reason_against(frame)
    measured(log, None)
    for part in (log.sweep, log.boxes, log.classes):
        part(0)


FRONT = ("front_camera",)


def _lift_cache(folder: Path) -> list[Path]:
    log = Log(_street(folder))
    lifted(log, 0, FRONT, folder=folder / "cache")
    return [cached_at(folder / "cache", log, 0, FRONT, (0,))]


def _read_lift_cache(folder: Path) -> None:
    found = lifted(Log(folder / "street" / "001"), 0, FRONT, folder=folder / "cache")
    assert found.points.shape == found.colors.shape == (len(found.times), 3)
    assert found.origin.shape == (3,)
    assert all(array.shape == found.times.shape for array in (found.seen, found.spacings, found.sensors))


SMALL = LearnOptions(
    point_cloud_range=(-4, -4, -4, 4, 4, 4), voxel_size=2.0, channels=(8, 8), blocks=1, features=8, iterations=2
)


def _flux4d(folder: Path) -> list[Path]:
    state = {"model": Flux4D(SMALL).state_dict(), "moments": {}, "step": 3}
    save_ckpt(folder / "ckpt_last.pt", state, SMALL)
    return [folder / "ckpt_last.pt"]


def _splat_ckpt(folder: Path) -> list[Path]:
    options = TrainOptions(preset="small", max_steps=5)
    RunFiles(folder, options, STILL, {}).save(5, SplatModel(scenes.random_gaussians(20), options), 1.0, last=True)
    return [folder / "ckpts" / "ckpt_4_rank0.pt"]


def _state(folder: Path) -> list[Path]:
    Checkpoint(folder, {"options": "a"}).save({"step": 1, "tensor": torch.zeros(3)})
    return [folder / "checkpoint.pt"]


def _rrd(folder: Path) -> list[Path]:
    (folder / "a.rrd").write_bytes(b"RRF2\x00\x29\x00" + bytes(40))
    return [folder / "a.rrd"]


def _humans(patterns: tuple[str, ...], folder: Path) -> list[Path]:
    tree = human_trees.make_tree(folder / "humans")
    found = [path for pattern in patterns for path in sorted(tree.rglob(pattern))]
    assert found, patterns
    return found


def _read_people(folder: Path) -> None:
    of = read_epoch(human_trees.run_of(folder / "humans"), "pose", "epoch_0015", folder / "humans" / "scenes")
    for side in ("pred", "gt_inputs"):
        read_people(meshes_folder(of.folder / side / "world_aligned"), 1, 1)
    viz = of.folder / "viz"
    for camera in camera_names(viz / "all_cameras"):
        read_cameras(viz / "all_cameras" / camera, 1, viz / "images" / camera)


def _read_tables(folder: Path) -> None:
    run = human_trees.run_of(folder / "humans")
    of = read_epoch(run, "nvs", "epoch_0015", folder / "humans" / "scenes")
    metrics_table(run, of.source)


def _run(folder: Path) -> list[Path]:
    run = folder / "captures" / "a" / "single"
    (run / "renders").mkdir(parents=True)
    manifest = {"offset": [0, 0, 0], "steps": 3, "options": {"a": {"b": [1]}}, "stage": "captures.train"}
    metrics = {"mean": {"psnr": 20.0}, "baseline": {"psnr": 9.0}, "views": [{"name": "0.png", "psnr": 20.0}]}
    curves = {"training": {"step": [0], "loss": [0.5], "psnr": [1.0]}, "held_out": [{"step": 1, "psnr": 3.0}]}
    for name, value in {"manifest": manifest, "metrics": metrics, "curves": curves}.items():
        (run / f"{name}.json").write_text(json.dumps(value))
    cv2.imwrite(str(run / "renders" / "val_step1_0000.png"), _pixels())
    return list(run.glob("*.json"))


def _read_run(folder: Path) -> None:
    read_runs(folder)
    run = folder / "captures" / "a" / "single"
    metrics_table(run, None)
    read_run(run)


def _drive(folder: Path) -> list[Path]:
    clip = folder / "clip"
    clip.mkdir()
    view = {
        "frame": 0, "log_frame": 0, "given": True, "time": 0.0, "seconds": 0.0, "camera_to_world": np.eye(4).tolist(),
        "K": np.eye(3).tolist(), "width": 32, "height": 24,
    }  # fmt: skip
    (clip / "cameras.json").write_text(json.dumps({"views": [view]}))
    points = np.zeros((4, 3), np.float32)
    np.savez(
        clip / "motion.npz", points=points, colors=points.astype(np.uint8), seconds=points[:, 0], velocities=points,
        coefficients=points[:, None],
    )  # fmt: skip
    return list(clip.iterdir())


def _list(folder: Path) -> list[Path]:
    (folder / "list.txt").write_text("# held out\n0.jpg\nsub/1.jpg\n2\n")
    return [folder / "list.txt"]


def _read_list(folder: Path) -> None:
    names = ["0.jpg", "sub/1.jpg", "2.png", "3.png"]
    split = str(folder / "list.txt")
    check_split(names, split=split, match_string=None, eval_match_string=None, data_dir=folder, where="a")


def _memory(folder: Path) -> list[Path]:
    (folder / "file").write_text("content")
    _read_memory(folder)
    return list((folder / "cache").iterdir())


def _read_memory(folder: Path) -> None:
    assert contents_digest([("file", folder / "file")], folder / "cache", ["key"])


def _saved_mask(folder: Path) -> list[Path]:
    cv2.imwrite(str(folder / "m.png"), np.full((24, 32), 255, np.uint8))
    return [folder / "m.png"]


MESHES = "epoch_0015/pose_smplx/*/world_aligned/**/*.obj"
CAMERAS = "epoch_0015/pose_smplx/viz/**/*.npz"
READERS: dict[str, Reader] = {
    **{
        f"photo, {mode} {suffix}": Reader(partial(_image, suffix, mode), _read_image)
        for suffix, mode in (
            ("jpg", "RGB"), ("jpg", "CMYK"), ("png", "RGBA"), ("png", "P"), ("png", "I;16"), ("tif", "RGB"),
            ("bmp", "RGB"),
        )
    },
    "mask": Reader(_saved_mask, lambda folder: read_mask(folder / "m.png", (32, 24), "a.jpg")),
    "picture": Reader(
        partial(_image, "jpg", "RGB"), lambda folder: recorded(folder / "a.jpg", RecordingOptions(downscale=2))
    ),
    "COLMAP, binary": Reader(partial(_colmap, "bin"), _read_colmap),
    "COLMAP, text": Reader(partial(_colmap, "txt"), _read_colmap),
    "transforms.json": Reader(_transforms, _read_transforms, JSON),
    "points of transforms.json": Reader(
        lambda folder: [_transforms(folder)[0].with_name("points.ply")], _read_transforms
    ),
    "splat": Reader(_ply, lambda folder: read_ply(folder / "a.ply")),
    "sheet": Reader(_sheet, _read_sheet),
    "config": Reader(_config, _read_config, YAML),
    "site": Reader(_site, lambda folder: read_site(folder / "site.yaml"), YAML),
    "held-out list": Reader(_list, _read_list),
    "index, pickle": Reader(_index, lambda folder: read_index(folder / "index.pkl"), PICKLE),
    "index, lines": Reader(
        lambda folder: [pandaset_logs.write_lines(folder / "i.jsonl", "001", 6, [0, 2])],
        lambda folder: read_index(folder / "i.jsonl"),
        JSON,
    ),
    "driving log, lists": Reader(
        lambda folder: [path for path in _log(folder) if path.suffix == ".json"], _read_log, JSON, share=0.5
    ),
    "driving log, tables": Reader(
        lambda folder: [path for path in _log(folder) if path.suffix != ".json"], _read_log, PICKLE, share=0.5
    ),
    "lift cache": Reader(_lift_cache, _read_lift_cache, NPZ, share=0.3, refuses=False),
    "checkpoint, flux4d": Reader(
        _flux4d, lambda folder: load_model(folder / "ckpt_last.pt", CPU), TORCH, share=0.5
    ),
    "checkpoint, splats": Reader(
        _splat_ckpt, lambda folder: load_ckpt(folder / "ckpts" / "ckpt_4_rank0.pt", TrainOptions, CPU), TORCH
    ),
    "state": Reader(_state, lambda folder: Checkpoint(folder, {"options": "a"}).load(CPU), TORCH, refuses=False),
    "recording": Reader(_rrd, lambda folder: read_recording(folder / "a.rrd")),
    "human results, pose": Reader(partial(_humans, (MESHES, CAMERAS)), _read_people, share=0.3),
    "human results, cameras": Reader(partial(_humans, (CAMERAS,)), _read_people, NPZ, share=0.3),
    "human results, tables": Reader(partial(_humans, ("*.csv", "*.txt", "scenes/*.json")), _read_tables),
    "run": Reader(_run, _read_run, JSON),
    "measured clip": Reader(_drive, read_clips, None),
    "measured clip, motion": Reader(
        lambda folder: [path for path in _drive(folder) if path.suffix == ".npz"], read_clips, NPZ
    ),
    "measured clip, cameras": Reader(
        lambda folder: [path for path in _drive(folder) if path.suffix == ".json"], read_clips, JSON
    ),
    "remembered digests": Reader(_memory, _read_memory, JSON, refuses=False),
    "JSON": Reader(_drive, lambda folder: read_json(folder / "clip" / "cameras.json"), None, share=0.3),
}  # fmt: skip
