"""Training of Flux4D on one clip or many: its steps, the state that they change, and what is written in between."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splatdag.driving.clips.clip_loader import Loader, OnDevice
from splatdag.driving.network.model import Flux4D
from splatdag.driving.pictures import write_step
from splatdag.driving.training.checkpoints import load_ckpt, remove_older, save_checkpoint
from splatdag.driving.training.step import learning_rate, psnr_of, training_step
from splatdag.driving.training_options import LearnOptions
from splatdag.splats.cuda.extension import ensure_extension
from splatdag.training.adam import Adam
from splatdag.training.checkpoint import StateFile
from splatdag.training.loop import Figures, Progress, Result, run_training
from splatdag.training.ranks import Ranks
from splatdag.workflow.errors import UserError

logger = logging.getLogger(__name__)
ADVICE = "lower targets_per_step, feedback_views, num_image_points or iterations, or raise data_factor or voxel_size"
"""Advice for a GPU with too little memory."""


@dataclass(frozen=True)
class TrainingData:
    """The clips and options that a training learns from, on each rank."""

    make_loader: Callable[[], Loader]
    frames: tuple[int, ...] | None
    """Frames of each clip to learn from; None is all."""
    options: LearnOptions
    resume_from: Path | None = None
    """Checkpoint to begin with."""


def train(
    data: TrainingData, run_dir: Path, state_file: StateFile, device: torch.device, ranks: int = 1
) -> Result[Flux4DTraining]:
    """Train; continues from the saved state if there is one.

    Args:
        data: to learn from.
        run_dir: folder of pictures and checkpoints.
        state_file: where the state is saved.
        device: where to train.
        ranks: GPUs; in each step every one has clips of its own. (On the CPU, for tests, processes.)

    Raises:
        Stopped, OutOfDeviceMemory, RankFailed: as `run_training`.
        UserError: the loss is not finite, or no clip can be read.
    """
    return run_training(
        partial(Flux4DTraining, data, run_dir=run_dir),
        state_file,
        device,
        ranks,
        advice=ADVICE,
        make_worker=partial(Flux4DTraining, data),
        prepare=ensure_extension,
    )


class Flux4DTraining:
    """The network in training: its optimiser, and the clips that come next.

    The loss on the curves is the mean over a step's clips and the model's iterations; the PSNR is that of the last
    iteration on the images drawn of the last clip (of rank 0), before the step.
    """

    gaussians = None

    def __init__(self, data: TrainingData, device: torch.device, ranks: Ranks, run_dir: Path | None = None) -> None:
        """Begin before the first step.

        Args:
            data: to learn from.
            device: of this rank.
            ranks: this rank among the others.
            run_dir: folder of pictures and checkpoints; of rank 0.
        """
        self.data, self.options, self.device, self.ranks, self.run_dir = data, data.options, device, ranks, run_dir
        torch.manual_seed(data.options.seed)
        self.model = Flux4D(data.options).to(device)
        self.parameters: list[Tensor] = list(self.model.parameters())
        self.optimizers = [Adam(parameter, data.options.lr, (0.9, 0.999), 1e-8) for parameter in self.parameters]
        self.loader = data.make_loader()
        self.on_device = OnDevice(self.model, device)
        self.step = 0
        self.steps = data.options.iters
        self.checkpoint_every = data.options.checkpoint_every
        self._left_out: dict[str, str] = {}
        self._pictures: Callable[[Path], None] | None = None

    @property
    def left_out(self) -> dict[str, str]:
        """List clips that could not be read, and why, over all attempts."""
        return self._left_out | self.loader.left_out

    def tensors(self) -> list[Tensor]:
        """List all that is learnt."""
        return self.parameters

    def begin(self, progress: Progress, resumed: bool) -> None:
        """Begin anew: with the checkpoint that the options name, and without those of an older run."""
        if resumed:
            return
        path, taken = self.data.resume_from, 0
        if path is not None:
            given = load_ckpt(path, self.device)
            taken = given["step"]
            self._take_some(given, path) if self.options.resume_no_optim else self._take(given, path)
            progress.begun_at = self.step
        if self.run_dir is not None:
            own = path is not None and path.resolve().parent == self.run_dir.resolve()
            remove_older(self.run_dir, taken if own else 0)

    def _take(self, given: dict[str, Any], path: Path) -> None:
        """Take network, optimiser and step of a checkpoint."""
        try:
            self.load(given)
        except RuntimeError as error:
            raise UserError(
                f"resume_from: its network is another one ({str(error).splitlines()[0]}); give the options that it was"
                " trained with, or resume_no_optim"
            ) from None
        if self.step >= self.steps:
            raise UserError(f"resume_from: {path} has {self.step} steps already; make iters more than that")
        logger.info("beginning with %s, of %d steps", path, self.step)

    def _take_some(self, given: dict[str, Any], path: Path) -> None:
        """Take the tensors of a checkpoint's network that are of the same name and shape."""
        known = self.model.state_dict()
        same = {
            name: tensor
            for name, tensor in given["model"].items()
            if name in known and known[name].shape == tensor.shape
        }
        self.model.load_state_dict(same, strict=False)
        logger.info("%d of %d tensors of the network are those of %s", len(same), len(known), path)

    def advance(self) -> Figures | None:
        """Take one step on the next clips.

        Raises:
            UserError: the loss is not finite, or no clip can be read.
        """
        options, step = self.options, self.step
        total = torch.zeros((), device=self.device)
        for part in range(options.grad_accum_steps):
            slot = (step * options.grad_accum_steps + part) * self.ranks.count + self.ranks.rank
            given = self.on_device.of(self.loader.take(slot, self.ranks.count))
            frames = self.data.frames or tuple(range(given.scene.clip.length))
            loss, drawn, weights, views = training_step(self.model, given, slot, options, frames)
            loss.backward()
            total += loss.detach() / options.grad_accum_steps
        self.optimise(learning_rate(step, options))
        self.step = step + 1
        self._pictures = partial(write_step, drawn=drawn, weights=weights, views=views)
        if step % options.log_every and self.step < self.steps:
            return None
        mean = float(self.ranks.total(total)) / self.ranks.count
        self._check_finite(mean)
        return Figures(mean, psnr_of(drawn, views))

    def optimise(self, lr: float) -> None:
        """Follow the gradients, averaged over all clips of the step."""
        self.ranks.sum_gradients(self.parameters)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        for gradient in gradients:
            gradient /= self.ranks.count * self.options.grad_accum_steps
        if self.options.grad_clip:
            length = torch.nn.utils.get_total_norm(gradients)
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.options.grad_clip, length)
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()

    def _check_finite(self, loss: float = 0.0) -> None:
        with torch.no_grad():
            largest = torch.nn.utils.get_total_norm(self.parameters, torch.inf)
        if not math.isfinite(loss) or not math.isfinite(largest):
            raise UserError(f"step {self.step}: the loss is not finite any more; lower lr")

    def due(self, last: bool) -> list[Callable[[], None]]:
        """Write pictures of the step, and the checkpoint; `finish` writes the last one."""
        options = self.options
        found: list[Callable[[], None]] = []
        if options.save_every and self.step % options.save_every == 0:
            found.append(self._write_pictures)
        if not last and self.step % options.save_ckpt_every == 0:
            found.append(self._save_checkpoint)
        if found:
            self._check_finite()
        return found

    def finish(self) -> None:
        """Write the last checkpoint."""
        self._save_checkpoint()

    def _write_pictures(self) -> None:
        assert self.run_dir is not None
        assert self._pictures is not None
        self._pictures(self.run_dir / f"step_{self.step:06d}")

    def _save_checkpoint(self) -> None:
        assert self.run_dir is not None
        save_checkpoint(self.run_dir, self.state(), self.options)

    def state(self) -> dict[str, Any]:
        """Collect everything that a step changes."""
        self._check_finite()
        moments = [
            dict(optimizer.state.get(parameter, {}))
            for optimizer, parameter in zip(self.optimizers, self.parameters, strict=True)
        ]
        return {"model": self.model.state_dict(), "moments": moments, "step": self.step, "left_out": self.left_out}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()` of another process, or from a checkpoint."""
        self.model.load_state_dict(state["model"])
        for optimizer, parameter, moments in zip(self.optimizers, self.parameters, state["moments"], strict=True):
            optimizer.state = {parameter: moments} if moments else {}
        self.step = state["step"]
        self._left_out = state.get("left_out", {})

    def close(self) -> None:
        """Read no more clips."""
        self.loader.close()
