"""Trainings of Flux4D: they learn, resume to the same bits, and two ranks do what one does with twice the clips."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.flux4d import Trained, learn_clips, tiny

from splatdag.driving.training import flux4d_training
from splatdag.driving.training.checkpoints import load_ckpt, load_model
from splatdag.training.checkpoint import StateFile
from splatdag.workflow.errors import Stopped, UserError

CPU = torch.device("cpu")


def numbers(result: Trained) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in result.model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], **tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance.get("rtol", 0), atol=tolerance.get("atol", 0))


def test_the_loss_falls_and_checkpoints_lie_in_the_run(tmp_path: Path) -> None:
    options = tiny(iters=30, save_ckpt_every=20, save_every=15)
    result = learn_clips(tmp_path, options, frames=(1,))
    losses = [row[1] for row in result.curve]
    assert np.mean(losses[-6:]) < 0.92 * np.mean(losses[:3])
    assert {path.name for path in tmp_path.glob("ckpt_*_0*")} == {"ckpt_step_000020.pt", "ckpt_step_000030.pt"}
    pictures = {"pred_rgb.png", "gt_rgb.png", "pred_depth.png", "gt_depth.png", "rgb_weight.png"}
    for step in (15, 30):
        assert {path.name for path in (tmp_path / f"step_{step:06d}").iterdir()} == pictures
    given = load_ckpt(tmp_path / "ckpt_step_000030.pt", CPU)
    assert given["step"] == 30
    assert "clip time" in given["velocity_unit"]
    model, learnt, step = load_model(tmp_path / "ckpt_step_000030.pt", CPU)
    assert (learnt.channels, step) == (options.channels, 30)
    assert_same(model.state_dict(), numbers(result))
    assert_same(given["model"], numbers(result))


def test_the_same_seed_gives_the_same_bits_and_another_does_not(tmp_path: Path) -> None:
    one, two, other = (
        numbers(learn_clips(tmp_path / name, tiny(seed=seed))) for name, seed in (("one", 0), ("two", 0), ("other", 1))
    )
    assert_same(one, two)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_stopped_training_continues_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = tiny(iters=8)
    whole = learn_clips(tmp_path / "whole", options)
    step, calls = flux4d_training.training_step, []

    def step_and_stop(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(flux4d_training, "training_step", step_and_stop)
    with pytest.raises(Stopped, match="state saved after step 5"):
        learn_clips(tmp_path / "parts", options)
    monkeypatch.undo()
    continued = learn_clips(tmp_path / "parts", options)
    assert continued.step == 8
    assert continued.curve == whole.curve
    assert_same(numbers(continued), numbers(whole))


def test_two_ranks_learn_what_one_does_with_twice_the_clips(tmp_path: Path) -> None:
    options = tiny(iters=5)
    two = learn_clips(tmp_path / "two", options, ranks=2)
    one = learn_clips(tmp_path / "one", options.model_copy(update={"grad_accum_steps": 2}))
    np.testing.assert_allclose([row[1] for row in two.curve], [row[1] for row in one.curve], rtol=2e-3)
    assert_same(numbers(two), numbers(one), rtol=2e-2, atol=2e-2)


def test_a_checkpoint_is_gone_on_from_with_or_without_its_optimiser(tmp_path: Path) -> None:
    learn_clips(tmp_path / "first", tiny(iters=4))
    path = str(tmp_path / "first" / "ckpt_step_000004.pt")
    on = learn_clips(tmp_path / "on", tiny(iters=6, resume_from=path))
    assert [row[0] for row in on.curve] == [5, 6]
    assert (on.step, on.before) == (6, 4)
    anew = learn_clips(tmp_path / "anew", tiny(iters=1, lr=1e-9, resume_from=path, resume_no_optim=True))
    assert [row[0] for row in anew.curve] == [1]
    assert (anew.step, anew.before) == (1, 0)
    assert_same(numbers(anew), load_ckpt(Path(path), CPU)["model"], atol=1e-6)
    more = tiny(iters=1, lr=1e-9, iterations=1, motion_degree=0, resume_from=path)
    with pytest.raises(UserError, match="resume_from: its network is another one"):
        learn_clips(tmp_path / "other", more)
    taken = learn_clips(tmp_path / "taken", more.model_copy(update={"resume_no_optim": True}))
    known = load_ckpt(Path(path), CPU)["model"]
    name = "base.unet.encoder.0.0.convolution.weight"
    torch.testing.assert_close(numbers(taken)[name], known[name], atol=1e-6, rtol=0)


def test_a_run_goes_on_from_a_checkpoint_of_its_own_and_loses_none_before_it(tmp_path: Path) -> None:
    learn_clips(tmp_path, tiny(iters=6, save_ckpt_every=2))
    path = str(tmp_path / "ckpt_step_000004.pt")
    on = learn_clips(tmp_path, tiny(iters=8, save_ckpt_every=4, resume_from=path))
    assert [row[0] for row in on.curve] == [5, 6, 7, 8]
    assert {path.name[-5:-3] for path in tmp_path.glob("ckpt_step_*")} == {"02", "04", "08"}
    learn_clips(tmp_path, tiny(iters=2))
    assert [path.name for path in tmp_path.glob("ckpt_step_*")] == ["ckpt_step_000002.pt"]


def test_a_checkpoint_with_all_its_steps_done_is_named(tmp_path: Path) -> None:
    learn_clips(tmp_path / "first", tiny(iters=4))
    path = str(tmp_path / "first" / "ckpt_step_000004.pt")
    with pytest.raises(UserError, match="has 4 steps already; make iters more"):
        learn_clips(tmp_path / "on", tiny(iters=4, resume_from=path))


def test_too_little_memory_on_the_gpu_names_what_to_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(flux4d_training, "training_step", step)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1e9, 80e9))
    with pytest.raises(UserError, match="no memory left on the GPU before the first step .*lower targets_per_step"):
        learn_clips(tmp_path, tiny())


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ckpt_last.pt"
    with pytest.raises(UserError, match="no such file"):
        load_ckpt(path, CPU)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="can't be read as a checkpoint"):
        load_ckpt(path, CPU)
    torch.save({"model": {}}, path)
    with pytest.raises(UserError, match="no checkpoint of flux4d"):
        load_ckpt(path, CPU)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, mark = tmp_path / "ckpt_last.pt", tmp_path / "mark"
    torch.save({"model": _Touch(str(mark))}, path)
    with pytest.raises(UserError, match="can't be read as a checkpoint"):
        load_ckpt(path, CPU)
    assert not mark.exists()


class _Touch:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_a_loss_that_is_no_number_stops(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss is not finite any more; lower lr"):
        learn_clips(tmp_path, tiny(iters=30, lr=1e8, grad_clip=0.0, warmup_iters=0))


def test_a_network_that_is_no_number_is_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two losses that are noted a step makes it so, of a loss that is finite still."""
    step, calls = flux4d_training.training_step, []

    def step_badly(*arguments: Any) -> Any:
        calls.append(1)
        loss, *others = step(*arguments)
        return (loss + 0 * torch.sqrt(loss - loss.detach()) if len(calls) == 4 else loss), *others

    monkeypatch.setattr(flux4d_training, "training_step", step_badly)
    options = tiny(iters=20, log_every=10, save_ckpt_every=1, checkpoint_every=1)
    with pytest.raises(UserError, match="step 4: the loss is not finite any more; lower lr"):
        learn_clips(tmp_path, options)
    assert sorted(path.name for path in tmp_path.glob("ckpt_step_*")) == [
        f"ckpt_step_00000{step}.pt" for step in (1, 2, 3)
    ]
    saved = StateFile(tmp_path / "state", {"options": repr(options)}).load(CPU)
    assert saved is not None
    assert saved["step"] == 3
    assert all(tensor.isfinite().all() for tensor in saved["training"]["model"].values())


def test_seconds_and_steps_of_a_training_that_goes_on_are_counted_from_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learn_clips(tmp_path / "first", tiny(iters=20))
    options = tiny(iters=22, resume_from=str(tmp_path / "first" / "ckpt_step_000020.pt"))
    caplog.set_level("INFO")
    on = learn_clips(tmp_path / "on", options)
    (line,) = [record.message for record in caplog.records if record.message.startswith("step 22 of 22")]
    told = float(line.split(" ms a step")[0].split()[-1])
    assert 0.25 < told / (1e3 * on.seconds / 2) < 4, "22 steps in place of 2 would be a factor of 11"


def test_a_training_that_has_ended_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = tiny(iters=3)
    whole = learn_clips(tmp_path, options)
    monkeypatch.setattr(flux4d_training, "training_step", None)
    again = learn_clips(tmp_path, options)
    assert (again.step, again.curve, again.seconds) == (3, whole.curve, whole.seconds)
    assert_same(numbers(again), numbers(whole))
    assert (tmp_path / "ckpt_step_000003.pt").is_file()


def test_no_thread_is_left(tmp_path: Path) -> None:
    learn_clips(tmp_path, tiny(iters=1))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("clips")]
