"""Readers of photos, cameras, sheets, configs, and of what trainings keep."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pycolmap
import torch
import yaml
from reader_kinds import CPU, JSON, STILL, TORCH, YAML, Reader, some_pixels
from support import scenes
from support.transforms import NERFSTUDIO
from support.transforms import write as write_transforms

from splatdag.captures.config import TrainOptions
from splatdag.captures.options import FrameOptions, PoseOptions
from splatdag.captures.sheet import Stages, read_captures
from splatdag.config import read_config
from splatdag.formats.colmap import read_model
from splatdag.formats.images import read_header, read_mask, read_pixels
from splatdag.formats.photoset import PhotoSet
from splatdag.formats.transforms_model import posed_model
from splatdag.recording.colmap import read_colmap
from splatdag.recording.images import recorded
from splatdag.recording.options import RecordingOptions
from splatdag.scene.saved_splats import load_ckpt
from splatdag.scene.simple_trainer_files import RunFiles
from splatdag.scene.splat_model import SplatModel
from splatdag.scene.split import check_split
from splatdag.splats.ply import read_ply, write_ply
from splatdag.training.checkpoint import StateFile
from splatdag.workflow.config_file import options_before_flags
from splatdag.workflow.digests import contents_digest
from splatdag.workflow.site import read_site
from splatdag.workflow.yaml_text import read_yaml


def _image(suffix: str, mode: str, folder: Path) -> list[Path]:
    path, exif = folder / f"a.{suffix}", PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    image = PIL.Image.fromarray(some_pixels(channels=4)).convert("L" if mode == "I;16" else mode)
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
    write_transforms(folder, NERFSTUDIO, 0.5, ply_file_path="points.ply", k1=0.1)
    write_ply(folder / "points.ply", scenes.random_gaussians(9), STILL)
    return [folder / "transforms.json"]


def _read_transforms(folder: Path) -> None:
    posed_model(PhotoSet(folder).transforms)


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
        cv2.imwrite(str(folder / "photos" / f"{name}.jpg"), some_pixels())
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


def _splat_ckpt(folder: Path) -> list[Path]:
    options = TrainOptions(preset="small", max_steps=5)
    RunFiles(folder, options, STILL, {}).save(5, SplatModel(scenes.random_gaussians(20), options), 1.0, last=True)
    return [folder / "ckpts" / "ckpt_4_rank0.pt"]


def _foreign_ckpt(folder: Path) -> list[Path]:
    (folder / "ckpts").mkdir()
    path = folder / "ckpts" / "ckpt_4_rank0.pt"
    torch.save({"step": 4, "splats": scenes.random_gaussians(20)}, path)
    (folder / "cfg.yml").write_text("antialiased: true\nstrategy: !!python/object:gsplat.DefaultStrategy\n  a: 1\n")
    return [path, folder / "cfg.yml"]


def _state(folder: Path) -> list[Path]:
    StateFile(folder, {"options": "a"}).save({"step": 1, "tensor": torch.zeros(3)})
    return [folder / "checkpoint.pt"]


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


READERS: dict[str, Reader] = {
    **{
        f"photo, {mode} {suffix}": Reader(partial(_image, suffix, mode), _read_image)
        for suffix, mode in (
            ("jpg", "RGB"),
            ("jpg", "CMYK"),
            ("png", "RGBA"),
            ("png", "P"),
            ("png", "I;16"),
            ("tif", "RGB"),
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
    "checkpoint, splats": Reader(
        _splat_ckpt, lambda folder: load_ckpt(folder / "ckpts" / "ckpt_4_rank0.pt", CPU), TORCH
    ),
    "checkpoint of simple_trainer": Reader(
        _foreign_ckpt, lambda folder: load_ckpt(folder / "ckpts" / "ckpt_4_rank0.pt", CPU), TORCH
    ),
    "state": Reader(_state, lambda folder: StateFile(folder, {"options": "a"}).load(CPU), TORCH, refuses=False),
    "remembered digests": Reader(_memory, _read_memory, JSON, refuses=False),
}
