"""The folder of a run in which something is trained: one process at a time, its device, its state and its manifest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from splatdag.training.checkpoint import StateFile
from splatdag.training.devices import (
    OutOfDeviceMemory,
    device_memory_mb,
    device_name,
    out_of_memory_explained,
    use_device,
)
from splatdag.training.loop import Result
from splatdag.training.options import TrainingOptions
from splatdag.workflow.attempts import process_seconds
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.lock import exclusive
from splatdag.workflow.manifest import Manifest, RunId, manifest_of
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job, also_logged_to

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """A run while it is made."""

    stage: str
    folder: Path
    options: TrainingOptions
    inputs: dict[str, str]
    job: Job
    device: torch.device
    ranks: int
    state_file: StateFile
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall times so far."""
    rank_memory_mb: float = 0.0

    def add(self, result: Result[Any]) -> None:
        """Count the time and memory of a training, which has ended well."""
        self._of_bad_end.unlink(missing_ok=True)
        self.seconds["startup"] = process_seconds(result.began) + result.rank_seconds
        self.seconds["train"] = result.progress.seconds
        self.rank_memory_mb = result.rank_memory_mb

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the wall time of the block."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def manifest(self, **fields: Any) -> Manifest:
        """Tell of this process as it stands; `fields` are optional ones of the manifest."""
        return manifest_of(
            self.stage,
            RunId.of(self.job.run_id, self.stage, self.folder),
            self.folder,
            self.seconds,
            sample=self.job.sample,
            options=self.options.model_dump(mode="json"),
            chosen=self.options,
            inputs=self.inputs,
            device=device_name(self.device, self.ranks),
            device_memory_mb=device_memory_mb(self.device, self.rank_memory_mb),
            **fields,
        )

    def write_manifest(self, **fields: Any) -> None:
        """Write the manifest, which says that the run is finished; `fields` are its optional ones."""
        write_json(self.folder / "manifest.json", self.manifest(**fields).model_dump(mode="json"))

    @property
    def _of_bad_end(self) -> Path:
        return self.state_file.path.with_name("manifest.json")

    def _note_bad_end(self, error: OutOfDeviceMemory) -> None:
        self.seconds = self.seconds or {"startup": process_seconds()}
        fields = {"steps": error.step, "gaussians": error.gaussians, "exit_reason": "cuda_oom"}
        write_json(self._of_bad_end, self.manifest(**fields).model_dump(mode="json"))


@contextmanager
def run_folder(
    stage: str,
    folder: Path,
    options: TrainingOptions,
    inputs: Callable[[Path], dict[str, str]],
    job: Job,
    device_count: int,
    *,
    advice: str,
    prepare: Callable[[], object] = lambda: None,
    log: str = "",
) -> Iterator[Run]:
    """Make a run: hold its folder and take the device while the block runs, which trains and publishes.

    The key of the state is made here, from the options, the code, the kind of device, and the inputs. What is left to
    the block is to write `manifest.json`, last. Where the GPU is too small, a manifest in `state/` tells of it.

    Args:
        stage: module that trains, such as `scene.train`.
        folder: of the run.
        options: of the training.
        inputs: gives the digests of everything that is learnt from, by name; its argument is a folder to remember
            digests of files in.
        job: how to run.
        device_count: CUDA devices; 0 is the CPU.
        advice: options to change where the GPU is too small.
        prepare: makes a CUDA device ready.
        log: name of a second log file, in the run folder.

    Raises:
        Stopped: another process works in the folder.
        OutOfDeviceMemory: the GPU is too small.
        UserError: a GPU can't be used, or an input not be read.
    """
    with ExitStack() as stack:
        state = folder / "state"
        stack.enter_context(exclusive(state))
        device = use_device(device_count, job.threads)
        if device.type == "cuda":
            prepare()
        if log:
            stack.enter_context(also_logged_to(folder / log))
        for notice in options.notices():
            logger.info("%s", notice)
        digests = inputs(state)
        # A state of another kind of device can't be continued: random numbers come from the device.
        key = {"options": options.training_key(), "code": code_digest(stage), "device": device.type, **digests}
        run = Run(stage, folder, options, digests, job, device, max(1, device_count), StateFile(state, key))
        try:
            with out_of_memory_explained(device, advice):
                yield run
        except OutOfDeviceMemory as error:
            run._note_bad_end(error)
            raise
