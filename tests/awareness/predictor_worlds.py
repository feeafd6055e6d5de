"""Synthetic problems for the predictors' tests."""

from collections.abc import Sequence

import numpy as np

from masa.awareness import Evidence, Observation
from masa.records import Outcome, Prediction, Problem


def problem(key: int, text: str = "") -> Problem:
    return Problem(key=key, text=text or f"problem {key}", answer="")


def outcome(right: int, rolled: int = 8, length: int = 50) -> Outcome:
    """A group whose correct rollouts all have this length, and whose wrong ones are twice as long."""
    correct = tuple(i < right for i in range(rolled))
    return Outcome(("",) * rolled, tuple(length if c else 2 * length for c in correct), correct)


def observation(
    key: int,
    right: int,
    rolled: int = 8,
    *,
    length: int = 50,
    predictions: Sequence[Prediction] = (),
    hidden: np.ndarray | None = None,
    probability: float = 1.0,
    text: str = "",
) -> Observation:
    evidence = Evidence(problem(key, text), tuple(predictions), hidden)
    return Observation(evidence, outcome(right, rolled, length), right in (0, rolled), probability)


def said(*rates: float | None, length: int | None = None) -> tuple[Prediction, ...]:
    return tuple(Prediction(rate, length) for rate in rates)


def logistic(x):
    return 1 / (1 + np.exp(-x))
