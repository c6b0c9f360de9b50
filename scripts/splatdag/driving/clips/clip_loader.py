"""The clips of a training, read ahead of their use and kept as long as there is room."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from splatdag.driving.clips.clip_scene import ClipScene
from splatdag.driving.clips.clips import Clip
from splatdag.driving.network.model import Flux4D
from splatdag.driving.network.voxels import Voxels
from splatdag.driving.training.motion_losses import standing, stillness
from splatdag.workflow.errors import UserError

logger = logging.getLogger(__name__)
_AHEAD = 4
"""Clips that are read before they are needed."""


@dataclass(frozen=True)
class Lesson:
    """Clip with the data that only a training needs."""

    scene: ClipScene
    upright: Tensor
    """[N] bool: `sweeps.standing`, Gaussians that were measured and are not ground."""
    still: Tensor
    """[N]: `sweeps.stillness` of each Gaussian."""

    @classmethod
    def of(cls, scene: ClipScene) -> Lesson:
        return cls(scene, standing(scene.start), stillness(scene.start))


class Loader:
    """Clips by the slots of a training, in an order that only the seed decides: every clip once, then all again.

    A clip that can't be read is left out, and the next one takes its place.
    """

    def __init__(
        self,
        clips: list[Clip],
        load: Callable[[Clip], Lesson],
        *,
        seed: int,
        keep: int,
        strict: bool,
        threads: int = 2,
    ) -> None:
        """Begin with nothing read.

        Args:
            clips: to choose from.
            load: reads one, on the CPU.
            seed: of the order.
            keep: clips that stay in memory after their use, besides the one in use and those that are read ahead.
            strict: stop at a clip that can't be read.
            threads: that read.
        """
        self.clips, self.seed, self.keep, self.strict = clips, seed, keep, strict
        self.left_out: dict[str, str] = {}
        """Clips that can't be read, and why."""
        self._load = load
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="clips")
        self._read: OrderedDict[int, Future[Lesson]] = OrderedDict()

    def take(self, slot: int, stride: int) -> Lesson:
        """The clip of a slot; those of the slots after it, `stride` apart, are being read meanwhile.

        Raises:
            UserError: it can't be read, and `strict` is set, or none can.
        """
        wanted = list(dict.fromkeys(self._number(slot + stride * ahead) for ahead in range(_AHEAD + 1)))
        for number in reversed(wanted):
            self._ask(number)
        while len(self._read) > self.keep + len(wanted):
            self._read.popitem(last=False)
        number = wanted[0]
        for _ in self.clips:
            try:
                return self._ask(number).result()
            except UserError as error:
                self._leave_out(self.clips[number], error)
                number = (number + 1) % len(self.clips)
        raise UserError(f"none of {len(self.clips)} clips can be read; {next(iter(self.left_out.values()))}")

    def close(self) -> None:
        """Read no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _number(self, slot: int) -> int:
        round_, place = divmod(slot, len(self.clips))
        return int(np.random.default_rng([self.seed, 2, round_]).permutation(len(self.clips))[place])

    def _ask(self, number: int) -> Future[Lesson]:
        if number not in self._read:
            self._read[number] = self._pool.submit(self._load, self.clips[number])
        self._read.move_to_end(number)
        return self._read[number]

    def _leave_out(self, clip: Clip, error: UserError) -> None:
        if self.strict:
            raise error
        if clip.clip_id not in self.left_out:
            self.left_out[clip.clip_id] = str(error)
            logger.warning("clip %s left out: %s", clip.clip_id, error)


@dataclass(frozen=True)
class Prepared(Lesson):
    """A clip on the device, sorted into voxels."""

    voxels: Voxels


class OnDevice:
    """The clip that was asked for last, on the device."""

    def __init__(self, model: Flux4D, device: torch.device) -> None:
        self._model, self._device = model, device
        self._last: tuple[Lesson, Prepared] | None = None

    def of(self, lesson: Lesson) -> Prepared:
        """The clip, prepared."""
        if self._last is None or self._last[0] is not lesson:
            there = lesson.scene.to(self._device)
            upright, still = lesson.upright.to(self._device), lesson.still.to(self._device)
            self._last = lesson, Prepared(there, upright, still, self._model.voxels(there.start))
        return self._last[1]
