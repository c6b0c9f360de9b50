"""Photos are known by their content."""

import os
import time

import pytest

from splatdag.workflow.errors import UserError
from splatdag.workflow.inventory import check_photos, colmap_model, data_digest, mask_paths, photo_names, photos_folder


@pytest.fixture
def digest(photos, tmp_path):
    return lambda: data_digest(photos, tmp_path / "cache")


def test_touching_a_photo_changes_nothing(photos, digest):
    before = digest()
    os.utime(photos / "0.jpg", (time.time() + 100, time.time() + 100))
    assert digest() == before


def test_stray_files_change_nothing(photos, digest):
    before = digest()
    for name in ("Thumbs.db", ".DS_Store", "._0.jpg", "notes.txt"):
        (photos / name).write_text("stray")
    assert digest() == before


@pytest.mark.parametrize("change", ["edit", "add", "remove", "rename"])
def test_other_photos_are_other_photos(photos, digest, change):
    before = digest()
    photo = photos / "0.jpg"
    if change == "edit":
        data = bytearray(photo.read_bytes())
        data[-3] ^= 1
        photo.write_bytes(data)
    elif change == "add":
        (photos / "9.PNG").write_bytes(photo.read_bytes())
    elif change == "remove":
        photo.unlink()
    else:
        photo.rename(photos / "z.jpg")
    assert digest() != before


def test_a_photo_is_read_once(photos, digest, monkeypatch):
    before = digest()
    monkeypatch.setattr("splatdag.workflow.digests.file_digest", lambda path: pytest.fail(f"{path} was read again"))
    assert digest() == before


def test_a_damaged_memory_is_made_again(photos, tmp_path):
    before = data_digest(photos, tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        path.write_text('{"0.jpg": [1')
    assert data_digest(photos, tmp_path / "cache") == before


def test_a_model_counts_where_there_is_one(photos, digest):
    before = digest()
    (photos / "sparse" / "0").mkdir(parents=True)
    (photos / "sparse" / "0" / "images.bin").write_bytes(b"1")
    with pytest.raises(UserError, match="no COLMAP model in it"):
        check_photos(photos, "row 3")
    for name in ("cameras.bin", "points3D.bin"):
        (photos / "sparse" / "0" / name).write_bytes(b"1")
    assert colmap_model(photos) == photos / "sparse" / "0"
    assert digest() != before


def test_what_only_looks_like_a_photo_is_passed_over(photos, digest):
    before = digest()
    (photos / "gone.jpg").symlink_to(photos / "nowhere.jpg")
    (photos / "folder.jpg").mkdir()
    (photos / "loop").symlink_to(photos)
    assert digest() == before


def test_photos_in_folders_are_found_and_hidden_ones_are_not(photos):
    (photos / "left").mkdir()
    (photos / "left" / "a.JPEG").write_bytes(b"x")
    (photos / ".thumbs").mkdir()
    (photos / ".thumbs" / "a.jpg").write_bytes(b"x")
    assert photo_names(photos) == ["0.jpg", "1.jpg", "2.jpg", "left/a.JPEG"]


def test_a_dataset_keeps_its_photos_in_images(photos):
    (photos / "images").mkdir()
    assert photos_folder(photos) == photos / "images"
    with pytest.raises(UserError, match=r"row 3: no photos .* in .*images"):
        check_photos(photos, "row 3")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="row 3: no such folder"):
        check_photos(tmp_path / "nowhere", "row 3")


@pytest.mark.parametrize("mask", ["masks/0.png", "masks/0.jpg.png", "0_mask.png"])
def test_masks_are_no_photos_but_count(photos, digest, mask):
    seen = [digest()]
    (photos / mask).parent.mkdir(exist_ok=True)
    for content in (b"one", b"other"):
        (photos / mask).write_bytes(content)
        seen.append(digest())
    assert len(set(seen)) == 3
    assert photo_names(photos) == ["0.jpg", "1.jpg", "2.jpg"]
    assert mask_paths(photos, photo_names(photos)) == {"0.jpg": photos / mask}


def test_a_photo_may_be_called_like_a_mask(photos):
    (photos / "bronze_mask.png").write_bytes(b"of no other photo")
    assert "bronze_mask.png" in photo_names(photos)


def test_smaller_photos_count_for_their_factor_only(photos, tmp_path):
    cache = tmp_path / "cache"
    before = data_digest(photos, cache), data_digest(photos, cache, 2)
    (tmp_path / "whole").mkdir()
    photos.rename(tmp_path / "whole" / "images")
    whole = tmp_path / "whole"
    assert (data_digest(whole, cache), data_digest(whole, cache, 2)) == before
    (whole / "images_2").mkdir()
    for index in range(3):
        (whole / "images_2" / f"{index}.png").write_bytes(b"small")
    assert data_digest(whole, cache) == before[0]
    assert data_digest(whole, cache, 4) == before[1]
    assert data_digest(whole, cache, 2) != before[1]
    (whole / "images_2" / "1.png").unlink()
    with pytest.raises(UserError, match=r"images_2: lacks 1\.jpg;"):
        data_digest(whole, cache, 2)


def test_a_video_is_known_by_its_content(tmp_path):
    video = tmp_path / "a.MP4"
    with pytest.raises(UserError, match="row 3: no such video"):
        check_photos(video, "row 3")
    video.write_bytes(b"one")
    check_photos(video, "row 3")
    before = data_digest(video, tmp_path / "cache")
    os.utime(video, (time.time() + 100, time.time() + 100))
    assert data_digest(video, tmp_path / "cache") == before
    video.write_bytes(b"other")
    assert data_digest(video, tmp_path / "cache") != before


def test_a_file_that_is_no_video_is_refused(photos):
    with pytest.raises(UserError, match=r"row 3: neither a folder nor a video: .*0\.jpg"):
        check_photos(photos / "0.jpg", "row 3")


def test_a_cache_that_cannot_be_written_is_not_called_unreadable(photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/state: can't be written: Not a directory"):
        data_digest(photos, tmp_path / "file" / "state")
