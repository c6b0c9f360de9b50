"""Readers of what is recorded and published."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from reader_kinds import JSON, NPZ, Reader, some_pixels
from support import human_trees

from splatdag.captures.record import read_run
from splatdag.commands.runs import read_runs
from splatdag.driving.record import read_clips
from splatdag.hub.rrd_files import read_recording
from splatdag.hub.upload import metrics_of
from splatdag.humans.description import metrics_table
from splatdag.humans.results_tree import read_epoch
from splatdag.recording.cameras import camera_names, read_cameras
from splatdag.recording.meshes import meshes_folder, read_people
from splatdag.workflow.publish import read_json


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
    manifest = {"offset": [0, 0, 0], "steps": 3, "options": {"a": {"b": [1]}}, "stage": "scene.train"}
    metrics = {"mean": {"psnr": 20.0}, "baseline": {"psnr": 9.0}, "views": [{"name": "0.png", "psnr": 20.0}]}
    curves = {"training": {"step": [0], "loss": [0.5], "psnr": [1.0]}, "held_out": [{"step": 1, "psnr": 3.0}]}
    for name, value in {"manifest": manifest, "metrics": metrics, "curves": curves}.items():
        (run / f"{name}.json").write_text(json.dumps(value))
    cv2.imwrite(str(run / "renders" / "val_step1_0000.png"), some_pixels())
    return list(run.glob("*.json"))


def _read_run(folder: Path) -> None:
    read_runs(folder)
    run = folder / "captures" / "a" / "single"
    list(metrics_of(run))
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


MESHES = "epoch_0015/pose_smplx/*/world_aligned/**/*.obj"
CAMERAS = "epoch_0015/pose_smplx/viz/**/*.npz"
READERS: dict[str, Reader] = {
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
    "JSON": Reader(_drive, lambda folder: read_json(folder / "clip" / "cameras.json"), None, share=0.3),
}
