"""Camera poses: structure from motion repeats bit for bit, failures say what to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import pytest
from PIL import Image
from support.poses import MODEL_FILES, UNRELATED, published, solve, start_cli, write_noise

from splatdag.captures import pose
from splatdag.formats.photoset import PhotoSet
from splatdag.samples.room import make_room
from splatdag.scene.load import Scene
from splatdag.workflow.errors import Stopped, UserError
from splatdag.workflow.lock import exclusive


def test_a_folder_without_photos_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        solve(tmp_path / "empty", tmp_path / "out" / "registration.json")


def test_photos_that_cannot_be_placed_end_in_one_line_with_advice(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(4):
        write_noise(tmp_path / "photos" / f"{index}.png", index, (90, 120))
    process = start_cli("--data-dir", tmp_path / "photos", "--report", tmp_path / "out" / "registration.json")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "Traceback" not in errors
    failed = [line for line in errors.splitlines() if "failed:" in line]
    assert len(failed) == 1
    assert failed[0] == errors.splitlines()[-1]
    assert "no two of the 4 photos could be placed together; try more photos with at least 60 % overlap" in failed[0]
    assert published(tmp_path / "out") == []


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample room, small, with two photos of noise among its own."""
    folder = tmp_path_factory.mktemp("room")
    make_room(folder, 240, 180, photos=16)
    for index, name in enumerate(UNRELATED):
        write_noise(folder / "images" / name, index)
    return folder


@pytest.fixture(scope="module")
def solved(room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("solved")
    solve(room, out / "registration.json")
    return out


@pytest.mark.slow
def test_structure_from_motion_names_the_photos_that_do_not_belong(solved: Path) -> None:
    facts = json.loads((solved / "registration.json").read_text())
    assert facts["source"] == "estimated"
    assert (facts["photos"], facts["registered"]) == (18, 16)
    assert facts["not_registered"] == UNRELATED
    assert f"not registered: {', '.join(UNRELATED)}" in (solved / "registration.txt").read_text()


@pytest.mark.slow
def test_structure_from_motion_finds_the_true_cameras(room: Path, solved: Path) -> None:
    truth = json.loads((room / "cameras.json").read_text())
    model = pycolmap.Reconstruction(str(solved / "sparse" / "0"))
    assert model.compute_mean_reprojection_error() < 0.5
    (camera,) = model.cameras.values()
    focal, _, _, k = camera.params
    assert focal == pytest.approx(truth["fx"], rel=0.01)
    assert k == pytest.approx(truth["distortion"][0], abs=0.01)
    expected = np.array([photo["world_to_camera"] for photo in truth["photos"]])
    images = [model.find_image_with_name(photo["name"]) for photo in truth["photos"]]
    found = np.array([image.cam_from_world().matrix() for image in images])
    turns = np.einsum("nji,njk->nik", found[:, :3, :3], expected[:, :3, :3])  # the same for all, but for errors
    degrees = np.degrees(np.arccos(np.clip((np.einsum("nij,ij->n", turns, turns[0]) - 1) / 2, -1, 1)))
    assert degrees.max() < 1
    distances = [
        np.linalg.norm(centers[:, None] - centers[None], axis=2)
        for centers in (-np.einsum("nji,nj->ni", m[:, :3, :3], m[:, :3, 3]) for m in (found, expected))
    ]
    scale = distances[1].sum() / distances[0].sum()
    np.testing.assert_allclose(scale * distances[0], distances[1], atol=0.03)  # metres, in a room of 3.6 × 2.9


@pytest.mark.slow
def test_two_threads_give_the_same_model_bit_for_bit(room: Path, solved: Path, tmp_path: Path) -> None:
    solve(room, tmp_path / "registration.json")
    for name in MODEL_FILES:
        assert (tmp_path / "sparse" / "0" / name).read_bytes() == (solved / "sparse" / "0" / name).read_bytes()


@pytest.mark.slow
def test_one_thread_gives_the_same_model_as_two(room: Path, solved: Path, tmp_path: Path) -> None:
    solve(room, tmp_path / "registration.json", threads=1)
    for name in MODEL_FILES:
        assert (tmp_path / "sparse" / "0" / name).read_bytes() == (solved / "sparse" / "0" / name).read_bytes()


@pytest.mark.slow
def test_too_few_registered_photos_fail_with_their_names(
    room: Path, solved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pycolmap.Reconstruction(str(solved / "sparse" / "0"))
    monkeypatch.setattr(pose, "structure_from_motion", lambda *_: model)
    with pytest.raises(UserError, match=r"only 16 of 18 photos.*95%.*unrelated_1\.jpg, unrelated_2\.jpg;.*overlap"):
        solve(room, tmp_path / "out" / "registration.json", min_registered=0.95)
    assert published(tmp_path / "out") == []


def test_a_damaged_photo_is_named_before_anything_is_done(room: Path, tmp_path: Path) -> None:
    shutil.copytree(room / "images", tmp_path / "photos")
    (tmp_path / "photos" / "IMG_0004.jpg").write_bytes(b"no photo")
    with pytest.raises(UserError, match=r"IMG_0004\.jpg: can't be decoded"):
        solve(tmp_path / "photos", tmp_path / "out" / "registration.json")
    assert published(tmp_path / "out") == []


@pytest.mark.slow
@pytest.mark.parametrize("step", ["features", "matches"])
def test_sigterm_ends_structure_from_motion_and_publishes_nothing(room: Path, tmp_path: Path, step: str) -> None:
    log = tmp_path / "pose.log"
    process = start_cli("--data-dir", room, "--report", tmp_path / "out" / "registration.json", "--log", log)
    assert process.stderr is not None
    for line in process.stderr:
        if f"] {step}: " in line:
            process.send_signal(signal.SIGTERM)
            break
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 75
    assert "Traceback" not in errors
    assert "stopped: told to stop (SIGTERM)" in log.read_text().splitlines()[-1]
    assert published(tmp_path / "out") == []


@pytest.mark.slow
def test_photos_of_other_sizes_and_with_masks_have_their_own_cameras_and_features(room: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(room / "images", photos, ignore=shutil.ignore_patterns(*UNRELATED))
    names = sorted(path.name for path in photos.iterdir())
    for name in names[3:6]:
        pixels = cv2.imread(str(photos / name))
        cv2.imwrite(str(photos / name), cv2.resize(pixels, (320, 240), interpolation=cv2.INTER_CUBIC))
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in names[8:10]:
        Image.open(photos / name).save(photos / name, quality=95, exif=exif)
    mask = np.full((180, 240), 255, np.uint8)
    mask[:, :90] = 0
    (photos / "masks").mkdir()
    cv2.imwrite(str(photos / "masks" / f"{Path(names[0]).stem}.png"), mask)
    facts = solve(photos, tmp_path / "out" / "registration.json")
    assert facts["registered"] == facts["photos"] == 16
    assert sorted((c["width"], c["height"]) for c in facts["cameras"]) == [(240, 180), (320, 240)]
    focal = {camera["width"]: camera["params"][0] for camera in facts["cameras"]}
    assert focal[320] / focal[240] == pytest.approx(320 / 240, rel=0.03)
    model = tmp_path / "out" / "sparse" / "0"
    masked = pycolmap.Reconstruction(str(model)).find_image_with_name(names[0])
    assert min(point.xy[0] for point in masked.points2D) > 89
    views = Scene(model, PhotoSet(photos)).load(names, threads=2).views
    assert [view.mask_HW is not None for view in views] == [True] + [False] * 15
    turned = [view.name for view in views if view.image_HW3.shape[0] > view.image_HW3.shape[1]]
    assert turned == names[8:10]


def test_a_video_is_not_posed_itself(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    with pytest.raises(UserError, match=r"a\.mp4: a video; take frames from it first"):
        solve(tmp_path / "a.mp4", tmp_path / "out" / "registration.json")


def test_one_photo_is_too_few(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    write_noise(tmp_path / "photos" / "a.png", 0, (90, 120))
    with pytest.raises(UserError, match="photos: only one photo; at least two are needed"):
        solve(tmp_path / "photos", tmp_path / "out" / "registration.json")


def test_photos_of_a_few_pixels_are_called_too_small_and_no_work_is_left(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(3):
        write_noise(tmp_path / "photos" / f"{index}.png", index, (6, 8))
    with pytest.raises(UserError, match="photos of 8×6 pixels are too small to find cameras from"):
        solve(tmp_path / "photos", tmp_path / "out" / "registration.json")
    assert not list(tmp_path.glob("out/state/*"))


def test_while_another_process_finds_the_same_cameras_this_one_stops_and_disturbs_nothing(
    room: Path, tmp_path: Path
) -> None:
    work = tmp_path / "state" / "pose"
    with exclusive(tmp_path / "state"):
        work.mkdir()
        with pytest.raises(Stopped, match=f"{tmp_path / 'state'} is in use by process {os.getpid()} on "):
            solve(room, tmp_path / "registration.json")
        assert work.is_dir()
    assert published(tmp_path) == []
