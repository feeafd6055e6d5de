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
    """Of all gates that skip this share of problems and do not see the groups, the best; None where it is undefined."""

    precision: float | None
    """Flat groups among the skipped."""
    recall: float | None
    """Skipped among the flat groups."""
    base_rate: float
    """Flat groups among all: the precision of skipping at random."""


def knowing_gate(right: Sequence[int], rolled: Sequence[int], size: int, share: float) -> Ceiling:
    """Precision and recall, in expectation, of skipping the problems whose group is most probably flat, knowing p.

    The distribution of p is estimated; with 240 problems most of which have rates near 0 or 1, precision and recall
    come out within about 0.06 (one standard deviation over simulated draws), with rates spread evenly within 0.2.

    Args:
        right: correct rollouts, one a problem.
        rolled: rollouts, one a problem.
        size: G, rollouts of the groups to be judged.
        share: of the problems, that are skipped.

    Raises:
        ValueError: without problems, for counts that make no sense, or a share outside 0..1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of skipped problems must lie between 0 and 1, got {share}")
    weights = rate_distribution(right, rolled)
    flat = _GRID**size + (1 - _GRID) ** size
    order = np.argsort(-flat, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(weights[order])[:-1]])
    skipped = np.clip(share - before, 0.0, weights[order])
    found, base = float(skipped @ flat[order]), float(weights @ flat)
    return Ceiling(found / share if share > 0 else None, found / base if base > 0 else None, base)


def rate_distribution(right: Sequence[int], rolled: Sequence[int]) -> Floats:
    """The distribution of pass rates under which these counts are likeliest, as weights on the grid, [101].

    Nonparametric maximum likelihood by expectation and maximisation (Laird 1978, JASA 73): the spread of the counts is
    that of the pass rates and of the sampling together, and this takes the second part out.

    Raises:
        ValueError: without problems, or for counts that make no sense.
    """
    pairs = list(zip(right, rolled, strict=False))
    if not right or len(right) != len(rolled) or any(not 0 <= k <= n or n < 1 for k, n in pairs):
        raise ValueError("pass rates need problems, each with 0 to n correct of n >= 1 rollouts")
    kinds, counts = np.unique(np.array(pairs), axis=0, return_counts=True)
    k, n = kinds[:, :1], kinds[:, 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(k > 0, k * np.log(_GRID), 0.0) + np.where(n > k, (n - k) * np.log1p(-_GRID), 0.0)
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights = np.full(len(_GRID), 1 / len(_GRID))
    for _ in range(_ITERATIONS):
        shares = likelihood * weights
        shares /= shares.sum(axis=1, keepdims=True)
        weights = counts @ shares / counts.sum()
    return np.asarray(weights, np.float64)
