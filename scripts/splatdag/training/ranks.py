"""Ranks: the processes of one training, one per GPU, which share the work of each step and stay equal.

All ranks hold the same Gaussians and optimisers, draw the same random numbers and render different views of a step.
Their gradients are summed, so that all of them take the same step. An all-reduce gives every rank the same bits; that
the ranks still agree is checked none the less, since replicas that part in silence would spoil everything.

A training comes out as on one GPU but for rounding. Only where views differ in what counts of them, by masks or by
known depths, the weights differ a little: means are taken over what counts on a rank, then over ranks by their views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class RankFailed(Exception):
    """A rank ended before its time, or the ranks do not agree any more."""


def _nothing() -> None:
    pass


class Ranks:
    """The ranks of a training as one of them sees them; where there is but one, every method gives back what it got.

    Every method that talks to the others must be called by all ranks in the same step.
    """

    def __init__(
        self,
        rank: int = 0,
        count: int = 1,
        check: Callable[[], None] = _nothing,
        barrier: Callable[[], None] = _nothing,
    ) -> None:
        """Join as one of `count` ranks; above one, the process group must be there already.

        Args:
            rank: which one this is; 0 evaluates, writes and reports.
            count: of all ranks.
            check: raises where another rank has failed.
            barrier: holds the other ranks until rank 0 calls it, without a time limit; unlike torch's it does not hold
                rank 0.
        """
        self.rank = rank
        self.count = count
        self._check = check
        self.barrier = barrier

    @property
    def alone(self) -> bool:
        """Tell whether there is no other rank."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Tell whether this is the rank that evaluates, writes and reports."""
        return self.rank == 0

    def shard(self, items: list[T]) -> list[T]:
        """Take this rank's part of the items: neighbours stay together; none where there are too few."""
        begin, end = (len(items) * rank // self.count for rank in (self.rank, self.rank + 1))
        return items[begin:end]

    def sum_gradients(self, tensors: Iterable[Tensor]) -> None:
        """Put the sum over all ranks into each tensor's `grad`, by one all-reduce; a rank without one adds nothing."""
        if self.alone:
            return
        tensors = list(tensors)
        gradients = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in tensors]
        flat = self._reduced(torch.cat([gradient.flatten() for gradient in gradients]), dist.ReduceOp.SUM)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.grad = part.view_as(tensor)

    def total(self, value: Tensor) -> Tensor:
        """Sum a tensor over all ranks."""
        return value if self.alone else self._reduced(value.detach().clone(), dist.ReduceOp.SUM)

    def largest(self, value: Tensor) -> Tensor:
        """Take the largest of a tensor over all ranks, element by element."""
        return value if self.alone else self._reduced(value.detach().clone(), dist.ReduceOp.MAX)

    def mean(self, values: Tensor) -> Tensor:
        """Average the elements of all ranks, of which some may have none; NaN where none has any."""
        if self.alone:
            return values.mean()
        sum_and_count = torch.stack([values.sum().double(), values.new_tensor(values.numel(), dtype=torch.float64)])
        total, count = self.total(sum_and_count).unbind()
        return total / count

    def any(self, flag: bool, device: torch.device) -> bool:
        """Tell whether a flag is set on any rank."""
        return flag if self.alone else bool(self.largest(torch.tensor(int(flag), device=device)))

    def union(self, rows: Tensor, count: int) -> Tensor:
        """Unite the ascending `rows` of all ranks, indices below `count`."""
        if self.alone:
            return rows
        mask = torch.zeros(count, dtype=torch.uint8, device=rows.device)
        mask[rows] = 1
        return torch.where(self._reduced(mask, dist.ReduceOp.MAX))[0]

    def check_replicas(self, tensors: Iterable[Tensor], step: int) -> None:
        """Compare checksums of float32 tensors with the other ranks'.

        The sums are of integers, so the order of a GPU's threads changes nothing. Whether all have as many rows is
        part of it: gradients of different lengths must never be summed.

        Raises:
            RankFailed: they differ.
        """
        if self.alone:
            return
        sums = []
        for tensor in tensors:
            bits = tensor.detach().flatten().view(torch.int32)
            halves = (bits[::2].sum(dtype=torch.int64), bits[1::2].sum(dtype=torch.int64))
            sums += [*halves, torch.tensor(len(bits), device=bits.device)]
        mine = torch.stack(sums)
        highest, lowest = self.largest(torch.cat([mine, -mine])).chunk(2)
        if not torch.equal(highest, -lowest):
            raise RankFailed(
                f"step {step}: the GPUs do not hold the same Gaussians any more; run on GPUs of one model, or on one"
            )
        self._check()

    def leave(self, device: torch.device) -> float:
        """Leave the process group after the last step; returns the largest allocation on any rank's GPU, in MB."""
        if self.alone:
            return 0.0
        peak = torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else 0.0
        largest = float(self.largest(torch.tensor(peak, device=device)))
        self._check()
        dist.destroy_process_group()
        return largest

    def _reduced(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        self._check()
        dist.all_reduce(tensor, operation)
        return tensor


ALONE = Ranks()
"""The only rank of a training in this process alone."""
