"""Our optimisers against torch's and against their formulas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from splatdag.scene.optimizers import VisibleAdam
from splatdag.training.adam import Adam


def test_adam_has_the_bits_of_torch_s_fused_one() -> None:
    start = torch.randn((7, 3), generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    made = Adam(ours, lr=0.01, betas=(0.6, 0.996), eps=5e-16)
    reference = torch.optim.Adam([theirs], lr=0.01, betas=(0.6, 0.996), eps=5e-16, fused=True)
    for step in range(5):
        for tensor in (ours, theirs):
            tensor.grad = torch.randn((7, 3), generator=torch.Generator().manual_seed(step))
        made.step()
        reference.step()
        made.zero_grad()
    assert torch.equal(ours, theirs)
    assert ours.grad is None
    for name, value in reference.state[theirs].items():
        assert torch.equal(made.state[ours][name], value), name


def test_a_tensor_without_a_gradient_stays_as_it_is() -> None:
    tensor = torch.ones(3, requires_grad=True)
    made = Adam(tensor, lr=0.01, betas=(0.9, 0.999), eps=1e-15)
    made.step()
    assert torch.equal(tensor, torch.ones(3))
    assert not made.state


def test_a_training_does_not_import_torch_s_compiler(tmp_path: Path) -> None:
    """It takes more than a second."""
    code = f"""
import sys
from pathlib import Path
from support.trainings import Training, options
Training(Path({str(tmp_path)!r})).run(options(max_steps=2))
print("torch._dynamo" in sys.modules)
"""
    here = Path(__file__).parents[1]
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here).stdout
    assert said.splitlines()[-1] == "False"


def test_visible_adam_is_adam_without_correction_on_some_rows() -> None:
    """Two steps by hand; the other rows keep value and memory."""
    start = torch.randn((5, 3), generator=torch.Generator().manual_seed(0))
    tensor = start.clone().requires_grad_()
    optimizer = VisibleAdam(tensor, lr=0.1, betas=(0.9, 0.999), eps=1e-8)
    expected, mean, square = start.clone(), torch.zeros(5, 3), torch.zeros(5, 3)
    for step, rows in enumerate(([0, 3], [3, 4])):
        gradient = torch.randn((5, 3), generator=torch.Generator().manual_seed(step + 1))
        tensor.grad, optimizer.rows = gradient.clone(), torch.tensor(rows)
        optimizer.step()
        mean[rows] = 0.9 * mean[rows] + 0.1 * gradient[rows]
        square[rows] = 0.999 * square[rows] + 0.001 * gradient[rows] ** 2
        expected[rows] -= 0.1 * mean[rows] / (square[rows].sqrt() + 1e-8)
    torch.testing.assert_close(tensor.detach(), expected)
    assert torch.equal(tensor.detach()[[1, 2]], start[[1, 2]])
