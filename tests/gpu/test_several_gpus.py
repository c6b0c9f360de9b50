"""Two GPUs for one training, through NCCL: they learn what one does, and end together."""

from __future__ import annotations

import math

import numpy as np
import psutil
import pytest
import torch
from support.flux4d import learn_clips, tiny
from support.trainings import Training, options, spoilt

from splatdag.training.ranks import RankFailed
from splatdag.workflow.errors import Stopped

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices"),
]
VARIANTS = {
    "plain": {},
    "mcmc": {"strategy": {"kind": "mcmc", "cap_max": 300, "refine_start_iter": 4, "refine_every": 5, "noise_lr": 1e4}},
    "visible Adam, cameras and appearance": {"visible_adam": True, "pose_opt": True, "app_opt": True},
    "packed, sparse": {"packed": True, "sparse_grad": True, "random_bkgd": True},
    "crops, one view on each": {"patch_size": 28, "batch_size": 2},
}


def on_gpu(folder):
    training = Training(folder)
    training.device = torch.device("cuda")
    return training


@pytest.mark.parametrize("name", VARIANTS)
def test_two_gpus_learn_what_one_does(tmp_path, name):
    """Sums on a GPU have no fixed order, so the last bits differ from run to run, and few steps can be compared."""
    chosen = options(max_steps=16, quats_lr=1e-9, **{"batch_size": 4, **VARIANTS[name]})
    one, two = (on_gpu(tmp_path / str(ranks)).run(chosen, ranks=ranks) for ranks in (1, 2))
    np.testing.assert_allclose(np.array(two.curve)[:, 1], np.array(one.curve)[:, 1], rtol=1e-2)
    counts = [len(result.model.parameters["means"]) for result in (one, two)]
    assert math.isclose(*counts, rel_tol=0.03)
    assert two.rank_memory_mb > 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("raise MemoryError('no room')", "GPU 2 of 2: MemoryError: no room"),
        ("__import__('os').kill(__import__('os').getpid(), 9)", "GPU 2 of 2 was ended by signal 9"),
        ("model.parameters['sh0'].data[7] += 1e-7", "the GPUs do not hold the same Gaussians"),
    ],
)
def test_a_rank_that_fails_ends_the_training_with_its_error(tmp_path, line, message):
    with pytest.raises(RankFailed, match=message):
        spoilt(on_gpu(tmp_path), line).run(options(batch_size=2, max_steps=2_000), ranks=2)
    assert psutil.Process().children() == []


def test_a_stopped_training_is_continued_by_one_gpu(tmp_path):
    chosen = options(batch_size=4, max_steps=60, eval_steps=[7])
    with pytest.raises(Stopped, match="state saved after step"):
        on_gpu(tmp_path).run(chosen, stop=True, ranks=2)
    assert on_gpu(tmp_path).run(chosen).step == 60


def test_two_gpus_learn_of_driving_what_one_does_with_twice_the_clips(tmp_path):
    cuda = torch.device("cuda")
    two = learn_clips(tmp_path / "two", tiny(iters=5), ranks=2, device=cuda)
    one = learn_clips(tmp_path / "one", tiny(iters=5, grad_accum_steps=2), device=cuda)
    np.testing.assert_allclose([row[1] for row in two.curve], [row[1] for row in one.curve], rtol=1e-2)
    for name, other in one.model.state_dict().items():
        torch.testing.assert_close(two.model.state_dict()[name], other, rtol=5e-2, atol=5e-2)
    assert two.rank_memory_mb > 0
