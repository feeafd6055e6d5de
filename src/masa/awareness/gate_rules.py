"""Rules of the gate: which problems to skip, and how certain of it each rule is.

A rule sees one estimate at a time and keeps no state. What is skipped in the end (never starving, the audit) is the
matter of `masa.awareness.gate.Gate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from masa.awareness.predictors.base import Estimate

_DIGITS = 9
"""Certainties are rounded: equal predictions in another order may differ by an ulp, and ties go by derived seed."""


class GateRule(Protocol):
    """What a rule of the gate answers."""

    def skips(self, estimate: Estimate) -> bool:
        """Whether the rule would skip the problem."""
        ...

    def probability(self, estimate: Estimate) -> float | None:
        """The chance of a skipped problem to be rolled out all the same; None leaves it to the gate's audit rate."""
        ...

    def certainty(self, estimate: Estimate) -> tuple[float, ...]:
        """Sorts the least certain first; defined for every estimate, also where another than the rule would skip."""
        ...


@dataclass(frozen=True, slots=True)
class PaperRule:
    """Skip if deviation < `gate_std` and the mean is within `margin` of 0 or of 1 (arXiv 2510.03259 v2, section 3.3).

    The paper says "average 0 or 1"; read to the letter that would force the deviation to 0, so the mean is rounded to
    the grid of 1/8. A problem whose predictor abstains passes. Least certain: largest deviation, then farthest from 0
    or 1.

    Raises:
        ValueError: for a setting out of range.
    """

    gate_std: float = 0.1
    """Bound on the deviation, 0..1."""
    margin: float = 1 / 16
    """Largest distance of the mean from 0 or from 1, 0..0.5."""

    def __post_init__(self) -> None:
        check_range("gate_std", self.gate_std, 0, 1)
        check_range("margin", self.margin, 0, 0.5)

    def skips(self, estimate: Estimate) -> bool:
        """Whether the deviation is small and the mean near an edge."""
        if estimate.abstains or estimate.pass_rate is None or estimate.deviation is None:
            return False
        return estimate.deviation < self.gate_std and _from_edge(estimate.pass_rate) <= self.margin

    def probability(self, estimate: Estimate) -> float | None:  # noqa: ARG002
        """None: the audit rate."""
        return None

    def certainty(self, estimate: Estimate) -> tuple[float, ...]:
        """(-deviation, -distance from the nearer edge)."""
        if estimate.abstains or estimate.pass_rate is None or estimate.deviation is None:
            return (-math.inf, -math.inf)
        return (-round(estimate.deviation, _DIGITS), -round(_from_edge(estimate.pass_rate), _DIGITS))


@dataclass(frozen=True, slots=True)
class CalibratedRule:
    """Skip if P(zero variance) > `threshold` under the predictor's belief about p.

    That is E[p^G + (1-p)^G], not the value at the mean of p. A problem whose predictor abstains passes. Least certain:
    smallest probability. With `threshold` 1 it skips nothing of its own, and only orders what others would skip.

    Raises:
        ValueError: for a setting out of range.
    """

    group_size: int
    """G, solution rollouts a problem."""
    threshold: float = 0.9

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise ValueError(f"gate setting group_size must be at least 1, got {self.group_size}")
        check_range("threshold", self.threshold, 0, 1)

    def skips(self, estimate: Estimate) -> bool:
        """Whether the group has all rewards equal with more than the threshold's probability."""
        return self._zero_variance(estimate) > self.threshold

    def probability(self, estimate: Estimate) -> float | None:  # noqa: ARG002
        """None: the audit rate."""
        return None

    def certainty(self, estimate: Estimate) -> tuple[float, ...]:
        """(P(zero variance),)."""
        return (round(self._zero_variance(estimate), _DIGITS),)

    def _zero_variance(self, estimate: Estimate) -> float:
        """0 where there is no belief, so that such a problem passes first."""
        belief = None if estimate.abstains else estimate.beta
        return 0.0 if belief is None else belief.zero_variance(self.group_size)


@dataclass(frozen=True, slots=True)
class ExplorationRule:
    """A randomised predictor's own choice (GRESO, arXiv 2506.02177): roll out with probability `estimate.exploration`.

    A problem with an exploration probability below 1 is skipped but for that draw, which is its audit: pi is that
    probability. At probability 0 nothing is ever learnt of the problem, and the gate's estimates leave it out: give
    such a predictor a floor. None passes, as 1 does. Least certain: largest probability.
    """

    def skips(self, estimate: Estimate) -> bool:
        """Whether the problem may be left out.

        Raises:
            ValueError: for a probability outside 0..1.
        """
        return _exploration(estimate) < 1

    def probability(self, estimate: Estimate) -> float | None:
        """The exploration probability; None where the predictor would pass the problem."""
        chance = _exploration(estimate)
        return chance if chance < 1 else None

    def certainty(self, estimate: Estimate) -> tuple[float, ...]:
        """(-exploration probability,)."""
        return (-round(_exploration(estimate), _DIGITS),)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a setting of the gate that is out of range.

    Raises:
        ValueError: unless low <= value <= high.
    """
    if not low <= value <= high:
        raise ValueError(f"gate setting {name} must lie between {low} and {high}, got {value}")


def _from_edge(pass_rate: float) -> float:
    return min(pass_rate, 1 - pass_rate)


def _exploration(estimate: Estimate) -> float:
    chance = 1.0 if estimate.exploration is None else estimate.exploration
    if not 0 <= chance <= 1:
        raise ValueError(f"an exploration probability must lie between 0 and 1, got {chance}")
    return chance
