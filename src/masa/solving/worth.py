"""What votes are worth: before they are drawn, by the foretold pass rate, and then as evidence of the right answer."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from masa.awareness.beliefs import Beta

RIVAL = 0.5
"""Chance that two wrong samples name the same wrong answer: 1 for a yes or no, less where errors scatter."""
LEAST_GAIN = 0.005
"""A further sample must raise the chance that the vote is right by so much."""


@lru_cache(maxsize=4096)
def vote_values(belief: Beta, most: int, rival: float = RIVAL) -> NDArray[np.float64]:
    """Chance that a vote of n samples is right, for n = 0..`most`, [most + 1].

    Of n samples R are right, beta-binomial under the belief, and W of the others name the strongest wrong answer,
    Binomial(n - R, `rival`); the others are scattered and have one vote each. The vote is right if R exceeds the votes
    of every wrong answer, and half the time in a tie. The array is shared by all who ask for the same: it cannot be
    written to.

    Args:
        belief: about the pass rate p.
        most: samples, at most.
        rival: share of the wrong samples that name the strongest wrong answer, 0..1.
    """
    values = np.zeros(most + 1)
    for n in range(1, most + 1):
        values[n] = math.fsum(
            math.exp(_log_choose(n, right) + belief.log_moment(right, n - right)) * _wins(right, n - right, rival)
            for right in range(1, n + 1)
        )
    values.flags.writeable = False
    return values


def likely_right(counts: Sequence[int], belief: Beta, rival: float = RIVAL) -> float:
    """Probability that the leading answer is the right one, by its votes and the belief about the pass rate.

    A sample is right with probability p; a wrong one names an answer that wrong ones have named before, or a new one,
    by a Chinese restaurant process in which two agree with probability `rival`. So each answer that was given may be
    the right one, or none of them; how likely the votes are in each case decides (Bayes' rule).

    Args:
        counts: votes an answer, not rising.
        belief: about the pass rate p.
        rival: chance that two wrong samples agree, above 0 and below 1; it is kept a little away from both ends.

    Returns:
        0..1; 0 without votes.
    """
    if not counts:
        return 0.0
    concentration = 1 / min(max(rival, 1e-3), 1 - 1e-3) - 1

    def wrong_votes(votes: float, answers: int) -> float:
        """Log probability of an order of wrong votes, but for the factors that each answer brings."""
        rising = math.lgamma(concentration + votes) - math.lgamma(concentration)
        return answers * math.log(concentration) - rising

    total = sum(counts)
    # The answer that is right takes its own factor, the logarithm of (votes - 1)!, out of the wrong ones' product.
    logs = [
        belief.log_moment(votes, total - votes) + wrong_votes(total - votes, len(counts) - 1) - math.lgamma(votes)
        for votes in counts
    ]
    logs.append(belief.log_moment(0, total) + wrong_votes(total, len(counts)))
    most = max(logs)
    return math.exp(logs[0] - most) / math.fsum(math.exp(log - most) for log in logs)


def plan_samples(
    values: Sequence[NDArray[np.float64]],
    costs: Sequence[float],
    *,
    budget: float = math.inf,
    least_gain: float = LEAST_GAIN,
) -> list[int]:
    """Samples for each question: those that are worth it, the worthiest a token first, while the budget lasts.

    A vote gains in steps (a second sample decides nothing, the third does), so gains are taken from the least concave
    curve above the values. Every question gets one sample, whatever the budget says: that is for who draws it.

    Args:
        values: a question each, as `vote_values` gives them.
        costs: expected tokens of a sample, a question each.
        budget: tokens for all samples together.
        least_gain: of a further sample; steps that gain less are not taken.

    Raises:
        ValueError: for a cost that is not positive.
    """
    if any(not cost > 0 for cost in costs):
        raise ValueError(f"a sample must cost a positive number of tokens, got {min(costs)}")
    sizes = [1] * len(values)
    left = budget - math.fsum(costs)
    heap: list[tuple[float, int, int]] = []  # gain a token, negated; question; size after the step

    def offer(question: int) -> None:
        step = _next_step(values[question], sizes[question])
        if step is not None and step[0] >= least_gain:
            heapq.heappush(heap, (-step[0] / costs[question], question, step[1]))

    for question in range(len(values)):
        offer(question)
    while heap:
        _, question, size = heapq.heappop(heap)
        price = (size - sizes[question]) * costs[question]
        if price > left:
            continue
        left -= price
        sizes[question] = size
        offer(question)
    return sizes


def _next_step(values: NDArray[np.float64], size: int) -> tuple[float, int] | None:
    """The steepest way up from `size`: gain a sample, and where it leads; None from the last size."""
    if size + 1 >= len(values):
        return None
    ahead = np.arange(size + 1, len(values))
    gains = (values[ahead] - values[size]) / (ahead - size)
    best = int(gains.argmax())
    return float(gains[best]), int(ahead[best])


@lru_cache(maxsize=16_384)
def _wins(right: int, wrong: int, rival: float) -> float:
    """P(W < R) + P(W = R) / 2 for W ~ Binomial(wrong, rival), at least 1 where anything is wrong, and R > 0."""
    chances = [math.comb(wrong, w) * rival**w * (1 - rival) ** (wrong - w) for w in range(min(right, wrong) + 1)]
    if right == 1 and wrong:
        return math.fsum(chances) / 2
    return math.fsum(chances[:right]) + (chances[right] / 2 if right <= wrong else 0.0)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
