"""Photos and their COLMAP model as posed views, freed of lens distortion once, when they are loaded.

Their pixels go straight to where they stay, on the device, in host memory or in a file (`scene.image_cache`).
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pycolmap
import torch
from torch import Tensor

from splatdag.formats.colmap import distortion, read_model
from splatdag.formats.images import Header, Pixels, read_header, read_mask, read_pixels, text
from splatdag.formats.photoset import PhotoSet
from splatdag.scene.image_cache import ImageCache, TierChoice, bytes_of
from splatdag.scene.lens import Lens
from splatdag.scene.views import View
from splatdag.workflow.errors import UserError, listed

logger = logging.getLogger(__name__)


class Scene:
    """Posed photos of which none is opened before it is loaded: a photo that is held out stays closed until then."""

    def __init__(
        self, model_folder: Path, photos: PhotoSet, data_factor: int = 1, max_image_size: int | None = None
    ) -> None:
        """Read the cameras and points.

        Args:
            model_folder: COLMAP model.
            photos: the set that the model is of.
            data_factor: scale photos down by this.
            max_image_size: scale photos down further, to this longest side (pixels).

        Raises:
            UserError: as `read_model`, a photo is not there, or an `images_<data_factor>/` lacks some.
        """
        self.photos = photos
        self.max_image_size = max_image_size
        self._model = read_model(model_folder)
        images = [self._model.images[index] for index in self._model.reg_image_ids()]
        self._images = {image.name: image for image in sorted(images, key=lambda image: image.name)}
        if missing := sorted(self._images.keys() - set(photos.names)):
            raise UserError(f"{photos.folder / missing[0]}: no such photo; {model_folder} names {listed(missing)}")
        self._scaled = photos.scaled(data_factor)
        self._factor = 1 if self._scaled else data_factor
        points = sorted(self._model.points3D.values(), key=lambda point: -point.track.length())
        self.points = np.array([point.xyz for point in points], dtype=np.float64).reshape(-1, 3)
        """[N, 3] float64 points in the world, those seen in most photos first."""
        self.colors = np.array([point.color for point in points], dtype=np.float64).reshape(-1, 3) / 255
        """[N, 3] their colours in [0, 1]."""

    @property
    def names(self) -> list[str]:
        """Names of the photos that have a camera, sorted."""
        return list(self._images)

    @cached_property
    def world_to_camera(self) -> np.ndarray:
        """[V, 4, 4] float64 poses of the cameras as the model has them, in the order of `names`."""
        return np.array([_pose(image) for image in self._images.values()])

    @property
    def centers(self) -> np.ndarray:
        """[V, 3] positions of the cameras in the world."""
        return np.array([-pose[:3, :3].T @ pose[:3, 3] for pose in self.world_to_camera])

    def load(
        self,
        names: Iterable[str],
        threads: int,
        with_points: bool = False,
        image_cache: TierChoice = "auto",
        device: torch.device | None = None,
        shared: bool = False,
    ) -> LoadedPhotos:
        """Load photos, undistorted and scaled down, with their masks.

        Photos that their cameras saw lying on their side are turned upright, and their cameras with them, so that
        nobody has to look at renders and videos askew.

        Args:
            names: of the photos, some of `names`.
            threads: photos to decode at a time.
            with_points: also give each view the points seen in it.
            image_cache: where to keep the pixels.
            device: that they are for; None is the CPU.
            shared: whether other processes read them, too.

        Raises:
            UserError: a photo or mask is missing or unreadable, does not fit its camera, or there is no room for the
                pixels.
        """
        # Few lenses are kept: a model may have a camera for every photo, and a lens is as large as its photo.
        lens_of = functools.lru_cache(maxsize=2 * threads)(Lens)
        cv2.setNumThreads(1)
        images = [self._images[name] for name in names]
        with ThreadPoolExecutor(threads) as pool:
            room = sum(pool.map(self._room_for, images))
            cache = ImageCache(room, image_cache, device or torch.device("cpu"), shared)
            views = list(pool.map(lambda image: cache.keep(self._view(image, lens_of, with_points)), images))
        kept = cache.text(len(views))
        logger.info("%s", kept)
        return LoadedPhotos(views, kept)

    def view(self, name: str) -> View:
        """Load one photo, as `load` does, into memory.

        Raises:
            UserError: as `load`.
        """
        return self._view(self._images[name], self._last_lens, with_points=False)

    @cached_property
    def _last_lens(self) -> Callable[..., Lens]:
        return functools.lru_cache(maxsize=1)(Lens)

    def _path_of(self, image: pycolmap.Image) -> Path:
        return (self._scaled or {}).get(image.name, self.photos.folder / image.name)

    def _room_for(self, image: pycolmap.Image) -> int:
        """Return the largest size that a photo may take in the buffer (bytes)."""
        header = read_header(self._path_of(image))
        distorted = any(distortion(self._model.cameras[image.camera_id]))
        most = _most_pixels(header, distorted, self._factor, self.max_image_size)
        return bytes_of(most, header.transparent, image.name in self.photos.masks)

    def _view(self, image: pycolmap.Image, lens_of: Callable[..., Lens], with_points: bool) -> View:
        camera, path = self._model.cameras[image.camera_id], self._path_of(image)
        pixels = _as_camera_saw(read_pixels(path), camera, path)
        mask = None
        if image.name in self.photos.masks:
            of_size = _mask_of_scaled if self._scaled else read_mask
            mask = of_size(self.photos.masks[image.name], pixels.size, image.name)
        lens = lens_of(camera.model.name, (camera.width, camera.height), tuple(camera.params), pixels.size)
        points = _points_seen(image, self._model) if with_points else None
        view = _view(image, pixels, mask, lens, self._factor, self.max_image_size, points)
        for _ in range(pixels.quarter_turns):
            view = _rolled(view)
        return view


@dataclass
class LoadedPhotos:
    """Photos of a scene as views."""

    views: list[View]
    """Views in the order of the names given to `Scene.load`."""
    kept: str
    """Number, size and place of the photos, for people."""


def photo_without_camera(photos: PhotoSet, name: str, data_factor: int = 1) -> View:
    """Load a photo that nobody knows the camera of, upright and with its mask, as it is or from its `images_<k>/`.

    Raises:
        UserError: the photo or mask is missing or unreadable, or they do not fit each other.
    """
    scaled = photos.scaled(data_factor)
    pixels = read_pixels(scaled[name] if scaled else photos.folder / name)
    mask = None
    if name in photos.masks:
        mask = torch.from_numpy((_mask_of_scaled if scaled else read_mask)(photos.masks[name], pixels.size, name))
    alpha = None if pixels.alpha is None else torch.from_numpy(pixels.alpha)
    view = View(name, torch.from_numpy(pixels.rgb), np.eye(4), np.eye(3), mask_HW=mask, alpha_HW=alpha)
    for _ in range(pixels.quarter_turns):
        view = _rolled(view)
    return view


def scaled_to(view: View, size: tuple[int, int]) -> View:
    """Return the view with its photo scaled down to a width and height; its camera is left as it is."""

    def resized(plane: Tensor, interpolation: int) -> Tensor:
        return torch.from_numpy(cv2.resize(plane.numpy(), size, interpolation=interpolation))

    mask, alpha = view.mask_HW, view.alpha_HW
    return replace(
        view,
        image_HW3=resized(view.image_HW3, cv2.INTER_AREA),
        mask_HW=None if mask is None else resized(mask.to(torch.uint8), cv2.INTER_NEAREST_EXACT) > 0,
        alpha_HW=None if alpha is None else resized(alpha, cv2.INTER_AREA),
    )


def _pose(image: pycolmap.Image) -> np.ndarray:
    """Return the world-to-camera matrix [4, 4]."""
    pose = np.eye(4)
    pose[:3] = image.cam_from_world().matrix()
    return pose


def _most_pixels(header: Header, distorted: bool, data_factor: int, max_image_size: int | None) -> int:
    """Return the number of pixels that a photo has at most when it is loaded; exact where it is not distorted.

    Undistorted photos are cropped, which may leave them with less reason to be scaled down.
    """
    width, height = header.size
    if not distorted:
        width, height = _scaled_size(width, height, data_factor, max_image_size)[0]
        return width * height
    return math.prod(min(max(1, round(side / data_factor)), max_image_size or side) for side in header.size)


def _scaled_size(
    width: int, height: int, data_factor: int, max_image_size: int | None
) -> tuple[tuple[int, int], float]:
    """Return the width and height that a photo is scaled down to, and the factor."""
    factor = max(data_factor, max(width, height) / max_image_size) if max_image_size else data_factor
    return (max(1, round(width / factor)), max(1, round(height / factor))), factor


def _as_camera_saw(pixels: Pixels, camera: pycolmap.Camera, path: Path) -> Pixels:
    """Return the photo as stored where that fits its camera, else turned by EXIF; scaled versions fit as well.

    COLMAP 4 reads photos as stored. Other tools turn them first, and some data sets come with photos that were
    scaled after their cameras had been estimated.
    """
    size = (camera.width, camera.height)
    turned = pixels.turned() if pixels.orientation >= 5 else pixels
    for fits in (tuple.__eq__, same_shape):
        for candidate in (pixels, turned):
            if fits(candidate.size, size):
                return candidate
    raise UserError(f"{path}: the photo is {text(pixels.size)} pixels, but its COLMAP camera is {text(size)}")


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Tell whether one size is a scaled version of the other, to the rounding of the smaller one's sides."""
    small, large = sorted((size, other))
    scales = [s / b for s, b in zip(small, large, strict=True)]
    return any(all(abs(s - b * scale) <= 1 for s, b in zip(small, large, strict=True)) for scale in scales)


def _mask_of_scaled(path: Path, size: tuple[int, int], name: str) -> np.ndarray:
    """Read the mask of a photo from `images_<k>/`, drawn on that photo or on the large one."""
    drawn = read_header(path).size
    mask = read_mask(path, drawn if same_shape(drawn, size) else size, name)
    return cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0


def _points_seen(image: pycolmap.Image, model: pycolmap.Reconstruction) -> np.ndarray:
    seen = [model.points3D[p.point3D_id].xyz for p in image.points2D if p.has_point3D()]
    return np.array(seen, dtype=np.float64).reshape(-1, 3)


def _view(
    image: pycolmap.Image,
    pixels: Pixels,
    mask: np.ndarray | None,
    lens: Lens,
    data_factor: int,
    max_image_size: int | None,
    points: np.ndarray | None,
) -> View:
    K = lens.intrinsics()
    height, width = (lens.maps[0] if lens.distortion.any() else pixels.rgb).shape[:2]
    size, factor = _scaled_size(width, height, data_factor, max_image_size)
    K[0] *= size[0] / width
    K[1] *= size[1] / height

    def resampled(plane: np.ndarray) -> np.ndarray:
        plane = lens.undistorted(plane)
        return cv2.resize(plane, size, interpolation=cv2.INTER_AREA) if factor > 1 else plane

    rgb = resampled(pixels.rgb)
    alpha = None
    if pixels.alpha is not None:
        rgb, alpha = _with_alpha(rgb, pixels, resampled)
    if mask is not None:
        mask = lens.undistorted(mask.astype(np.uint8), cv2.INTER_NEAREST)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT) if factor > 1 else mask
    return View(
        image.name,
        torch.from_numpy(np.ascontiguousarray(rgb)),
        _pose(image),
        K,
        mask_HW=None if mask is None else torch.from_numpy(mask > 0),
        alpha_HW=None if alpha is None else torch.from_numpy(np.ascontiguousarray(alpha)),
        points_M3=points,
    )


def _rolled(view: View) -> View:
    """Turn photo and camera of a view a quarter counter-clockwise: pixel (u, v) is then at (v, width - u)."""
    width = view.image_HW3.shape[1]
    roll = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    (fx, _, cx), (_, fy, cy) = view.K[:2]
    image, mask, alpha = (
        None if plane is None else torch.rot90(plane).contiguous()
        for plane in (view.image_HW3, view.mask_HW, view.alpha_HW)
    )
    assert image is not None
    return replace(
        view,
        image_HW3=image,
        mask_HW=mask,
        alpha_HW=alpha,
        world_to_camera=roll @ view.world_to_camera,
        K=np.array([[fy, 0, cy], [0, fx, width - cx], [0, 0, 1]]),
    )


def _with_alpha(
    rgb: np.ndarray, pixels: Pixels, resampled: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Resample colours and opacity so that transparent pixels lend none of their colour to their neighbours.

    Colours are averaged as they are seen, times their opacity; where nothing is seen they stay as they are.
    """
    assert pixels.alpha is not None
    opacity = pixels.alpha.astype(np.float32)[:, :, None] / 255
    seen = resampled(np.concatenate([pixels.rgb * opacity, opacity], axis=2))
    colors = seen[:, :, :3] / np.maximum(seen[:, :, 3:], 1e-6)
    mixed = np.where(seen[:, :, 3:] > 0, np.rint(np.clip(colors, 0, 255)), rgb)
    return mixed.astype(np.uint8), np.rint(seen[:, :, 3] * 255).astype(np.uint8)
