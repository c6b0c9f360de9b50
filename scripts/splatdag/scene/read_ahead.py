"""Prefetching: copies of photos to the device before their step comes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from splatdag.scene.views import View

_READERS = 4
"""Photos that are fetched at a time."""


class ReadAhead:
    """Views with their planes on the device; planes in host memory or a file are copied while the training runs.

    The order of the views does not depend on it, so that a training has the same bits with and without it.
    """

    def __init__(self, views: list[View], device: torch.device) -> None:
        """Prepare to fetch; views that are all on the device already are given as they are.

        Args:
            views: as they are kept.
            device: where their planes are needed.
        """
        # The index of the device is set: threads have a current device of their own.
        self._device = torch.empty(0, device=device).device
        self._views = views
        self._coming: dict[int, Future[tuple[View, torch.cuda.Event | None]]] = {}
        self._readers: ThreadPoolExecutor | None = None
        if any(view.file is not None or view.image_HW3.device.type != device.type for view in views):
            self._readers = ThreadPoolExecutor(_READERS, "read_ahead")
            self._stream = torch.cuda.Stream(self._device) if device.type == "cuda" else None

    def take(self, chosen: list[int], upcoming: list[int]) -> dict[int, View]:
        """Return the chosen views with their planes on the device.

        Args:
            chosen: indices of the views.
            upcoming: indices of views to fetch meanwhile, the next first; fetched views in neither are dropped.
        """
        if self._readers is None:
            return {index: self._views[index] for index in chosen}
        for index in [*chosen, *upcoming]:
            if index not in self._coming:
                self._coming[index] = self._readers.submit(self._fetched, self._views[index])
        taken = {index: self._arrived(*self._coming[index].result()) for index in chosen}
        self._coming = {index: self._coming[index] for index in upcoming if index not in taken}
        return taken

    def _fetched(self, view: View) -> tuple[View, torch.cuda.Event | None]:
        if self._stream is None:
            return view.to(self._device), None
        with torch.cuda.stream(self._stream):
            there = view.converted(self._sent)
            return there, self._stream.record_event()

    def _sent(self, plane: Tensor) -> Tensor:
        """Start a copy to the device. Pinned memory is torch's own, which is not reused before the copy has ended."""
        return plane.pin_memory().to(self._device, non_blocking=True)

    def _arrived(self, view: View, event: torch.cuda.Event | None) -> View:
        """Return the view, safe to use: the training's stream waits for the copies and owns their memory after that."""
        if event is None:
            return view
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(event)
        for plane in (view.image_HW3, view.mask_HW, view.alpha_HW):
            if plane is not None:
                plane.record_stream(stream)
        return view
