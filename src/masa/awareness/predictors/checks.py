"""Checks of settings and a small window of scores, shared by the predictors."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from masa.awareness.predictors.base import Estimate, Observation

_EDGE = 1e-6
"""Probabilities are scored no nearer to 0 or 1, so that one surprise does not outweigh a window."""


def check_setting(predictor: str, name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a setting outside its range.

    Raises:
        ValueError: naming the setting, its range and its value.
    """
    if not low <= value <= high:
        rule = f"lie between {low:g} and {high:g}" if high < math.inf else f"be at least {low:g}"
        raise ValueError(f"{predictor} predictor setting {name} must {rule}, got {value}")


class ScoreWindow:
    """How well zero variance was foretold, over the last `size` groups rolled out whose estimate had a belief.

    Each group is scored by the estimate made before its outcome was learnt from.
    """

    def __init__(self, size: int = 1024) -> None:
        self._scores: deque[tuple[float, bool, float]] = deque(maxlen=size)

    def add(self, estimates: Sequence[Estimate], observations: Sequence[Observation]) -> None:
        """Score a step's estimates, one an observation."""
        for estimate, observation in zip(estimates, observations, strict=True):
            if (belief := estimate.beta) is not None:
                foretold = belief.zero_variance(len(observation.outcome.correct))
                self._scores.append((foretold, observation.is_zero_variance, 1 / observation.probability))

    def metrics(self) -> dict[str, float]:
        """Log loss in nats, and that of always foretelling the window's base rate; empty without scores."""
        total = math.fsum(weight for _, _, weight in self._scores)
        if not total:
            return {}
        loss = math.fsum(weight * _log_loss(foretold, flat) for foretold, flat, weight in self._scores) / total
        base = math.fsum(weight for _, flat, weight in self._scores if flat) / total
        entropy = base * _log_loss(base, True) + (1 - base) * _log_loss(base, False)
        return {"predictor/log_loss": loss, "predictor/log_loss_base": entropy}

    def state_dict(self) -> list[list[float]]:
        """The scores, JSON-able."""
        return [[foretold, int(flat), weight] for foretold, flat, weight in self._scores]

    def load_state_dict(self, state: Sequence[Sequence[Any]]) -> None:
        """Continue from saved scores."""
        self._scores.clear()
        self._scores.extend((float(foretold), bool(flat), float(weight)) for foretold, flat, weight in state)


def rows_by_key(rows: Sequence[Sequence[Any]]) -> Mapping[int, Sequence[Any]]:
    """Saved rows by the problem key each begins with: JSON objects cannot have integers as keys."""
    return {int(row[0]): row[1:] for row in rows}


def _log_loss(probability: float, happened: bool) -> float:
    probability = min(max(probability, _EDGE), 1 - _EDGE)
    return -math.log(probability if happened else 1 - probability)
