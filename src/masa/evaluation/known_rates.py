"""How well a gate could do at best: the verdicts of one that knew every problem's true pass rate.

Even that gate errs, since a group of G rollouts of a problem with pass rate p is flat by chance, with probability
p^G + (1-p)^G. What a predictor's precision and recall are worth shows only beside this ceiling and the base rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GRID = np.sin(np.linspace(0.0, math.pi / 2, 101)) ** 2
"""Pass rates, closer together towards 0 and 1, where flatness is decided; both ends included."""
_ITERATIONS = 1000


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Of the gate that skips a problem if its group is more likely flat than not; None where it is undefined."""

    precision: float | None
    """Flat groups among the skipped."""
    recall: float | None
    """Skipped among the flat groups."""
    base_rate: float
    """Flat groups among all: the precision of skipping at random."""


def knowing_gate(right: Sequence[int], rolled: Sequence[int], size: int) -> Ceiling:
    """Precision and recall, in expectation, of knowing each problem's pass rate but not its group.

    Args:
        right: correct rollouts, one a problem.
        rolled: rollouts, one a problem.
        size: G, rollouts of the groups to be judged.

    Raises:
        ValueError: without problems, or for counts that make no sense.
    """
    weights = rate_distribution(right, rolled)
    flat = _GRID**size + (1 - _GRID) ** size
    skipped = flat > 0.5
    found, all_skipped, all_flat = (
        float(part.sum()) for part in ((weights * flat)[skipped], weights[skipped], weights * flat)
    )
    return Ceiling(
        precision=found / all_skipped if all_skipped > 0 else None,
        recall=found / all_flat if all_flat > 0 else None,
        base_rate=all_flat,
    )


def rate_distribution(right: Sequence[int], rolled: Sequence[int]) -> Floats:
    """The distribution of pass rates under which these counts are likeliest, as weights on the grid, [101].

    Nonparametric maximum likelihood by expectation and maximisation (Laird 1978, JASA 73): the spread of the counts is
    that of the pass rates and of the sampling together, and this takes the second part out.

    Raises:
        ValueError: without problems, or for counts that make no sense.
    """
    if (
        not right
        or len(right) != len(rolled)
        or any(not 0 <= k <= n or n < 1 for k, n in zip(right, rolled, strict=True))
    ):
        raise ValueError("pass rates need problems, each with 0 to n correct of n >= 1 rollouts")
    kinds, counts = np.unique(np.array([right, rolled]).T, axis=0, return_counts=True)
    k, n = kinds[:, :1], kinds[:, 1:]
    likelihood = _GRID**k * (1 - _GRID) ** (n - k)
    weights = np.full(len(_GRID), 1 / len(_GRID))
    for _ in range(_ITERATIONS):
        shares = likelihood * weights
        shares /= shares.sum(axis=1, keepdims=True)
        weights = counts @ shares / counts.sum()
    return np.asarray(weights, np.float64)
