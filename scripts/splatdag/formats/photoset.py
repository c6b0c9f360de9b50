"""What photos a folder holds, by content: touching one or dropping a stray file beside them changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from splatdag.formats import transforms as transforms_file
from splatdag.formats.transforms import read_transforms
from splatdag.workflow.digests import contents_digest
from splatdag.workflow.errors import UserError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mts", ".3gp"})
_MASK = "_mask.png"
"""Ends the name of a mask that lies beside its photo."""
_DEEPEST = 100
"""Folders of photos inside one another; Python's recursion ends at ten times as many."""
_MODEL_PARTS = ("cameras", "images", "points3D")
_MODEL_NAMES = tuple(f"{part}{suffix}" for part in _MODEL_PARTS for suffix in (".bin", ".txt"))


def is_video(path: Path) -> bool:
    """Whether a capture is a video, by its suffix, and not a folder."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()


def has_transforms(data_dir: Path) -> bool:
    """Whether the cameras come from a transforms.json; a COLMAP model beside it goes first."""
    return (data_dir / transforms_file.NAME).is_file() and not (data_dir / "sparse").is_dir()


def photos_folder(data_dir: Path) -> Path:
    """What the photos' names are relative to: `images/` of a COLMAP dataset, else the folder itself."""
    if has_transforms(data_dir):
        return data_dir
    return data_dir / "images" if (data_dir / "images").is_dir() else data_dir


def colmap_model(data_dir: Path) -> Path | None:
    """The COLMAP model of a dataset (`sparse/0` or `sparse`, binary or text), or None for plain photos.

    Raises:
        UserError: there is a folder `sparse` without a whole model in it.
    """
    sparse = data_dir / "sparse"
    if not sparse.is_dir():
        return None
    for folder in (sparse / "0", sparse):
        for suffix in (".bin", ".txt"):
            if all((folder / f"{part}{suffix}").is_file() for part in _MODEL_PARTS):
                return folder
    parts = ", ".join(_MODEL_PARTS)
    raise UserError(f"{sparse}: no COLMAP model in it or in its folder 0 ({parts}, all .bin or all .txt)")


def photo_names(data_dir: Path) -> list[str]:
    """Names of all photos of a capture, relative to `photos_folder`, sorted; hidden files and masks don't count.

    Raises:
        UserError: there is a transforms.json that can't be used, or a photo's name or a folder can't be read.
    """
    return sorted(name for name, _ in _photos_of(data_dir))


def mask_paths(data_dir: Path, names: Iterable[str]) -> dict[str, Path]:
    """The masks of those photos that have one; what can't be used as one is refused, not passed over.

    A mask is what a frame of transforms.json names, else `masks/<photo>.png` (its suffix replaced, or kept before
    `.png` as COLMAP has it), else `<photo without suffix>_mask.png` beside the photo.

    Args:
        data_dir: of the capture.
        names: of photos, relative to `photos_folder`.

    Raises:
        UserError: a mask is no file, or a folder can't be read.
    """
    return _masks_of(data_dir, names, _pngs(photos_folder(data_dir), _MASK))


def _masks_of(data_dir: Path, names: Iterable[str], beside: set[str]) -> dict[str, Path]:
    found = {}
    if has_transforms(data_dir):
        frames = read_transforms(data_dir).frames
        found = {frame.name: data_dir / frame.mask for frame in frames if frame.mask is not None}
    apart, folder = data_dir / "masks", photos_folder(data_dir)
    in_masks = _pngs(apart, ".png") if apart.is_dir() else set()
    for name in names if in_masks or beside else ():
        stem = _stem(name)
        if (mask := next((m for m in (f"{stem}.png", f"{name}.png") if m in in_masks), None)) is not None:
            found.setdefault(name, apart / mask)
        elif stem + _MASK in beside:
            found.setdefault(name, folder / (stem + _MASK))
    for path in found.values():
        if not path.is_file():
            raise UserError(f"{path}: not a regular file; a mask is a PNG file, or a link to one")
    return found


def _pngs(folder: Path, ending: str) -> set[str]:
    """Names of the files in a folder and its sub-folders, but for hidden ones, that end so.

    Raises:
        UserError: one of the folders can't be read; without its masks a training would see what is to be left out.
    """

    def refuse(error: OSError) -> None:
        raise _unreadable(error)

    found, above = set[str](), str(folder).count("/")
    for where, below, files in os.walk(folder, onerror=refuse):
        _check_depth(where, where.count("/") - above)
        below[:] = [name for name in below if not name.startswith(".")]
        inside = os.path.relpath(where, folder)
        prefix = "" if inside == "." else f"{inside}/"
        found |= {prefix + file for file in files if file.endswith(ending)}
    return found


def _check_depth(folder: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise UserError(f"more than {_DEEPEST} folders inside one another: {folder[:100]}…")


def _unreadable(error: OSError) -> UserError:
    return UserError(f"can't read {error.filename}: {error.strerror}")


def smaller_photos(data_dir: Path, data_factor: int, names: Iterable[str]) -> dict[str, Path] | None:
    """Photos that are scaled down already, in `images_<data_factor>/`, by the names of the large ones.

    Args:
        data_dir: of the capture.
        data_factor: by how much photos are to be scaled down.
        names: of photos, relative to `photos_folder`; smaller ones may have another suffix.

    Returns:
        None where there is no such folder, or nothing to scale down.

    Raises:
        UserError: the folder lacks some of the photos.
    """
    folder = data_dir / f"images_{data_factor}"
    if data_factor == 1 or not folder.is_dir():
        return None
    there = {_stem(name): Path(entry.path) for name, entry in _photos(str(folder))}
    found = {name: there.get(_stem(name.removeprefix("images/"))) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise UserError(
            f"{folder}: lacks {listed(missing)}; add them, or remove this folder and photos are scaled when loaded"
        )
    return {name: path for name, path in found.items() if path is not None}


def listed(names: list[str], most: int = 20) -> str:
    """Names for a message, the first of them where there are many."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 - a hot loop


def _photos_of(data_dir: Path, masks: set[str] | None = None) -> Iterator[tuple[str, os.DirEntry[str] | Path]]:
    """All photos of a capture; names of masks beside them are added to `masks`.

    Raises:
        UserError: a transforms.json can't be used, a folder not be read, or a name not be written into JSON.
    """
    try:
        for name, entry in _found_photos(data_dir, masks):
            if not name.isascii():
                _check_utf8(name, data_dir)
            yield name, entry
    except OSError as error:
        raise _unreadable(error) from None


def _check_utf8(name: str, data_dir: Path) -> None:
    """Names are written into models, lists and JSON, all in UTF-8; other bytes are surrogates in Python's names."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{data_dir}: photo {os.fsencode(name)!r}: its name is not UTF-8; rename it") from None


def _found_photos(data_dir: Path, masks: set[str] | None) -> Iterator[tuple[str, os.DirEntry[str] | Path]]:
    if has_transforms(data_dir):
        if masks is not None:
            masks.update(_pngs(data_dir, _MASK))
        yield from ((frame.name, data_dir / frame.name) for frame in read_transforms(data_dir).frames)
        return
    folder = photos_folder(data_dir)
    yield from _photos(str(folder), without="masks" if folder == data_dir else "", masks=masks)


def _photos(
    folder: str, prefix: str = "", without: str = "", masks: set[str] | None = None
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Photos in a folder and its sub-folders but the one named `without`."""
    _check_depth(folder, prefix.count("/"))
    photos: list[os.DirEntry[str]] = []
    perhaps_masks: list[os.DirEntry[str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.splitext(entry.name)[1].lower() in PHOTO_SUFFIXES:  # noqa: PTH122 - a hot loop
                if entry.is_file():
                    (perhaps_masks if entry.name.endswith(_MASK) else photos).append(entry)
            elif entry.is_dir(follow_symlinks=False) and entry.name != without:
                yield from _photos(entry.path, f"{prefix}{entry.name}/", masks=masks)
    if perhaps_masks:
        if masks is not None:
            masks.update(prefix + entry.name for entry in perhaps_masks)
        stems = {_stem(entry.name) for entry in photos}
        photos += [entry for entry in perhaps_masks if entry.name.removesuffix(_MASK) not in stems]
    yield from ((prefix + entry.name, entry) for entry in photos)


def check_place(path: Path, where: str) -> None:
    """Stop at a path that can't be looked for: it is too long, or a folder on the way is closed.

    Raises:
        UserError: why, and where it is written.
    """
    try:
        path.exists()
    except OSError as error:
        raise UserError(f"{where}: can't read {str(path)[:200]}: {error.strerror}") from None


def check_photos(data_dir: Path, where: str) -> None:
    """Stop early when a capture has no photos, or half a COLMAP model; a video is taken as it is.

    Raises:
        UserError: what is missing and where.
    """
    check_place(data_dir, where)
    if is_video(data_dir):
        if not data_dir.is_file():
            raise UserError(f"{where}: no such video: {data_dir}")
        return
    if not data_dir.is_dir():
        kind = "neither a folder nor a video" if data_dir.exists() else "no such folder"
        raise UserError(f"{where}: {kind}: {data_dir}")
    try:
        found = next(_photos_of(data_dir), None)
        colmap_model(data_dir)
    except OSError as error:
        raise UserError(f"{where}: can't read {error.filename}: {error.strerror}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if found is None:
        suffixes = " ".join(sorted(PHOTO_SUFFIXES))
        raise UserError(f"{where}: no photos ({suffixes}; convert others, such as HEIC) in {photos_folder(data_dir)}")


def data_digest(data_dir: Path, cache: Path, data_factor: int = 1) -> str:
    """Digest of names and contents of a capture: its photos, masks and cameras, or its video.

    A file is read again only when its size, times or inode changed since the digest in `cache` was made.

    Args:
        data_dir: folder of photos, COLMAP dataset, folder with a transforms.json, or video file.
        cache: folder for the remembered digests.
        data_factor: with more than 1, the photos in `images_<data_factor>/` count, too.

    Raises:
        UserError: a file can't be read, or `cache` not be written.
    """
    key = [str(data_dir.absolute()), *([str(data_factor)] if data_factor > 1 else [])]
    return contents_digest(_files_of(data_dir, data_factor), cache, key)


def _files_of(data_dir: Path, data_factor: int) -> Iterator[tuple[str, os.DirEntry[str] | Path]]:
    """All files that a capture's results depend on, by names that do not depend on where it lies."""
    if is_video(data_dir):
        yield "video", data_dir
        return
    names, beside = [], set[str]()
    for name, entry in _photos_of(data_dir, beside):
        names.append(name)
        yield name, entry
    for name, path in _masks_of(data_dir, names, beside).items():
        yield f"mask/{name}", path
    model = colmap_model(data_dir)
    if model is not None:
        yield from ((f"model/{name}", model / name) for name in _MODEL_NAMES if (model / name).is_file())
    elif has_transforms(data_dir):
        transforms = read_transforms(data_dir)
        yield f"model/{transforms.path.name}", transforms.path
        if transforms.points is not None:
            yield "model/points", transforms.points
    for name, path in (smaller_photos(data_dir, data_factor, names) or {}).items():
        yield f"images_{data_factor}/{name}", path
