"""Photos on the device, in memory or in a file: the same bits, where there is room, and held once."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from support.photosets import loaded, scene_of
from support.scenes import arc, colmap_model, gaussian_scene, write_gaussian_scene, write_model
from support.trainings import Training, assert_identical, options

from splatdag.scene import image_cache
from splatdag.scene import train as stage
from splatdag.scene.batches import TrainingViews
from splatdag.scene.evaluation import evaluate, mean_color
from splatdag.scene.image_cache import ImageCache, bytes_of
from splatdag.scene.views import View
from splatdag.workflow.errors import Stopped, UserError
from splatdag.workflow.manifest import Manifest
from splatdag.workflow.stage import Job

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
GB = 10**9


def room_for(views: list[View]) -> int:
    return sum(
        bytes_of(view.image_HW3[..., 0].numel(), view.alpha_HW is not None, view.mask_HW is not None) for view in views
    )


def kept(views: list[View], tier: Any) -> list[View]:
    cache = ImageCache(room_for(views), tier, CPU)
    return [cache.keep(view) for view in views]


def dressed(views: list[View]) -> list[View]:
    """Some with opacity, some with a mask, some smaller than the others."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index, view in enumerate(views):
        height, width = 24 if index % 3 == 2 else 32, 48
        noise = torch.rand((height, width), generator=generator)
        made.append(
            replace(
                view,
                image_HW3=view.image_HW3[:height].contiguous(),
                alpha_HW=(255 * noise).to(torch.uint8) if index % 2 else None,
                mask_HW=noise > 0.1 if index % 3 else None,
            )
        )
    return made


def batches(views: list[View], steps: int, **changes: Any) -> list[torch.Tensor]:
    training = TrainingViews(views, Training(Path("unused")).frame, options(**changes), CPU)
    found = []
    for step in range(steps):
        for batch in training.next(step):
            found += [batch.views, batch.images_CHW3, batch.targets(torch.ones(3))]
            found += [] if batch.masks_CHW is None else [batch.masks_CHW]
    return found


@pytest.mark.parametrize("changes", [{}, {"batch_size": 3}, {"patch_size": 20, "batch_size": 2}])
def test_batches_are_the_same_wherever_photos_are_kept(changes: dict[str, Any]) -> None:
    views = dressed(gaussian_scene()[1])
    expected = batches(views, 20, **changes)
    for tier in ("device", "host", "disk"):
        found = batches(kept(views, tier), 20, **changes)
        assert len(found) == len(expected)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True)), tier


@pytest.mark.parametrize("changes", [{}, {"batch_size": 4, "random_bkgd": True, "patch_size": 20}])
def test_a_training_from_a_file_stopped_again_and_again_has_the_bits_of_one_from_memory(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Stops in the middle of a round of the views and at its end: what was fetched early leaves no trace."""
    chosen = options(eval_steps=[5, 11, 20, 52], validation_views=1, validate_every=10, patience=100, **changes)
    whole = Training(tmp_path / "whole")
    whole.views, whole.held_out = dressed(whole.views), dressed(whole.held_out)
    expected = whole.run(chosen)
    for step in (*chosen.eval_steps, None):
        training = Training(tmp_path / "file")
        training.views, training.held_out = (
            kept(dressed(training.views), "disk"),
            kept(dressed(training.held_out), "disk"),
        )
        if step is None:
            assert_identical(training.run(chosen), expected)
        else:
            with pytest.raises(Stopped, match=f"after step {step + 1};"):
                training.run(chosen, stop=True)


def test_a_run_is_the_same_from_a_file_and_continues_one_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_gaussian_scene(tmp_path / "data")

    def main(name: str, tier: str) -> Path:
        chosen = options(test_every=4, eval_steps=[40], image_cache=tier)
        stage.main(data, data / "sparse" / "0", tmp_path / name, chosen, Job(threads=2))
        return tmp_path / name

    def stop(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*args, **kwargs)

    reference = main("reference", "auto")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(stage, "evaluate", stop)
        main("stopped", "host")
    with caplog.at_level(logging.INFO):
        other = main("stopped", "disk")
    assert "continuing after step 41" in caplog.messages
    for name in ("splat.ply", "metrics.json", "preview.jpg"):
        assert (other / name).read_bytes() == (reference / name).read_bytes()
    described = [Manifest.model_validate_json((run / "manifest.json").read_text()).images for run in (reference, other)]
    assert described == ["6 photos, 0.0 MB, in host memory", "6 photos, 0.0 MB, in a scratch file"]
    assert described[1] in caplog.messages
    assert json.loads((other / "manifest.json").read_text())["options"]["image_cache"] == "disk"


def test_mean_colour_and_looks_at_views_do_not_depend_on_the_place() -> None:
    views = dressed(gaussian_scene()[1])
    in_file = kept(views, "disk")
    assert torch.equal(mean_color(views), mean_color(in_file))
    for one, other in zip(views, in_file, strict=True):
        read = other.to(CPU)
        assert read.file is None
        for plane in ("image_HW3", "alpha_HW", "mask_HW"):
            mine, theirs, direct = (getattr(view, plane) for view in (one, read, other))
            assert (mine is None) == (theirs is None)
            assert mine is None or (
                torch.equal(mine, theirs) and torch.equal(mine, direct) and mine.dtype == theirs.dtype
            )


TIERS = [
    # size, free on the device (None: a CPU), left on the host, where to
    (25 * GB, 100 * GB, 4 * GB, "device"),
    (26 * GB, 100 * GB, 60 * GB, "host"),
    (26 * GB, 100 * GB, 50 * GB, "disk"),
    (26 * GB, None, 60 * GB, "host"),
    (26 * GB, None, 50 * GB, "disk"),
]


@pytest.mark.parametrize(("size", "device", "host", "tier"), TIERS)
def test_photos_go_to_the_first_place_with_room_to_spare(
    monkeypatch: pytest.MonkeyPatch, size: int, device: int | None, host: int, tier: str
) -> None:
    monkeypatch.setattr(image_cache, "device_memory_left", lambda _: device)
    monkeypatch.setattr(image_cache, "memory_left", lambda: host)
    assert image_cache._tier(size, "auto", CPU if device is None else CUDA, shared=False) == tier


@pytest.mark.parametrize(("choice", "device"), [("device", CUDA), ("host", CUDA), ("device", CPU)])
def test_a_place_that_was_asked_for_and_is_too_small_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, choice: Any, device: torch.device
) -> None:
    monkeypatch.setattr(image_cache, "device_memory_left", lambda _: 2 * GB)
    monkeypatch.setattr(image_cache, "memory_left", lambda: 2 * GB)
    with pytest.raises(UserError, match=rf"image_cache: {choice}: the photos take 3\.0 GB, but only 2\.0 GB are free;"):
        ImageCache(3 * GB, choice, device)


def dataset(folder: Path, count: int, camera: pycolmap.Camera) -> Path:
    (folder / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (camera.height, camera.width, 3), dtype=np.uint8)
    poses = {f"{index:02}.jpg": pose for index, pose in enumerate(arc(count))}
    for name in poses:
        cv2.imwrite(str(folder / "images" / name), pixels)
    write_model(folder / "model", colmap_model(poses, camera, np.zeros((1, 3)), np.zeros((1, 3)), [2]))
    return folder


def storages() -> int:
    """Bytes of all tensors that are alive."""
    gc.collect()
    found = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in gc.get_objects()
        if issubclass(type(tensor), torch.Tensor)
    }
    return sum(found.values())


def test_no_photo_is_held_twice_while_loading_and_in_training(tmp_path: Path) -> None:
    """Numpy's arrays, which photos are decoded to, are there for a few at a time, and tensors for each photo once."""
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=400, height=300, params=[300, 200, 150, -0.05])
    folder, photo = dataset(tmp_path, 40, camera), 3 * 400 * 300
    before = storages()
    tracemalloc.start()
    scene = scene_of(folder)
    photos = scene.load(scene.names, threads=1).views
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * photo
    frame = Training(Path("unused")).frame
    views = TrainingViews(photos, frame, options(batch_size=2), CPU)
    batch = views.next(0)
    assert 30 * photo < storages() - before < 52 * photo  # 40 photos, and two of them as floats
    del batch


@pytest.mark.parametrize("max_image_size", [None, 64, 130])
@pytest.mark.parametrize("data_factor", [1, 3])
@pytest.mark.parametrize("distortion", [0.0, -0.2, 0.3])
def test_the_room_made_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distortion: float, data_factor: int, max_image_size: int | None
) -> None:
    """Exactly enough without distortion, and with it at most that of a square of the longest side."""
    sizes: list[int] = []

    class Recorded(ImageCache):
        def __init__(self, size: int, *rest: Any) -> None:
            sizes.append(size)
            super().__init__(size, *rest)

    monkeypatch.setattr("splatdag.scene.load.ImageCache", Recorded)
    monkeypatch.setattr(image_cache, "_PAGE", 1)
    camera = pycolmap.Camera(model="SIMPLE_RADIAL", width=201, height=150, params=[150, 100, 75, distortion])
    folder = dataset(tmp_path, 2, camera)
    views = loaded(folder, data_factor, max_image_size)
    used = sum(view.image_HW3.numel() for view in views)
    assert used == sizes[0] if not distortion else used <= sizes[0] < 2.5 * used


READ = """
import sys, torch
views = torch.load(sys.argv[1], weights_only=False)
total = sum(int(view.to(torch.device("cpu")).image_HW3.sum()) for view in views)
print(total, [view.mask_HW is None for view in views])
views[0].image_HW3.zero_()
"""


@pytest.mark.parametrize("tier", ["host", "disk"])
def test_another_process_reads_the_same_photos_and_not_a_copy(tmp_path: Path, tier: Any) -> None:
    views = dressed(gaussian_scene()[1])
    cache = ImageCache(room_for(views), tier, CPU, shared=True)
    views = [cache.keep(view) for view in views]
    total, masks = sum(int(view.image_HW3.sum()) for view in views), [view.mask_HW is None for view in views]
    torch.save(views, tmp_path / "views")
    assert (tmp_path / "views").stat().st_size < sum(view.image_HW3.numel() for view in views) / 2
    command = [sys.executable, "-c", READ, str(tmp_path / "views")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"{total} {masks}\n"
    assert not views[0].image_HW3.any()
    with pytest.raises(UserError, match="several GPUs share"):
        ImageCache(1, "device", CUDA, shared=True)


def test_views_that_others_train_on_are_not_kept_on_their_way() -> None:
    """With several devices a step's views are shared out: what was fetched in vain must not add up."""
    views = TrainingViews(kept(gaussian_scene()[1], "disk"), Training(Path("unused")).frame, options(), CPU)
    reader = views._read_ahead
    for first in range(0, 8, 2):
        reader.take([first], [(first + 1) % 8, (first + 2) % 8])
        assert len(reader._coming) <= 2
