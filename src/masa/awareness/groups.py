"""Advantages within a group: the solution group and the meta group of a problem are normalised apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

ZERO_VARIANCE_TOLERANCE = 1e-6
ADVANTAGE_EPSILON = 1e-4
"""Added to the deviation, as TRL does."""

AdvantageScale: TypeAlias = Literal["group", "none"]


def zero_variance(rewards: Sequence[float], tolerance: float = ZERO_VARIANCE_TOLERANCE) -> bool:
    """Whether max - min is at most the tolerance: such a group teaches nothing. True for fewer than two rewards.

    Raises:
        ValueError: if a reward is not finite.
    """
    for index, reward in enumerate(rewards):
        if not math.isfinite(reward):
            raise ValueError(f"reward {index} of the group is {reward}: rewards must be finite numbers")
    return len(rewards) < 2 or max(rewards) - min(rewards) <= tolerance


def group_advantages(rewards: Sequence[float], scale: AdvantageScale = "group") -> list[float]:
    """Advantages of one group: (r - mean) / (s + 1e-4), s being the sample deviation (n - 1 in its denominator).

    A zero-variance group has advantage 0 throughout. With scale `none` the division is left out.

    Raises:
        ValueError: if a reward is not finite, or for an unknown scale.
    """
    if scale not in ("group", "none"):
        raise ValueError(f"unknown advantage scale {scale!r}: use 'group' or 'none'")
    if zero_variance(rewards):
        return [0.0] * len(rewards)
    mean = math.fsum(rewards) / len(rewards)
    centred = [reward - mean for reward in rewards]
    if scale == "none":
        return centred
    deviation = math.sqrt(math.fsum(value * value for value in centred) / (len(rewards) - 1))
    return [value / (deviation + ADVANTAGE_EPSILON) for value in centred]
