"""Photos are known by their content."""

import errno
import json
import os
import time

import pytest

from splatdag.formats.photoset import check_photos, colmap_model, data_digest, mask_paths, photo_names, photos_folder
from splatdag.workflow.errors import UserError


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


@pytest.mark.parametrize("way", ["renamed over it", "written into it"])
def test_another_photo_of_equal_size_and_time_is_another(photos, digest, way):
    """As `rsync -a` and `cp -p` leave it."""
    before, photo = digest(), photos / "0.jpg"
    was = photo.stat()
    other = photos.parent / "other"
    other.write_bytes(bytes(byte ^ 1 for byte in photo.read_bytes()))
    if way == "renamed over it":
        other.rename(photo)
    else:
        photo.write_bytes(other.read_bytes())
    os.utime(photo, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert (photo.stat().st_size, photo.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    assert digest() != before


def test_a_memory_without_inodes_is_made_again(photos, tmp_path):
    before = data_digest(photos, tmp_path / "cache")
    [memory] = (tmp_path / "cache").iterdir()
    whole = json.loads(memory.read_text())
    memory.write_text(json.dumps({name: [size, mtime, "of old"] for name, (size, mtime, *_) in whole.items()}))
    assert data_digest(photos, tmp_path / "cache") == before
    assert json.loads(memory.read_text()) == whole


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


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("kind", ["pipe", "device", "nothing"])
@pytest.mark.parametrize("mask", ["masks/0.png", "masks/0.jpg.png"])
def test_a_mask_that_is_no_file_is_refused_and_not_passed_over(photos, digest, kind, mask):
    path = photos / mask
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else "nowhere")
    for look in (digest, lambda: mask_paths(photos, photo_names(photos))):
        with pytest.raises(UserError, match=rf"{mask}: not a regular file"):
            look()


def test_a_pipe_of_no_photo_among_the_masks_changes_nothing(photos, digest):
    before = digest()
    (photos / "masks").mkdir()
    os.mkfifo(photos / "masks" / "9.png")
    assert digest() == before


@pytest.mark.parametrize("closed", ["masks", "masks/left", "right"])
def test_a_folder_that_cannot_be_read_is_named(photos, digest, monkeypatch, closed):
    """Root may read any folder, so that it is closed by hand."""
    for folder in ("masks/left", "right"):
        (photos / folder).mkdir(parents=True)
    (photos / "masks" / "0.png").write_bytes(b"mask")
    scandir = os.scandir

    def refusing(folder):
        if os.fspath(folder) == str(photos / closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    for look in (digest, lambda: mask_paths(photos, photo_names(photos))):
        with pytest.raises(UserError, match=f"can't read {photos / closed}: Permission denied"):
            look()


def test_hidden_folders_are_not_looked_into(photos, digest, monkeypatch):
    """Such as `.Trash-1000`, which is often closed."""
    (photos / "masks" / ".old").mkdir(parents=True)
    before, scandir = digest(), os.scandir
    looked = []
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(os.fspath(folder)) or scandir(folder))
    assert digest() == before
    assert str(photos / "masks") in looked
    assert str(photos / "masks" / ".old") not in looked


@pytest.mark.parametrize("name", [b"K\xfcche.png", b"K\xfcche/1.png"])
def test_a_photo_whose_name_is_not_utf8_is_named(photos, digest, name):
    path = photos / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"photo")
    for look in (digest, lambda: photo_names(photos)):
        with pytest.raises(UserError) as caught:
            look()
        assert repr(name) in str(caught.value)
        str(caught.value).encode()


def test_names_in_utf8_are_fine(photos):
    (photos / "0.jpg").rename(photos / "Küche 1.jpg")
    assert "Küche 1.jpg" in photo_names(photos)


def test_a_folder_above_may_have_a_name_that_is_not_utf8(photos, tmp_path, digest):
    before = digest()
    above = tmp_path / os.fsdecode(b"K\xfcche")
    above.mkdir()
    photos.rename(above / "photos")
    assert data_digest(above / "photos", tmp_path / "cache") == before


@pytest.mark.parametrize("below", [".", "masks"])
def test_folders_inside_one_another_have_a_limit_far_from_that_of_recursion(photos, digest, below):
    before = digest()
    fine = photos / below / "/".join("a" * 100)
    fine.mkdir(parents=True)
    assert digest() == before
    (fine / "a").mkdir()
    with pytest.raises(UserError, match="more than 100 folders inside one another"):
        digest()
