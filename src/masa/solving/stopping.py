"""When a vote is settled: adaptive consistency (arXiv 2305.11860), which a prediction may sharpen.

Votes are given by their counts, the leading answer's first. A rule asks how probable it is that the leading answer
would keep its lead however many votes followed, and stops above a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

import numpy as np

from masa.awareness.beliefs import Beta

Posterior: TypeAlias = Literal["beta", "dirichlet"]

UNIFORM = Beta(1.0, 1.0)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(256)


def leads_by_beta(counts: Sequence[int], prior: Beta = UNIFORM) -> float:
    """Probability that the leading answer is commoner than its strongest rival, from the votes of these two.

    With the uniform prior it is P(q > 1/2) for q ~ Beta(v1 + 1, v2 + 1), section 3.2 of arXiv 2305.11860. Another prior
    is a belief about the share of *right* answers, which does not say which answer is the right one: it is right or its
    rival is, each with the probability that the votes give it, so that q has a mixture of two Beta posteriors.

    Args:
        counts: votes an answer, not rising; others than the first two are not looked at.
        prior: of the share of one answer among the two.

    Returns:
        0..1; 0 without votes.
    """
    if not counts:
        return 0.0
    first, second = counts[0], counts[1] if len(counts) > 1 else 0
    right = Beta(prior.a + first, prior.b + second).above(0.5)
    if prior.a == prior.b:
        return right
    wrong = Beta(prior.b + first, prior.a + second).above(0.5)
    # Odds that the leading answer is not the right one, from how likely the votes are either way.
    odds = math.exp(min(700.0, prior.log_moment(second, first) - prior.log_moment(first, second)))
    return (right + odds * wrong) / (1 + odds)


def leads_by_dirichlet(counts: Sequence[int]) -> float:
    """Probability that the leading answer has the largest share of all answers seen, under Dirichlet(counts + 1).

    Shares are independent Gamma(v + 1) variables over their sum, so it is the integral of the leader's density times
    the others' distribution functions; the counts are whole, so these are finite sums. By Gauss-Legendre quadrature.

    Args:
        counts: votes an answer, not rising.

    Returns:
        0..1; 0 without votes. A single answer is held against one that was never seen, as in `leads_by_beta`.
    """
    if not counts:
        return 0.0
    first, *others = counts if len(counts) > 1 else [counts[0], 0]
    top = first + 40 + 12 * math.sqrt(first + 1)
    x = (_NODES + 1) * top / 2
    logs = np.log(x)
    value = np.exp(first * logs - x - math.lgamma(first + 1)) * _WEIGHTS * top / 2
    for other in others:
        terms = np.array([k * logs - x - math.lgamma(k + 1) for k in range(other + 1)])
        value = value * (1 - np.exp(terms).sum(axis=0))
    return float(min(1.0, max(0.0, value.sum())))


class StoppingRule(Protocol):
    """Says when a vote has enough samples. Counts are votes an answer, not rising."""

    def leads(self, counts: Sequence[int], prior: Beta = UNIFORM) -> float:
        """Probability that the leading answer keeps its lead."""
        ...

    def settled(self, counts: Sequence[int], prior: Beta = UNIFORM) -> bool:
        """Whether the vote may stop."""
        ...

    def least_to_settle(self, counts: Sequence[int], most: int, prior: Beta = UNIFORM) -> int:
        """Further samples to draw at once, 1..`most`."""
        ...


@dataclass(frozen=True, slots=True)
class AdaptiveConsistency:
    """Stops once the leading answer is sure enough to stay in the lead.

    Raises:
        ValueError: for a threshold outside (0.5, 1), or an unknown posterior.
    """

    threshold: float = 0.95
    """The paper's."""
    posterior: Posterior = "beta"
    """`beta` looks at the two leading answers, `dirichlet` at all; only `beta` can take in a prediction."""

    def __post_init__(self) -> None:
        if not 0.5 < self.threshold < 1:
            raise ValueError(f"threshold must lie strictly between 0.5 and 1, got {self.threshold:g}")
        if self.posterior not in get_args(Posterior):
            raise ValueError(f"posterior must be {' or '.join(get_args(Posterior))}, got {self.posterior!r}")

    def leads(self, counts: Sequence[int], prior: Beta = UNIFORM) -> float:
        """Probability that the leading answer keeps its lead."""
        return leads_by_beta(counts, prior) if self.posterior == "beta" else leads_by_dirichlet(counts)

    def settled(self, counts: Sequence[int], prior: Beta = UNIFORM) -> bool:
        """Whether the vote may stop."""
        return self.leads(counts, prior) > self.threshold

    def least_to_settle(self, counts: Sequence[int], most: int, prior: Beta = UNIFORM) -> int:
        """Further samples before which the vote cannot be settled, were all to name the leading answer; at most `most`.

        To draw so many at once stops where drawing them one by one would: nothing is drawn in vain for being batched.
        """
        first, *others = counts or [0]
        for more in range(1, most):
            if self.settled([first + more, *others], prior) or decided([first + more, *others], most - more):
                return more
        return most


def decided(counts: Sequence[int], remaining: int) -> bool:
    """Whether `remaining` further votes can no longer take the lead from the leading answer, nor bring a tie."""
    if not counts:
        return remaining == 0
    return counts[0] - (counts[1] if len(counts) > 1 else 0) > remaining
