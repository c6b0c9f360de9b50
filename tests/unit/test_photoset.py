"""Photos are known by their content."""

import errno
import json
import os
import time

import pytest

from splatdag.formats.photoset import PhotoSet
from splatdag.workflow.errors import UserError


@pytest.fixture
def digest(photos, tmp_path):
    return lambda: PhotoSet(photos).digest(tmp_path / "cache")


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
    before = PhotoSet(photos).digest(tmp_path / "cache")
    [memory] = (tmp_path / "cache").iterdir()
    whole = json.loads(memory.read_text())
    memory.write_text(json.dumps({name: [size, mtime, "of old"] for name, (size, mtime, *_) in whole.items()}))
    assert PhotoSet(photos).digest(tmp_path / "cache") == before
    assert json.loads(memory.read_text()) == whole


def test_a_damaged_memory_is_made_again(photos, tmp_path):
    before = PhotoSet(photos).digest(tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        path.write_text('{"0.jpg": [1')
    assert PhotoSet(photos).digest(tmp_path / "cache") == before


def test_a_model_counts_where_there_is_one(photos, digest):
    before = digest()
    (photos / "sparse" / "0").mkdir(parents=True)
    (photos / "sparse" / "0" / "images.bin").write_bytes(b"1")
    with pytest.raises(UserError, match="no COLMAP model in it"):
        PhotoSet(photos).check("row 3")
    for name in ("cameras.bin", "points3D.bin"):
        (photos / "sparse" / "0" / name).write_bytes(b"1")
    assert PhotoSet(photos).model == photos / "sparse" / "0"
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
    assert PhotoSet(photos).names == ["0.jpg", "1.jpg", "2.jpg", "left/a.JPEG"]


def test_a_dataset_keeps_its_photos_in_images(photos):
    (photos / "images").mkdir()
    assert PhotoSet(photos).folder == photos / "images"
    with pytest.raises(UserError, match=r"row 3: no photos .* in .*images"):
        PhotoSet(photos).check("row 3")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="row 3: no such folder"):
        PhotoSet(tmp_path / "nowhere").check("row 3")


@pytest.mark.parametrize("mask", ["masks/0.png", "masks/0.jpg.png", "0_mask.png"])
def test_masks_are_no_photos_but_count(photos, digest, mask):
    seen = [digest()]
    (photos / mask).parent.mkdir(exist_ok=True)
    for content in (b"one", b"other"):
        (photos / mask).write_bytes(content)
        seen.append(digest())
    assert len(set(seen)) == 3
    assert PhotoSet(photos).names == ["0.jpg", "1.jpg", "2.jpg"]
    assert PhotoSet(photos).masks == {"0.jpg": photos / mask}


def test_a_photo_may_be_called_like_a_mask(photos):
    (photos / "bronze_mask.png").write_bytes(b"of no other photo")
    assert "bronze_mask.png" in PhotoSet(photos).names


def test_smaller_photos_count_for_their_factor_only(photos, tmp_path):
    cache = tmp_path / "cache"
    before = PhotoSet(photos).digest(cache), PhotoSet(photos).digest(cache, 2)
    (tmp_path / "whole").mkdir()
    photos.rename(tmp_path / "whole" / "images")
    whole = tmp_path / "whole"
    assert (PhotoSet(whole).digest(cache), PhotoSet(whole).digest(cache, 2)) == before
    (whole / "images_2").mkdir()
    for index in range(3):
        (whole / "images_2" / f"{index}.png").write_bytes(b"small")
    assert PhotoSet(whole).digest(cache) == before[0]
    assert PhotoSet(whole).digest(cache, 4) == before[1]
    assert PhotoSet(whole).digest(cache, 2) != before[1]
    (whole / "images_2" / "1.png").unlink()
    with pytest.raises(UserError, match=r"images_2: lacks 1\.jpg;"):
        PhotoSet(whole).digest(cache, 2)


def test_a_video_is_known_by_its_content(tmp_path):
    video = tmp_path / "a.MP4"
    with pytest.raises(UserError, match="row 3: no such video"):
        PhotoSet(video).check("row 3")
    video.write_bytes(b"one")
    PhotoSet(video).check("row 3")
    before = PhotoSet(video).digest(tmp_path / "cache")
    os.utime(video, (time.time() + 100, time.time() + 100))
    assert PhotoSet(video).digest(tmp_path / "cache") == before
    video.write_bytes(b"other")
    assert PhotoSet(video).digest(tmp_path / "cache") != before


def test_a_file_that_is_no_video_is_refused(photos):
    with pytest.raises(UserError, match=r"row 3: neither a folder nor a video: .*0\.jpg"):
        PhotoSet(photos / "0.jpg").check("row 3")


def test_a_cache_that_cannot_be_written_is_not_called_unreadable(photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/state: can't be written: Not a directory"):
        PhotoSet(photos).digest(tmp_path / "file" / "state")


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
    for look in (digest, lambda: PhotoSet(photos).masks):
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
    for look in (digest, lambda: PhotoSet(photos).masks):
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
    for look in (digest, lambda: PhotoSet(photos).names):
        with pytest.raises(UserError) as caught:
            look()
        assert repr(name) in str(caught.value)
        str(caught.value).encode()


def test_names_in_utf8_are_fine(photos):
    (photos / "0.jpg").rename(photos / "Küche 1.jpg")
    assert "Küche 1.jpg" in PhotoSet(photos).names


def test_a_folder_above_may_have_a_name_that_is_not_utf8(photos, tmp_path, digest):
    before = digest()
    above = tmp_path / os.fsdecode(b"K\xfcche")
    above.mkdir()
    photos.rename(above / "photos")
    assert PhotoSet(above / "photos").digest(tmp_path / "cache") == before


@pytest.mark.parametrize("below", [".", "masks"])
def test_folders_inside_one_another_have_a_limit_far_from_that_of_recursion(photos, digest, below):
    before = digest()
    fine = photos / below / "/".join("a" * 100)
    fine.mkdir(parents=True)
    assert digest() == before
    (fine / "a").mkdir()
    with pytest.raises(UserError, match="more than 100 folders inside one another"):
        digest()


def write_files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def roles(folder):
    """Name of each file to its role, and to its photo or the reason why it is not read."""
    return {file.name: (file.role, file.photo or file.why) for file in PhotoSet(folder).files}


def test_every_file_of_a_dataset_has_a_role(tmp_path):
    models = [f"sparse/{where}{part}.bin" for where in ("0/", "1/") for part in ("cameras", "images", "points3D")]
    write_files(
        tmp_path, "images/a.jpg", "images/left/b.PNG", "images/a_mask.png", "images/c.heic", "images/Thumbs.db",
        "masks/left/b.png", "masks/gone.png", "masks/readme.txt", "depth/a.npy", "depths/left/b.PNG.png",
        "depth/gone.png", "depth/notes.txt", "images_2/a.png", "images_2/left/b.png", "images_2/other.png", "z.jpg",
        "walk.MP4", ".DS_Store", ".thumbs/a.jpg", *models,
    )  # fmt: skip
    (tmp_path / "link").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "lost.jpg").symlink_to("nowhere")
    assert roles(tmp_path) == {
        "images/a.jpg": ("photo", ""),
        "images/left/b.PNG": ("photo", ""),
        "images/a_mask.png": ("mask", "a.jpg"),
        "masks/left/b.png": ("mask", "left/b.PNG"),
        "depth/a.npy": ("depth map", "a.jpg"),
        "depths/left/b.PNG.png": ("depth map", "left/b.PNG"),
        "images_2/a.png": ("scaled photo", "a.jpg"),
        "images_2/left/b.png": ("scaled photo", "left/b.PNG"),
        **{f"sparse/0/{part}.bin": ("model", "") for part in ("cameras", "images", "points3D")},
        **{
            f"sparse/1/{part}.bin": ("unread", f"not of the model that is used, {tmp_path / 'sparse' / '0'}")
            for part in ("cameras", "images", "points3D")
        },
        "images/c.heic": ("unread", "a picture of a kind that is not read; convert it to JPEG or PNG"),
        "images/Thumbs.db": ("unread", "no kind of file that is read"),
        "images/lost.jpg": ("unread", "no regular file"),
        "masks/gone.png": ("unread", "no photo has this name"),
        "masks/readme.txt": ("unread", "no mask, which is a PNG file"),
        "depth/gone.png": ("unread", "no photo has this name"),
        "depth/notes.txt": ("unread", "no depth map"),
        "images_2/other.png": ("unread", "no photo has this name"),
        "z.jpg": ("unread", "not in images/"),
        "walk.MP4": ("unread", "a video beside photos; to take frames from it, name it in place of the folder"),
        ".DS_Store": ("unread", "hidden"),
        ".thumbs/": ("unread", "hidden"),
        "link/": ("unread", "a link to a folder, which is not followed"),
    }


def test_every_file_beside_a_transforms_json_has_a_role(tmp_path):
    write_files(
        tmp_path, "images/0.png", "images/1.png", "d/0.tif", "depth/1.png", "m/0.png", "points.ply", "images/more.png"
    )
    frames = [
        {"file_path": "images/0", "mask_path": "m/0.png", "depth_file_path": "./d/0.tif"},
        {"file_path": "./images/1.png", "depth_file_path": "d/gone.tif"},
    ]
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames, "ply_file_path": "points.ply"}))
    assert roles(tmp_path) == {
        "images/0.png": ("photo", ""),
        "images/1.png": ("photo", ""),
        "images/more.png": ("unread", "not named in transforms.json"),
        "m/0.png": ("mask", "images/0.png"),
        "d/0.tif": ("depth map", "images/0.png"),
        "depth/1.png": ("depth map", "images/1.png"),
        "points.ply": ("model", ""),
        "transforms.json": ("model", ""),
    }


def test_depth_maps_are_no_photos_and_change_nothing(photos, digest):
    before = digest()
    write_files(photos, "depth/0.png", "depths/1.tif")
    assert PhotoSet(photos).names == ["0.jpg", "1.jpg", "2.jpg"]
    assert PhotoSet(photos).depths == {"0.jpg": photos / "depth" / "0.png", "1.jpg": photos / "depths" / "1.tif"}
    assert digest() == before


def test_a_video_is_the_only_file_of_its_set(tmp_path):
    write_files(tmp_path, "a.mp4", "beside.jpg")
    assert roles(tmp_path / "a.mp4") == {"a.mp4": ("video", "")}


def test_a_set_lists_each_of_its_folders_once_and_is_hashed_once(photos, tmp_path, monkeypatch):
    write_files(photos, "left/b.jpg", "masks/0.png", "masks/left/b.png", "images_2/0.png")
    scandir, hashed, looked = os.scandir, [], []
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(os.fspath(folder)) or scandir(folder))
    monkeypatch.setattr(
        "splatdag.formats.photoset.contents_digest", lambda files, *_: hashed.append(dict(files)) or "digest"
    )
    one = PhotoSet(photos)
    assert looked == []
    one.check("row 3")
    assert [one.digest(tmp_path / "cache"), one.digest(tmp_path / "cache")] == ["digest", "digest"]
    assert (len(one.names), sorted(one.masks)) == (5, ["0.jpg", "left/b.jpg"])
    folders = [photos, *(photos / name for name in ("left", "masks", "masks/left", "images_2"))]
    assert sorted(looked) == sorted(map(str, folders))
    assert len(hashed) == 1
