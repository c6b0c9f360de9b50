"""The loop that trains Flux4D, on one clip or many, on one device or several."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splatdag.driving.clips.clip_loader import Loader, OnDevice
from splatdag.driving.network.model import Flux4D
from splatdag.driving.pictures import write_step
from splatdag.driving.training.checkpoints import load_ckpt, save_ckpt
from splatdag.driving.training.step import learn, psnr_of, rate
from splatdag.driving.training_options import LearnOptions
from splatdag.splats.devices import OutOfDeviceMemory
from splatdag.training.adam import Adam
from splatdag.training.checkpoint import Checkpoint
from splatdag.training.rank_processes import joined
from splatdag.training.ranks import Ranks
from splatdag.training.stop_request import StopRequest
from splatdag.workflow.errors import Stopped, UserError

logger = logging.getLogger(__name__)
_REPORT_SECONDS = 5.0
_ADVICE = "lower targets_per_step, feedback_views, num_image_points or iterations, or raise data_factor or voxel_size"


@dataclass(frozen=True)
class Work:
    """What a training learns from; another process can read the same."""

    make_loader: Callable[[], Loader]
    frames: tuple[int, ...] | None
    """Of each clip, to learn from; None is all."""
    options: LearnOptions
    state: Path
    """The file that the training continues from, if it is there."""


@dataclass
class Trained:
    """What a training ends with."""

    model: Flux4D
    step: int = 0
    """Steps that the network has behind it, those of a checkpoint that it went on from among them."""
    before: int = 0
    """Steps of that checkpoint: curve and seconds begin after them."""
    curve: list[list[float]] = field(default_factory=list)
    """Rows of step, loss and PSNR (dB): the loss is the mean over the step's clips and the model's iterations; the
    PSNR that of the last iteration on the images drawn of the last clip (of the first rank), before the step."""
    seconds: float = 0.0
    """Of the loop, over all attempts of this training."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Clips that could not be read, and why."""
    rank_memory_mb: float = 0.0


class _Run:
    """A training between two steps."""

    def __init__(self, work: Work, device: torch.device, ranks: Ranks) -> None:
        self.options, self.device, self.ranks = work.options, device, ranks
        torch.manual_seed(work.options.seed)
        self.model = Flux4D(work.options).to(device)
        self.parameters: list[Tensor] = list(self.model.parameters())
        self.optimizers = [Adam(parameter, work.options.lr, (0.9, 0.999), 1e-8) for parameter in self.parameters]
        self.result = Trained(self.model)
        self.loader = work.make_loader()
        self.place = OnDevice(self.model, device)
        self.frames = work.frames
        self.taken = 0
        """Step of the checkpoint that the options name."""

    def begin(self, saved: dict[str, Any] | None) -> None:
        """Continue from a state, or from the checkpoint that the options name."""
        if saved is not None:
            self.load(saved)
            for name in ("before", "curve", "seconds", "left_out"):
                setattr(self.result, name, saved[name])
            logger.info("continuing after step %d", self.result.step)
        elif self.options.resume_from is not None:
            path = Path(self.options.resume_from)
            given = load_ckpt(path, self.device)
            self.taken = given["step"]
            if not self.options.resume_no_optim:
                self.load(given)
                self.result.before = self.result.step
                if self.result.step >= self.options.iters:
                    raise UserError(
                        f"resume_from: {path} has {self.result.step} steps already; make iters more than that"
                    )
                logger.info("continuing %s, after step %d", path, self.result.step)
            else:
                known = self.model.state_dict()
                same = {
                    name: tensor
                    for name, tensor in given["model"].items()
                    if name in known and known[name].shape == tensor.shape
                }
                self.model.load_state_dict(same, strict=False)
                logger.info("%d of %d tensors of the network are those of %s", len(same), len(known), path)

    def load(self, saved: dict[str, Any]) -> None:
        """Take network, optimisers and step."""
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError as error:
            raise UserError(
                f"resume_from: its network is another one ({str(error).splitlines()[0]}); give the options that it was"
                " trained with, or resume_no_optim"
            ) from None
        for optimizer, parameter, moments in zip(self.optimizers, self.parameters, saved["moments"], strict=True):
            optimizer.state = {parameter: moments} if moments else {}
        self.result.step = saved["step"]

    def state(self) -> dict[str, Any]:
        """Everything that a step changes."""
        moments = [
            dict(optimizer.state.get(parameter, {}))
            for optimizer, parameter in zip(self.optimizers, self.parameters, strict=True)
        ]
        result = self.result
        return {
            "model": self.model.state_dict(), "moments": moments, "step": result.step, "before": result.before,
            "curve": result.curve, "seconds": result.seconds, "left_out": result.left_out | self.loader.left_out,
        }  # fmt: skip

    def optimise(self, lr: float) -> None:
        """Follow the gradients, averaged over all clips of the step."""
        self.ranks.sum_gradients(self.parameters)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        torch._foreach_div_(gradients, self.ranks.count * self.options.grad_accum_steps)
        if self.options.grad_clip:
            length = torch.stack(torch._foreach_norm(gradients)).norm()
            torch._foreach_mul_(gradients, (self.options.grad_clip / (length + 1e-6)).clamp_max(1.0))
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()

    def checked(self, loss: Tensor) -> float:
        """The loss of the last step, averaged over all ranks.

        Raises:
            UserError: it, or what the step made of the network, is not finite.
        """
        mean = float(self.ranks.total(loss)) / self.ranks.count
        with torch.no_grad():
            largest = torch.stack(torch._foreach_norm(self.parameters, torch.inf)).max()
        if not math.isfinite(mean) or not math.isfinite(largest):
            raise UserError(f"step {self.result.step}: the loss is not finite any more; lower lr")
        return mean


def train(work: Work, run_dir: Path, checkpoint: Checkpoint, device: torch.device, ranks: int = 1) -> Trained:
    """Train; continues from the checkpoint if there is one.

    Args:
        work: what to learn from, and how.
        run_dir: where pictures and ckpt_step_XXXXXX.pt go.
        checkpoint: where the state is saved: every `checkpoint_every` steps, after the last, and on SIGTERM.
        device: where to train.
        ranks: GPUs; in each step every one has clips of its own. (On the CPU, for tests, processes.)

    Raises:
        Stopped: SIGTERM arrived; the state is saved.
        OutOfDeviceMemory: the GPU is too small.
        UserError: the loss is not finite, or no clip can be read.
        RankFailed: the process of another GPU failed.
    """
    with joined(ranks, follow, work, device) as team:
        run = _Run(work, device, team)
        try:
            saved = checkpoint.load(device)
            team.any(saved is not None, device)  # the others read it now
            if saved is not None:
                with checkpoint.fitting():
                    run.begin(saved)
            else:
                run.begin(None)
                _remove_older(run_dir, run)
            return _steps(run, _Keeper(run_dir, checkpoint))
        except torch.OutOfMemoryError:
            raise OutOfDeviceMemory(device, run.result.step, advice=_ADVICE) from None
        finally:
            run.loader.close()


def _remove_older(run_dir: Path, run: _Run) -> None:
    """Remove checkpoints of an older training; where this one goes on from one of them, those that come after it."""
    source = run.options.resume_from
    own = source is not None and Path(source).resolve().parent == run_dir.resolve()
    for path in run_dir.glob("ckpt_step_*.pt"):
        if not own or int(path.stem.rpartition("_")[2]) > run.taken:
            path.unlink()


def follow(work: Work, device: torch.device, ranks: Ranks) -> None:
    """Take part in `train` of the first rank."""
    run = _Run(work, device, ranks)
    saved = None
    if ranks.any(False, device):
        saved = torch.load(work.state, map_location=device, weights_only=True)["state"]
    run.begin(saved)
    with suppress(Stopped):
        _steps(run, None)


@dataclass
class _Keeper:
    """What only the first rank does: to write."""

    run_dir: Path
    checkpoint: Checkpoint


def _steps(run: _Run, keeper: _Keeper | None) -> Trained:
    options, ranks, result, device = run.options, run.ranks, run.result, run.device
    stop = StopRequest()
    clock, reported = time.perf_counter(), 0.0
    for step in range(result.step, options.iters):
        total = torch.zeros((), device=device)
        for part in range(options.grad_accum_steps):
            slot = (step * options.grad_accum_steps + part) * ranks.count + ranks.rank
            given = run.place.of(run.loader.take(slot, ranks.count))
            frames = run.frames or tuple(range(given.scene.clip.length))
            loss, drawn, weights, views = learn(run.model, given, slot, options, frames)
            loss.backward()
            total += loss.detach() / options.grad_accum_steps
        run.optimise(rate(step, options))
        result.step = step + 1
        last = result.step == options.iters
        logged = step % options.log_every == 0 or last
        if logged:
            stop.agree(ranks, device)
        stopping = stop.seen(ranks) and not last
        pictures = bool(options.save_every) and result.step % options.save_every == 0
        ckpt = last or result.step % options.save_ckpt_every == 0
        state = last or stopping or result.step % options.checkpoint_every == 0
        saved = pictures or ckpt or state
        mean = run.checked(total) if logged or saved else 0.0
        if logged:
            result.curve.append([float(result.step), mean, psnr_of(drawn, views)])
        if keeper is not None and (time.perf_counter() - reported > _REPORT_SECONDS or last):
            reported = time.perf_counter()
            _report(result, options, result.seconds + reported - clock)
        if not saved:
            continue
        ranks.check_equal(run.parameters, result.step)
        now = time.perf_counter()
        result.seconds += now - clock
        if keeper is not None:
            if pictures:
                write_step(keeper.run_dir / f"step_{result.step:06d}", drawn, weights, views)
            if ckpt:
                save_ckpt(keeper.run_dir / f"ckpt_step_{result.step:06d}.pt", run.state(), options)
            if state:
                keeper.checkpoint.save(run.state())
        if not last:
            ranks.take_turns()
        if stopping:
            ranks.part(device)
            raise Stopped(f"state saved after step {result.step}; run the same command again to continue")
        clock = time.perf_counter()
    result.left_out |= run.loader.left_out
    result.rank_memory_mb = ranks.part(device)
    return result


def _report(result: Trained, options: LearnOptions, seconds: float) -> None:
    loss, psnr = result.curve[-1][1:] if result.curve else (float("nan"), float("nan"))
    each = seconds / max(result.step - result.before, 1)
    logger.info(
        "step %d of %d, loss %.4f, %.1f dB, %.0f ms a step, %.0f s left",
        result.step, options.iters, loss, psnr, 1e3 * each, each * (options.iters - result.step),
    )  # fmt: skip
