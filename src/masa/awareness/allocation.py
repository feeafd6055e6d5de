"""How many solution rollouts each problem gets: the gate's "none or G" as a choice under a budget of tokens.

A group teaches if its rewards differ. With a belief about the pass rate p, G rollouts do so with probability
v(G) = E[1 - p^G - (1-p)^G], and cost G times the predicted length. To spend a step's tokens where they teach most is a
knapsack problem (after arXiv 2509.25849, with tokens for its cost in rollouts, and a belief for its plug-in).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from masa.awareness.beliefs import Beta
from masa.awareness.predictors.base import Estimate

UNINFORMED = Beta(1.0, 1.0)
"""Stands in for the belief of a predictor that abstains: any pass rate is as likely as any other."""


def allocate(
    beliefs: Sequence[Beta | None], costs: Sequence[float | None], *, budget: float, least: int, most: int
) -> list[int]:
    """Group sizes, each 0 or `least`..`most`, that are worth most within the budget.

    Greedy by value per predicted token; the step from 0 to `least` is one item. What one more rollout adds,
    E[p^G (1-p) + (1-p)^G p], falls as G grows and is never above the mean gain of the first `least`, so the greedy
    order is the best one and the result the best there is for the tokens it spends. What does not fit any more is
    passed over for what does: the value lost to the best use of the *whole* budget is below that of one item. Ties go
    to the smaller group, then to the lower index.

    Args:
        beliefs: about each problem's pass rate; None counts as uniform.
        costs: predicted tokens of one rollout of each problem; None counts as the mean of those known.
        budget: predicted tokens of all groups together, never exceeded but in one case: if it does not even pay the
            group of `least` that is worth most per token, nor any other, that one is rolled out all the same.
        least: smallest group, at least 2 (one rollout alone teaches nothing).
        most: largest group.

    Returns:
        One group size a problem, in order.

    Raises:
        ValueError: if beliefs and costs differ in number, sizes or budget are out of range, a cost is not a positive
            number, or no cost is known.
    """
    if len(beliefs) != len(costs):
        raise ValueError(f"{len(beliefs)} beliefs for {len(costs)} costs")
    if not 2 <= least <= most:
        raise ValueError(f"group sizes must satisfy 2 <= least <= most, got {least} and {most}")
    if not 0 <= budget < math.inf:
        raise ValueError(f"a budget must be a number of tokens, got {budget}")
    if not beliefs:
        return []
    prices = _filled(costs)
    gains = [_Gains(UNINFORMED if belief is None else belief, least) for belief in beliefs]
    sizes = [0] * len(gains)
    # Worth per token, negated; size so far; index.
    heap = [(_key(gain.first / least, price), 0, i) for i, (gain, price) in enumerate(zip(gains, prices, strict=True))]
    heapq.heapify(heap)
    best = heap[0][2]
    left = budget
    while heap:
        _, size, i = heapq.heappop(heap)
        rollouts = 1 if size else least
        # A rollout costs the same whichever it is, so a problem whose next item does not fit is done with.
        if rollouts * prices[i] > left:
            continue
        left -= rollouts * prices[i]
        sizes[i] += rollouts
        if sizes[i] < most:
            heapq.heappush(heap, (_key(gains[i].following(), prices[i]), sizes[i], i))
    if not any(sizes):
        sizes[best] = least
    return sizes


@dataclass(frozen=True, slots=True)
class Allocation:
    """Knapsack groups for the problems of a draw, in the budget of so many uniform groups.

    Raises:
        ValueError: for settings out of range.
    """

    nominal: int
    """N, rollouts of a uniform group."""
    least: int
    most: int
    share: float = 1.0
    """Budget over what uniform groups would take."""
    by_length: bool = True
    """Whether a rollout costs its predicted length; else all cost the same, and groups of one size are as many."""

    def __post_init__(self) -> None:
        if not 2 <= self.least <= self.most:
            raise ValueError(f"group sizes must satisfy 2 <= least <= most, got {self.least} and {self.most}")
        if not self.share > 0:
            raise ValueError(f"allocation setting share must be above 0, got {self.share}")

    def sizes(self, estimates: Sequence[Estimate], skips: Sequence[bool], *, groups: int | None = None) -> list[int]:
        """One group size a problem; a problem that a gate skips gets none.

        Where no length is foretold, or none counts, rollouts take the place of tokens.

        Args:
            estimates: what is held of each problem.
            skips: the gate's verdict on each.
            groups: uniform groups in the budget, each at the mean predicted length of the problems not skipped. By
                default one for each of them: what is skipped leaves its tokens unspent.
        """
        passed = [i for i, skip in enumerate(skips) if not skip]
        costs = [estimates[i].length if self.by_length else None for i in passed]
        if all(cost is None for cost in costs):
            costs = [1.0] * len(costs)
        budget = self.share * self.nominal * math.fsum(_filled(costs)) if costs else 0.0
        if groups is not None and costs:
            budget *= groups / len(costs)
        beliefs = [estimates[i].beta for i in passed]
        sizes = [0] * len(estimates)
        for i, size in zip(
            passed, allocate(beliefs, costs, budget=budget, least=self.least, most=self.most), strict=True
        ):
            sizes[i] = size
        return sizes


def group_scale(size: int, nominal: int) -> float:
    """G / (G-1) x (N-1) / N, the factor on the advantages of a group of G among groups of N.

    A group's mean includes the row itself, which shrinks the expected gradient by (G-1) / G: this makes unequal groups
    alike, and leaves those of the nominal size as they are.

    Raises:
        ValueError: for a size below 2.
    """
    if size < 2 or nominal < 2:
        raise ValueError(f"a group that teaches has at least 2 rollouts, got {size} and {nominal}")
    return 1.0 if size == nominal else size / (size - 1) * (nominal - 1) / nominal


def row_weight(size: int, mean_size: float) -> float:
    """(mean G) / G, the weight of each row of a group of G: problems count alike whatever their group's size.

    Args:
        size: G.
        mean_size: mean of G over the groups rolled out in the step.

    Raises:
        ValueError: for sizes that are not positive.
    """
    if size < 1 or not mean_size > 0:
        raise ValueError(f"group sizes must be positive, got {size} and a mean of {mean_size}")
    return mean_size / size


class _Gains:
    """What further rollouts of one problem add to the chance that its group teaches, in order.

    With R(G) = E[p^G] and W(G) = E[(1-p)^G] under Beta(a, b), rollout G + 1 adds R(G) b / (a+b+G) + W(G) a / (a+b+G).
    """

    def __init__(self, belief: Beta, least: int) -> None:
        self._belief = belief
        self._size = 0
        self._right = self._wrong = 1.0
        self._advance()  # the first rollout alone adds nothing
        self.first = math.fsum(self.following() for _ in range(least - 1))

    def following(self) -> float:
        """What the next rollout adds."""
        a, b, total = self._belief.a, self._belief.b, self._belief.a + self._belief.b + self._size
        gain = (self._right * b + self._wrong * a) / total
        self._advance()
        return gain

    def _advance(self) -> None:
        a, b, total = self._belief.a, self._belief.b, self._belief.a + self._belief.b + self._size
        self._right *= (a + self._size) / total
        self._wrong *= (b + self._size) / total
        self._size += 1


def _key(gain: float, price: float) -> float:
    """Sorts the worthiest first; to twelve digits, since a group's second and third rollout are worth the same."""
    return -float(f"{gain / price:.12g}")


def _filled(costs: Sequence[float | None]) -> list[float]:
    known = [cost for cost in costs if cost is not None]
    if not known:
        raise ValueError("no predicted length is known: without one there is nothing to allocate a budget of tokens by")
    for cost in known:
        if not 0 < cost < math.inf:
            raise ValueError(f"a rollout must cost a positive number of tokens, got {cost}")
    mean = math.fsum(known) / len(known)
    return [mean if cost is None else cost for cost in costs]
