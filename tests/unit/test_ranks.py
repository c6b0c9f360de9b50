"""Several ranks for one training, as two processes on the CPU: they do what one does, and end together."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from support.trainings import Trained, Training, options, spoilt
from support.waiting import LIMIT_S, wait_until

from splatdag.scene.views import View
from splatdag.training.ranks import RankFailed, Ranks
from splatdag.workflow.errors import Stopped, UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several ranks need Linux")
MCMC = {"kind": "mcmc", "cap_max": 300, "refine_start_iter": 4, "refine_every": 5, "noise_lr": 1e4}
STILL = {"quats_lr": 0.0}
"""The first Gaussians are round: the gradients of their rotations are rounding, of which Adam makes full steps."""


def assert_alike(one: Trained, other: Trained, rtol: float = 1e-3) -> None:
    """Equal but for rounding, which a training enlarges from step to step."""
    assert one.step == other.step
    assert len(one.model.parameters["means"]) == len(other.model.parameters["means"])
    np.testing.assert_allclose(one.curve, other.curve, rtol=rtol)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"max_steps": 16}, id="default"),
        pytest.param({"strategy": MCMC, "max_steps": 30}, id="mcmc"),
        pytest.param({"visible_adam": True, "pose_opt": True, "app_opt": True, "max_steps": 16}, id="other learners"),
    ],
)
def test_two_ranks_learn_what_one_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Six views, four a step: every other step has two."""
    chosen = options(batch_size=4, opacity_reg=0.01, random_bkgd=True, checkpoint_every=8, **STILL, **changes)
    results, states = [], []
    for ranks in (1, 2):
        training, saved = Training(tmp_path / str(ranks)), []
        training.state_file.save = lambda state, saved=saved: saved.append(copy.deepcopy(state))
        results.append(training.run(chosen, ranks=ranks))
        states.append([state["training"]["strategy"] for state in saved if not state["ended"]][-1])
    assert len(results[0].model.parameters["means"]) > 105
    assert_alike(*results)
    for name in ("gradient_N", "seen_N", "radius_N") if "strategy" not in changes else ():
        one, two = (state[name] for state in states)
        assert one.any()
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4 * float(one.max()))


def cropped(views: list[View]) -> list[View]:
    """Photos of two sizes, one of them masked in part."""
    small = [replace(view, image_HW3=view.image_HW3[:24]) for view in views[:2]]
    mask = torch.ones(views[2].image_HW3.shape[:2], dtype=torch.bool)
    mask[:, :9] = False
    return [*small, replace(views[2], mask_HW=mask), *views[3:]]


def test_ranks_share_crops_of_photos_of_several_sizes_and_some_steps_leave_one_idle(tmp_path: Path) -> None:
    """Five views, two a step: every third step has one, and the first rank none."""
    results = []
    for ranks in (1, 2):
        training = Training(tmp_path / str(ranks))
        training.views = cropped(training.views)[:5]
        results.append(training.run(options(batch_size=2, patch_size=28, max_steps=16, **STILL), ranks=ranks))
    losses = [[row[1] for row in result.curve] for result in results]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert len({len(result.model.parameters["means"]) for result in results}) == 1


def test_ranks_end_early_together_and_take_the_best(tmp_path: Path) -> None:
    chosen = options(batch_size=2, max_steps=300, validation_views=2, validate_every=5, patience=2, opacities_lr=2.0)
    one, two = (Training(tmp_path / str(ranks)).run(chosen, ranks=ranks) for ranks in (1, 2))
    assert two.step < 100
    assert two.evaluations[-1]["step"] == two.step
    assert two.step == one.step


@pytest.fixture
def none_left() -> Iterator[None]:
    """No process that the test started is left; the resource tracker that other tests needed may be there."""
    before = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) <= before


@pytest.mark.usefixtures("none_left")
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_stopped_training_is_continued_by_more_or_fewer_ranks(tmp_path: Path, before: int, after: int) -> None:
    """The stop falls between two refinements, when each rank has seen a part of what decides the next."""
    chosen = options(batch_size=4, max_steps=16, eval_steps=[7], **STILL)
    whole = Training(tmp_path / "whole").run(chosen)
    with pytest.raises(Stopped, match="state saved after step"):
        Training(tmp_path / "stopped").run(chosen, stop=True, ranks=before)
    ended = Training(tmp_path / "stopped").run(chosen, ranks=after)
    ended.curve = ended.curve[:1] + ended.curve[-2:]
    assert_alike(ended, whole)


FAILURES = [
    ("raise MemoryError('no room\\nleft')", RankFailed, "GPU 2 of 2: MemoryError: no room left"),
    ("__import__('os').kill(__import__('os').getpid(), 9)", RankFailed, "GPU 2 of 2 was ended by signal 9"),
    ("model.parameters['sh0'].data[7] += 1e-7", RankFailed, "step 11: the GPUs do not hold the same Gaussians"),
]


@pytest.mark.usefixtures("none_left")
@pytest.mark.parametrize(("line", "error", "message"), FAILURES)
def test_a_rank_that_fails_ends_the_training_with_its_error(
    tmp_path: Path, line: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        spoilt(Training(tmp_path), line).run(options(batch_size=2), ranks=2)


def test_fewer_views_in_a_step_than_ranks_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^batch_size: 1 can't be shared by 2 GPUs; make it 2 or more"):
        Training(tmp_path).run(options(), ranks=2)


def test_shares_are_all_there_is_and_differ_by_one_at_most() -> None:
    for count in (1, 2, 3, 8):
        for length in range(10):
            shares = [Ranks(rank, count).shard(list(range(length))) for rank in range(count)]
            assert [item for share in shares for item in share] == list(range(length))
            sizes = [len(share) for share in shares]
            assert max(sizes) - min(sizes) <= 1


JOB = """
import sys
from pathlib import Path
from support.trainings import Trained, Training, options
Training(Path(sys.argv[1])).run(options(batch_size=2, max_steps=100_000, checkpoint_every=2), ranks=2)
"""


def test_no_rank_outlives_a_first_one_that_was_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # where its rendezvous file stays behind
    job = subprocess.Popen([sys.executable, "-c", JOB, str(tmp_path)], cwd=Path(__file__).parents[1], env=environment)
    wait_until(lambda: job.poll() is not None or (tmp_path / "state" / "checkpoint.pt").exists())
    assert job.poll() is None
    others = psutil.Process(job.pid).children()
    job.kill()
    job.wait()
    assert len(others) == 1
    assert psutil.wait_procs(others, timeout=LIMIT_S)[1] == []
