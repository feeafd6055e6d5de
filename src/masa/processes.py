"""The processes that train one policy together: who does what, and how all come to know of it.

Every process decides everything from the same facts in the same order: which problems are drawn, gated, cut, what
predictors learn, what the ledger holds. Only expensive work is dealt out (rollouts, rewards, the update), and its
results are handed to all. So there is no second account of anything to merge, and a run on N processes is the run on
one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from masa.errors import OF_ONE

_PATIENCE = timedelta(days=1)

T = TypeVar("T")
R = TypeVar("R")


class EndedElsewhere(SystemExit):
    """Another process met an error, which it shows itself; this one leaves with it."""

    def __init__(self) -> None:
        super().__init__(1)


class Team:
    """The processes of `torch.distributed`'s default group, or this one alone where there is none.

    Every method is called by all processes, in the same order.

    Args:
        alone: leave the others out, wherever they are.
    """

    def __init__(self, *, alone: bool = False) -> None:
        is_group = not alone and dist.is_available() and dist.is_initialized()
        self.size: int = dist.get_world_size() if is_group else 1
        self.rank = dist.get_rank() if self.size > 1 else 0
        # Python objects go over the CPU: on GPUs the default group would copy them there and back.
        # They may wait for the slowest's rollouts as long as it takes: a process that dies ends the others anyway.
        self._objects = dist.new_group(backend="gloo", timeout=_PATIENCE) if self.size > 1 else None

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The value of every process, in the order of their ranks."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value, group=self._objects)
        return gathered

    def share(
        self, items: Sequence[T], costs: Sequence[float], work: Callable[[list[T]], Sequence[R]], *, what: str
    ) -> list[R]:
        """The results of `work` on all items, in order; each process does its part.

        Args:
            items: the same ones on every process.
            costs: what each is expected to take, in any unit; the dearest are dealt out first.
            work: from some items, possibly none, to one result each.
            what: names the work in errors.

        Raises:
            EndedElsewhere: if `work` failed on another process; where it did, its own error.
            RuntimeError: if the processes do not have the same items.
        """
        if self.size == 1:
            return list(work(list(items)))
        owners = deal(costs, self.size)
        facts = (what, len(items), zlib.crc32(repr(list(costs)).encode()))
        with self.together():
            mine = list(work([item for item, owner in zip(items, owners, strict=True) if owner == self.rank]))
        found = self.gather((facts, mine))
        if any(theirs != facts for theirs, _ in found):
            raise RuntimeError(f"the processes no longer agree on what to do next ({[theirs for theirs, _ in found]})")
        results = [iter(part) for _, part in found]
        return [next(results[owner]) for owner in owners]

    def first(self, work: Callable[[], R]) -> R:
        """What the main process gets from `work`; the others wait for it."""
        results = []
        with self.together():
            if self.is_main:
                results.append(work())
        return self.gather(results)[0][0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """All processes leave the body without an error, or none does.

        Raises:
            EndedElsewhere: where the body went well but did not elsewhere.
        """
        failed: Exception | None = None
        try:
            yield
        except Exception as error:
            failed = error
        failures = self.gather(failed is not None)
        if failed is not None:
            if not all(failures):
                failed.add_note(OF_ONE)
            raise failed
        if any(failures):
            raise EndedElsewhere

    @contextmanager
    def not_waiting(self) -> Iterator[None]:
        """Like `together`, around work in which processes wait for each other on the way.

        One that fails leaves at once, since the others wait for it where it cannot answer; the launcher ends them.
        """
        try:
            yield
        except Exception as error:
            error.add_note(OF_ONE)
            raise

    def leave(self) -> None:
        """End the group; nothing of the team may be used afterwards."""
        if self.size > 1:
            dist.destroy_process_group()

    def total(self, value: float) -> float:
        """The sum over all processes."""
        return sum(self.gather(value))

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """The mean over all processes, the same to the bit on each."""
        if self.size == 1:
            return tensor
        summed = tensor.detach().clone()
        dist.all_reduce(summed)
        return summed / self.size

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the mean gradient; a parameter that none has a gradient of keeps none.

        A process without rows takes part with zeros, and no forward or backward pass of a process waits for another's.
        """
        if self.size == 1:
            return
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        present = self.gather([parameter.grad is not None for parameter in wanted])
        touched = [p for p, *has in zip(wanted, *present, strict=True) if any(has)]
        for dtype in sorted({parameter.dtype for parameter in touched}, key=str):
            alike = [parameter for parameter in touched if parameter.dtype == dtype]
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in alike]
            mean = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
            parts = torch.split(mean, [parameter.numel() for parameter in alike])
            for parameter, part in zip(alike, parts, strict=True):
                parameter.grad = part.view_as(parameter)


def deal(costs: Sequence[float], hands: int) -> list[int]:
    """Which hand each item goes to, so that the largest sum of costs is small.

    Longest first, each to the hand with the least so far (Graham 1969): at most 4/3 of the best possible.
    """
    loads = [0.0] * hands
    owners = [0] * len(costs)
    for item in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        owners[item] = min(range(hands), key=lambda hand: (loads[hand], hand))
        loads[owners[item]] += costs[item]
    return owners
