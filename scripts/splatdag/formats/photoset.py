"""The files of a folder of photos (or a video) and their roles, by content: touching one, or a stray file beside them,
changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from splatdag.formats import transforms as transforms_file
from splatdag.formats.transforms import Transforms, read_transforms
from splatdag.workflow.digests import contents_digest
from splatdag.workflow.errors import UserError, listed

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm", ".mts", ".3gp"})
_DEPTH_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".exr", ".pfm", ".npy", ".npz"})
_CONVERTIBLE = frozenset({".heic", ".heif", ".avif", ".webp", ".jxl", ".gif", ".dng", ".cr2", ".cr3", ".nef", ".arw"})
"""Suffixes of pictures that are not read."""
_MASKS = "masks"
_DEPTHS = ("depth", "depths")
_BESIDE = "_mask.png"
"""End of the name of a mask that lies beside its photo."""
_DEEPEST = 100
"""Largest depth of folders of photos inside one another; Python's recursion ends at ten times as many."""
_MODEL_PARTS = ("cameras", "images", "points3D")
_MODEL_NAMES = tuple(f"{part}{suffix}" for part in _MODEL_PARTS for suffix in (".bin", ".txt"))


class Role(StrEnum):
    """Purpose of a file of a photo set."""

    PHOTO = "photo"
    SCALED = "scaled photo"
    """A photo that is scaled down k times, in `images_<k>/`."""
    MASK = "mask"
    DEPTH = "depth map"
    MODEL = "model"
    """A COLMAP model, or a transforms.json and the points that it names."""
    VIDEO = "video"
    UNREAD = "unread"


@dataclass(frozen=True)
class File:
    """A file of a photo set, or a folder that is not looked into."""

    name: str
    """Path relative to the set's folder; a folder's ends with a slash."""
    role: Role
    photo: str = ""
    """The photo that a mask, depth map or scaled photo belongs to."""
    why: str = ""
    """Reason why it is not read; empty where it is."""


class PhotoSet:
    """A folder of photos, a COLMAP dataset, a folder with a transforms.json, or a video: found once, hashed once.

    Make one per process and pass it on: its folders are listed when they are first asked for, and not again.
    """

    def __init__(self, data_dir: Path) -> None:
        """Name a folder or a video; nothing is looked at yet."""
        self.data_dir = data_dir
        self._digests: dict[tuple[int, tuple[str, ...]], str] = {}
        self._beside: set[str] = set()  # names of masks beside photos, found with these

    @cached_property
    def is_video(self) -> bool:
        """Tell whether it is a video, by its suffix, and no folder."""
        return self.data_dir.suffix.lower() in VIDEO_SUFFIXES and not self.data_dir.is_dir()

    @cached_property
    def has_transforms(self) -> bool:
        """Tell whether the cameras come from a transforms.json; a COLMAP model beside it goes first."""
        return (self.data_dir / transforms_file.NAME).is_file() and not (self.data_dir / "sparse").is_dir()

    @cached_property
    def transforms(self) -> Transforms:
        """The transforms.json.

        Raises:
            UserError: as `read_transforms`.
        """
        return read_transforms(self.data_dir)

    @cached_property
    def folder(self) -> Path:
        """The folder that the photos' names are relative to: `images/` of a COLMAP dataset, else the set's own."""
        images = self.data_dir / "images"
        return images if not self.has_transforms and images.is_dir() else self.data_dir

    @cached_property
    def model(self) -> Path | None:
        """The COLMAP model of a dataset (`sparse/0` or `sparse`, binary or text), or None for plain photos.

        Raises:
            UserError: there is a folder `sparse` without a whole model in it.
        """
        sparse = self.data_dir / "sparse"
        if not sparse.is_dir():
            return None
        for folder in (sparse / "0", sparse):
            for suffix in (".bin", ".txt"):
                if all((folder / f"{part}{suffix}").is_file() for part in _MODEL_PARTS):
                    return folder
        parts = ", ".join(_MODEL_PARTS)
        raise UserError(f"{sparse}: no COLMAP model in it or in its folder 0 ({parts}, all .bin or all .txt)")

    @cached_property
    def names(self) -> list[str]:
        """Names of all photos, relative to `folder`, sorted; neither hidden files nor masks nor depth maps.

        Raises:
            UserError: a transforms.json can't be used, a folder not be read, or a name not be written into JSON.
        """
        if self.has_transforms:
            found = [frame.name for frame in self.transforms.frames]
        else:
            try:
                found = list(_photos(str(self.folder), self._beside, not_in=self._apart))
            except OSError as error:
                raise _unreadable(error) from None
        for name in found:
            if not name.isascii():
                _check_utf8(name, self.data_dir)
        return sorted(found)

    @cached_property
    def masks(self) -> dict[str, Path]:
        """Masks of those photos that have one; a file that can't be used as one is refused, not passed over.

        A mask is what a frame of transforms.json names, else `masks/<photo>.png` (its suffix replaced, or kept before
        `.png` as COLMAP has it), else `<photo without suffix>_mask.png` beside the photo.

        Raises:
            UserError: a mask is no file, or a folder can't be read.
        """
        names, beside = self.names, self._beside
        found: dict[str, Path] = {}
        if self.has_transforms:
            beside = _names(self.data_dir, lambda name: name.endswith(_BESIDE))
            found = {f.name: self.data_dir / f.mask for f in self.transforms.frames if f.mask is not None}
        apart = self.data_dir / _MASKS
        in_masks = _names(apart, lambda name: name.endswith(".png")) if apart.is_dir() else set()
        for name in names if in_masks or beside else ():
            stem = _stem(name)
            if (mask := next((m for m in (f"{stem}.png", f"{name}.png") if m in in_masks), None)) is not None:
                found.setdefault(name, apart / mask)
            elif stem + _BESIDE in beside:
                found.setdefault(name, self.folder / (stem + _BESIDE))
        for path in found.values():
            if not path.is_file():
                raise UserError(f"{path}: not a regular file; a mask is a PNG file, or a link to one")
        return found

    @cached_property
    def depths(self) -> dict[str, Path]:
        """The depth maps of those photos that have one.

        A depth map is what a frame of transforms.json names, else `depth/<photo>` or `depths/<photo>` with another
        suffix (or that suffix added).

        Raises:
            UserError: a folder can't be read.
        """
        found: dict[str, Path] = {}
        if self.has_transforms:
            found = {f.name: self.data_dir / f.depth for f in self.transforms.frames if f.depth is not None}
        for folder in (self.data_dir / name for name in _DEPTHS):
            inside = _names(folder, lambda name: _suffix(name) in _DEPTH_SUFFIXES) if folder.is_dir() else set()
            by_stem = {_stem(name): folder / name for name in sorted(inside)}
            for name in self.names if by_stem else ():
                own = name.removeprefix("images/")
                if (depth := by_stem.get(_stem(own)) or by_stem.get(own)) is not None:
                    found.setdefault(name, depth)
        return found

    def scaled(self, data_factor: int) -> dict[str, Path] | None:
        """Find photos that are scaled down already, in `images_<data_factor>/`, by the names of the large ones.

        Args:
            data_factor: by how much photos are to be scaled down.

        Returns:
            Paths, whose suffixes may be others; None where there is no such folder, or nothing to scale down.

        Raises:
            UserError: the folder lacks some of the photos.
        """
        folder = self.data_dir / f"images_{data_factor}"
        if data_factor == 1 or not folder.is_dir():
            return None
        paths = self._in_scaled(folder)
        missing = [name for name in self.names if name not in paths]
        if missing:
            raise UserError(
                f"{folder}: lacks {listed(missing)}; add them, or remove this folder and photos are scaled when loaded"
            )
        return paths

    def check(self, where: str) -> None:
        """Stop early where there are no photos, or half a COLMAP model; a video is taken as it is.

        Args:
            where: what begins the message.

        Raises:
            UserError: what is missing and where.
        """
        data_dir = self.data_dir
        check_place(data_dir, where)
        if self.is_video:
            if not data_dir.is_file():
                raise UserError(f"{where}: no such video: {data_dir}")
            return
        if not data_dir.is_dir():
            kind = "neither a folder nor a video" if data_dir.exists() else "no such folder"
            raise UserError(f"{where}: {kind}: {data_dir}")
        try:
            names, _ = self.names, self.model
        except OSError as error:
            raise UserError(f"{where}: can't read {error.filename}: {error.strerror}") from None
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if not names:
            suffixes = " ".join(sorted(PHOTO_SUFFIXES))
            raise UserError(f"{where}: no photos ({suffixes}; convert others, such as HEIC) in {self.folder}")

    def digest(self, cache: Path, data_factor: int = 1, only: Collection[str] = ()) -> str:
        """Digest of names and contents: photos, masks and cameras, or the video.

        A file is read again only when its size, times or inode changed since the digest in `cache` was made.

        Args:
            cache: folder for the remembered digests.
            data_factor: with more than 1, the photos in `images_<data_factor>/` count, too.
            only: photos that count; no other is opened. None named: all.

        Raises:
            UserError: a file can't be read, or `cache` not be written.
        """
        part = (data_factor, tuple(sorted(only)))
        if part not in self._digests:
            key = [str(self.data_dir.absolute()), *([str(data_factor)] if data_factor > 1 else []), *part[1]]
            self._digests[part] = contents_digest(self._counted(data_factor, frozenset(only)), cache, key)
        return self._digests[part]

    @cached_property
    def files(self) -> list[File]:
        """Every file below the folder, sorted by name; folders that are hidden or linked are not looked into.

        Raises:
            UserError: as `names`, `model`, `masks` and `depths`.
        """
        if self.is_video:
            return [File(self.data_dir.name, Role.VIDEO)]
        read = {os.path.relpath(path, self.data_dir): (role, photo) for path, role, photo in self._with_roles()}
        return [
            File(name, *read[name]) if name in read else File(name, Role.UNREAD, why=self._why_unread(name, path))
            for name, path in sorted(_all_files(self.data_dir))
        ]

    @property
    def _apart(self) -> tuple[str, ...]:
        """Folders in `folder` whose pictures are no photos."""
        return (_MASKS, *_DEPTHS) if self.folder == self.data_dir else ()

    def _in_scaled(self, folder: Path) -> dict[str, Path]:
        """Find photos in `images_<k>/` by the names of the large ones."""
        by_stem = {_stem(name): folder / name for name in _photos(str(folder), set())}
        stems = ((name, _stem(name.removeprefix("images/"))) for name in self.names)
        return {name: by_stem[stem] for name, stem in stems if stem in by_stem}

    def _counted(self, data_factor: int, only: frozenset[str]) -> Iterator[tuple[str, str | Path]]:
        """Yield all files that results depend on, by names that do not depend on the set's place."""
        if self.is_video:
            yield "video", self.data_dir
            return
        folder = str(self.folder)
        yield from ((name, f"{folder}/{name}") for name in self.names if not only or name in only)
        yield from ((f"mask/{name}", path) for name, path in self.masks.items() if not only or name in only)
        yield from ((f"model/{path.name}", path) for path in self._model_files())
        scaled = (self.scaled(data_factor) or {}).items()
        yield from ((f"images_{data_factor}/{name}", path) for name, path in scaled if not only or name in only)

    def _model_files(self) -> list[Path]:
        if self.model is not None:
            return [path for name in _MODEL_NAMES if (path := self.model / name).is_file()]
        if not self.has_transforms:
            return []
        points = self.transforms.points
        return [self.transforms.path, *([points] if points is not None else [])]

    def _with_roles(self) -> Iterator[tuple[Path, Role, str]]:
        """Yield the files that are read, each with its role and the photo that it belongs to."""
        for folder in self.data_dir.glob("images_*"):
            if folder.name.removeprefix("images_").isdecimal():
                yield from ((path, Role.SCALED, name) for name, path in self._in_scaled(folder).items())
        yield from ((path, Role.DEPTH, name) for name, path in self.depths.items())
        yield from ((path, Role.MASK, name) for name, path in self.masks.items())
        yield from ((path, Role.MODEL, "") for path in self._model_files())
        yield from ((self.folder / name, Role.PHOTO, "") for name in self.names)

    def _why_unread(self, name: str, path: str) -> str:
        top, suffix = name.partition("/")[0], _suffix(name)
        if name.rstrip("/").rpartition("/")[2].startswith("."):
            return "hidden"
        if name.endswith("/"):
            return "a link to a folder, which is not followed"
        if not os.path.isfile(path):  # noqa: PTH113 - of many files
            return "no regular file"
        if top == _MASKS:
            return "no photo has this name" if suffix == ".png" else "no mask, which is a PNG file"
        if top in _DEPTHS:
            return "no photo has this name" if suffix in _DEPTH_SUFFIXES else "no depth map"
        if top.startswith("images_") and suffix in PHOTO_SUFFIXES:
            return "no photo has this name"
        if top == "sparse":
            return f"not of the model that is used, {self.model}"
        if suffix in VIDEO_SUFFIXES:
            return "a video beside photos; to take frames from it, name it in place of the folder"
        if suffix in PHOTO_SUFFIXES:
            return f"not named in {transforms_file.NAME}" if self.has_transforms else "not in images/"
        if suffix in _CONVERTIBLE:
            return "a picture of a kind that is not read; convert it to JPEG or PNG"
        return "no kind of file that is read"


def check_place(path: Path, where: str) -> None:
    """Stop at a path that can't be looked for: it is too long, or a folder on the way is closed.

    Raises:
        UserError: why, and where it is written.
    """
    try:
        path.exists()
    except OSError as error:
        raise UserError(f"{where}: can't read {str(path)[:200]}: {error.strerror}") from None


def _photos(folder: str, beside: set[str], not_in: tuple[str, ...] = (), prefix: str = "") -> Iterator[str]:
    """List photos in a folder and its sub-folders but those named in `not_in`; adds masks to `beside`."""
    _check_depth(folder, prefix.count("/"))
    photos: list[str] = []
    perhaps_masks: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() in PHOTO_SUFFIXES:  # noqa: PTH122 - a hot loop
                if entry.is_file():
                    (perhaps_masks if name.endswith(_BESIDE) else photos).append(name)
            elif entry.is_dir(follow_symlinks=False) and name not in not_in:
                yield from _photos(entry.path, beside, prefix=f"{prefix}{name}/")
    if perhaps_masks:
        beside.update(prefix + name for name in perhaps_masks)
        stems = {_stem(name) for name in photos}
        photos += [name for name in perhaps_masks if name.removesuffix(_BESIDE) not in stems]
    yield from (prefix + name for name in photos)


def _names(folder: Path, wanted: Callable[[str], bool]) -> set[str]:
    """List the wanted files in a folder and its sub-folders, relative to it; hidden folders are left out.

    Raises:
        UserError: one of the folders can't be read; without its masks a training would see what is to be left out.
    """
    return {name for name, _ in _all_files(folder) if not name.endswith("/") and wanted(name)}


def _all_files(folder: Path) -> Iterator[tuple[str, str]]:
    """List names and paths of all files in a folder and its sub-folders.

    Folders that are hidden or linked are not looked into; their names end with a slash.

    Raises:
        UserError: one of the folders can't be read.
    """

    def refuse(error: OSError) -> None:
        raise _unreadable(error)

    above = str(folder).count("/")
    for where, below, files in os.walk(folder, onerror=refuse):
        _check_depth(where, where.count("/") - above)
        inside = os.path.relpath(where, folder)
        prefix = "" if inside == "." else f"{inside}/"
        closed = [n for n in below if n.startswith(".") or os.path.islink(f"{where}/{n}")]  # noqa: PTH114 - of many
        below[:] = [name for name in below if name not in closed]
        yield from ((f"{prefix}{name}/", f"{where}/{name}") for name in closed)
        yield from ((prefix + name, f"{where}/{name}") for name in files)


def _check_depth(folder: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise UserError(f"more than {_DEEPEST} folders inside one another: {folder[:100]}…")


def _check_utf8(name: str, data_dir: Path) -> None:
    """Refuse a name that is not UTF-8, as models, lists and JSON are; Python has surrogates for its other bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{data_dir}: photo {os.fsencode(name)!r}: its name is not UTF-8; rename it") from None


def _unreadable(error: OSError) -> UserError:
    return UserError(f"can't read {error.filename}: {error.strerror}")


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 - a hot loop


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a hot loop
