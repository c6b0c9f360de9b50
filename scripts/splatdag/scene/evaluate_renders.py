"""Measure pictures that any program rendered beside the photos that they should equal."""

from __future__ import annotations

import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from splatdag.formats.images import read_header, read_pixels, text
from splatdag.formats.photoset import PhotoSet
from splatdag.scene.evaluation import mean_color
from splatdag.scene.load import Scene, photo_without_camera, same_shape, scaled_to
from splatdag.scene.measure import Pair, check_mask, check_size, measure
from splatdag.scene.options import RendersOptions
from splatdag.scene.preview import spread, write_preview
from splatdag.scene.split import split_photos
from splatdag.scene.views import View, composed
from splatdag.splats.devices import use_device
from splatdag.splats.lpips import lpips_where_possible
from splatdag.training.devices import device_memory_mb, device_name
from splatdag.workflow.attempts import process_seconds
from splatdag.workflow.digests import digest_of_folder
from splatdag.workflow.errors import UserError, listed
from splatdag.workflow.manifest import RunId, write_manifest
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)
_CANVAS = re.compile(r"(?:.*/)?val_step(\d+)_(\d+)\.png")
"""simple_trainer's pictures of held-out photos, ground truth and prediction side by side; their steps count from 0."""


def main(
    renders: Path,
    result_dir: Path,
    options: RendersOptions,
    job: Job,
    photos: Path | None = None,
    model: Path | None = None,
    device_count: int = 0,
) -> None:
    """Measure rendered pictures beside photos, with the figures of our own evaluations.

    A picture belongs to the photo of its name, whatever its suffix and, where that is unmistakable, its folder. Photos
    larger than their renders are scaled down. simple_trainer's and our own `renders/val_step<step>_<number>.png` bring
    their ground truth along; of several steps the last is measured. The trivial baseline is an image of the mean colour
    of the photos that are not rendered, or of all where all are.

    Args:
        renders: folder of the pictures.
        result_dir: folder to publish metrics.json, preview.jpg and manifest.json to.
        options: of the evaluation.
        job: how to run.
        photos: folder of photos, or COLMAP dataset, whose photos are undistorted; masks in it count. Pictures with
            their ground truth need none, but have names and masks from it.
        model: COLMAP model of the photos, in place of the dataset's own.
        device_count: CUDA devices to use; 0 is the CPU.
    """
    pictures = PhotoSet(renders)
    pictures.check("renders")
    if result_dir.resolve() == renders.resolve():
        raise UserError(f"result_dir: {result_dir} holds the renders; give another folder")
    if photos is None and model is not None:
        raise UserError("model: give the photos of the model, too (--photos)")
    device = use_device(device_count, job.threads)
    truths = None if photos is None else _Truths(photos, model, options)
    rendered = _Renders(pictures, truths, options.white_bg, device)
    if canvases := _last_canvases(pictures.names):
        rendered.take_canvases(*canvases, options)
    elif truths is not None:
        rendered.take_named(truths)
    else:
        raise UserError(f"photos: {renders} has no val_step<step>_<number>.png with their ground truth; give --photos")
    with tempfile.TemporaryDirectory() as memory:
        inputs = input_digests(renders, options, Path(memory), photos, model)
    _measure(rendered, options, result_dir, job, inputs)


def input_digests(
    renders: Path, options: RendersOptions, cache: Path, photos: Path | None = None, model: Path | None = None
) -> dict[str, str]:
    """Return digests of the pictures, of the photos, and of a model that is not the photos' own."""
    digests = {"renders": PhotoSet(renders).digest(cache)}
    if photos is not None:
        digests["photos"] = PhotoSet(photos).digest(cache, options.data_factor)
    if model is not None:
        digests["model"] = digest_of_folder(model if model.is_dir() else model.parent)
    return digests


class _Truths:
    """Photos as they are measured: undistorted where there is a model, scaled to the size of a render."""

    def __init__(self, folder: Path, model: Path | None, options: RendersOptions) -> None:
        self.photos = PhotoSet(folder)
        self.photos.check("photos")
        if self.photos.is_video:
            raise UserError(f"photos: {folder} is a video; give a folder of photos")
        if model is not None and not model.exists():
            raise UserError(f"model: no such file or folder: {model}")
        self._factor = options.data_factor
        found = self.photos.model if model is None else model if model.is_dir() else model.parent
        self._scene = None if found is None else Scene(found, self.photos, options.data_factor)
        self.names = self.photos.names if self._scene is None else self._scene.names

    def __getitem__(self, name: str) -> View:
        """Load a photo in its full size."""
        if self._scene is not None:
            return self._scene.view(name)
        return photo_without_camera(self.photos, name, self._factor)

    def of_size(self, name: str, size: tuple[int, int]) -> View:
        """Load a photo, scaled down to a size.

        Raises:
            ValueError: it has another shape, or is smaller; the message says how large it is.
        """
        view = self[name]
        own = (view.image_HW3.shape[1], view.image_HW3.shape[0])
        if own != size and (own < size or not same_shape(own, size)):
            raise ValueError(f"{text(size)} pixels, but its photo {name} has {text(own)}")
        return view if own == size else scaled_to(view, size)


@dataclass
class _Picture:
    path: Path
    name: str
    """Name of its photo; where none is known, its own."""
    photo: str | None


@dataclass
class _Renders:
    """Pictures to measure, and those that are left out."""

    folder: PhotoSet
    truths: _Truths | None
    white: bool
    device: torch.device
    pictures: list[_Picture] = field(default_factory=list)
    step: int | None = None
    """Training steps done before the rendering, of pictures with their ground truth; None of other pictures."""
    others: list[str] = field(default_factory=list)
    """Photos that are not rendered."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Reasons why pictures are not measured, by the names of these."""

    def take_canvases(self, step: int, names: list[str], options: RendersOptions) -> None:
        """Take pictures with their ground truth, in the order of the held-out photos.

        Raises:
            UserError: other photos are held out.
        """
        self.step = step + 1
        self.left_out = {
            name: "of an earlier step" if _CANVAS.fullmatch(name) else f"not called val_step{step}_<number>.png"
            for name in self.folder.names
            if name not in names
        }
        photos: list[str | None] = [None] * len(names)
        if self.truths is not None:
            self.others, held_out = split_photos(
                self.truths.names,
                split=options.split,
                test_every=options.test_every,
                match_string=options.match_string,
                eval_match_string=options.eval_match_string,
                data_dir=self.truths.photos.data_dir,
                where="photos",
            )
            if len(held_out) != len(names):
                raise UserError(
                    f"photos: {len(held_out)} are held out, but {len(names)} pictures of step {step} are there; give"
                    " split, test_every and match strings as they were in the training, or leave --photos out"
                )
            photos = list(held_out)
        self.pictures = [
            _Picture(self.folder.folder / name, photo or name, photo) for name, photo in zip(names, photos, strict=True)
        ]

    def take_named(self, truths: _Truths) -> None:
        """Take the pictures that have a photo's name."""
        exact, stems, bare = set(truths.names), _by(_stem, truths.names), _by(_bare, truths.names)
        found = {
            name: name if name in exact else stems.get(_stem(name)) or bare.get(_bare(name))
            for name in self.folder.names
        }
        counts = Counter(found.values())
        for name, photo in found.items():
            if photo is None:
                self.left_out[name] = "no photo has this name"
            elif counts[photo] > 1:
                self.left_out[name] = f"{counts[photo]} pictures are of photo {photo}"
            else:
                self.pictures.append(_Picture(self.folder.folder / name, photo, photo))
        self.pictures.sort(key=lambda picture: picture.name)
        self.others = [name for name in truths.names if name not in counts]

    def pairs(self, pictures: list[_Picture]) -> Iterator[Pair]:
        """Yield pictures beside their photos; one that does not fit its photo is left out.

        Raises:
            UserError: a picture can't be read, is too small, or its photo's mask leaves too little.
        """
        for picture in pictures:
            truth, prediction = self._read(picture)
            height, width = prediction.shape[:2]
            view = None
            if self.truths is not None and picture.photo is not None:
                try:
                    view = self.truths.of_size(picture.photo, (width, height))
                except ValueError as error:
                    self.left_out[str(picture.path.relative_to(self.folder.folder))] = str(error)
                    continue
                truth = view.target(self.white) if truth is None else truth
            assert truth is not None
            mask = None if view is None else view.mask_HW
            check_size(picture.name, width, height)
            check_mask(picture.name, mask)
            mask = None if mask is None else mask.to(self.device)
            yield Pair(picture.name, prediction.to(self.device), truth.to(self.device), mask)

    def _read(self, picture: _Picture) -> tuple[Tensor | None, Tensor]:
        """Read ground truth, where the picture has it, and prediction."""
        pixels = read_pixels(picture.path)
        alpha = None if pixels.alpha is None else torch.from_numpy(pixels.alpha)
        image = composed(torch.from_numpy(pixels.rgb), alpha, self.white)
        if self.step is None:
            return None, image
        width = image.shape[1]
        if width % 2:
            raise UserError(f"{picture.path}: {width} pixels wide, expected ground truth | prediction of one width")
        return image[:, : width // 2], image[:, width // 2 :]

    def mean_color(self) -> Tensor:
        """Return the mean colour of photos that are not rendered, or of all; without photos, of the ground truth."""
        if self.truths is None:
            means = [pair.truth.flatten(0, 1).mean(dim=0) for pair in self.pairs(self.pictures)]
        else:
            names = self.others or self.truths.names
            means = [mean_color([self.truths[name]], self.white, self.device) for name in names]
        return torch.stack(means).mean(dim=0)

    def least_side(self) -> int:
        """Return the shortest side of all pictures (pixels)."""
        halves = 1 if self.step is None else 2
        sizes = [read_header(picture.path).size for picture in self.pictures]
        return min(min(width // halves, height) for width, height in sizes)

    def reasons(self) -> str:
        """Format the reasons why pictures are left out, for people, each with its first picture."""
        names: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            names.setdefault(why, []).append(name)
        return "; ".join(f"{listed(of, 1)} ({why})" for why, of in names.items())


def _last_canvases(names: Iterable[str]) -> tuple[int, list[str]] | None:
    """Return the last step of which there are pictures with their ground truth, and their names in order."""
    found = [(int(match[1]), int(match[2]), match[0]) for name in names if (match := _CANVAS.fullmatch(name))]
    if not found:
        return None
    last = max(found)[0]
    return last, [name for step, _, name in sorted(found) if step == last]


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _bare(name: str) -> str:
    return _stem(name.rpartition("/")[2])


def _by(short: Callable[[str], str], names: list[str]) -> dict[str, str]:
    """Return names by their short forms, those left out whose short form others have too."""
    counts = Counter(map(short, names))
    return {short(name): name for name in names if counts[short(name)] == 1}


def _measure(rendered: _Renders, options: RendersOptions, result_dir: Path, job: Job, inputs: dict[str, str]) -> None:
    """Measure and publish, the manifest last.

    Raises:
        UserError: no picture can be measured.
    """
    pairs = rendered.pairs(rendered.pictures)
    first = next(pairs, None)
    if first is None:
        raise UserError(f"renders: none of the pictures can be measured; left out: {rendered.reasons()}")
    lpips = lpips_where_possible(options.lpips_net, rendered.least_side(), rendered.device)
    figures = measure(chain([first], pairs), rendered.mean_color(), lpips)
    if rendered.left_out:
        logger.warning("left out: %s", rendered.reasons())
    if rendered.others:
        logger.info("%d photos have no picture", len(rendered.others))
    measured = {view["name"] for view in figures["views"]}
    pictures = [picture for picture in rendered.pictures if picture.name in measured]
    mean = figures["mean"]
    logger.info("%.2f dB PSNR, %.4f SSIM on %d pictures", mean["psnr"], mean["ssim"], len(pictures))
    (result_dir / "manifest.json").unlink(missing_ok=True)  # of an older evaluation, whose files are now replaced
    write_preview(result_dir / "preview.jpg", rendered.pairs(spread(pictures)))
    step = {} if rendered.step is None else {"step": rendered.step}
    left_out = [{"name": name, "why": why} for name, why in sorted(rendered.left_out.items())]
    write_json(result_dir / "metrics.json", {**step, **figures, "left_out": left_out})
    write_manifest(
        result_dir / "manifest.json",
        "scene.evaluate_renders",
        RunId.of(job.run_id, "scene.evaluate_renders", result_dir),
        {"eval": process_seconds()},
        sample=job.sample,
        options=options.model_dump(mode="json"),
        inputs=inputs,
        device=device_name(rendered.device),
        device_memory_mb=device_memory_mb(rendered.device),
        steps=rendered.step,
        weights=list(lpips.weights),
    )


if __name__ == "__main__":
    run(main)
