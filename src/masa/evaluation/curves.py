"""Curves of held-out accuracy by what was spent, and estimates over seeds. Undefined is None, never NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from masa.awareness.intervals import student_t_interval

_GRID_POINTS = 120


@dataclass(frozen=True, slots=True)
class Curve:
    """One run's accuracy by what it had spent.

    Args:
        x: spent so far at each evaluation, tokens or seconds; never falls.
        y: accuracy, 0 to 1.

    Raises:
        ValueError: for no points, unequal lengths or an x that falls.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.x or len(self.x) != len(self.y):
            raise ValueError(f"a curve needs as many x as y, at least one: {len(self.x)} and {len(self.y)}")
        if any(later < earlier for earlier, later in zip(self.x, self.x[1:], strict=False)):
            raise ValueError("what a run has spent cannot fall")

    @property
    def end(self) -> float:
        """What the run had spent at its last evaluation."""
        return self.x[-1]

    def at(self, spent: float) -> float | None:
        """Accuracy at `spent`, between evaluations by linear interpolation; None beyond the ends."""
        if not self.x[0] <= spent <= self.x[-1]:
            return None
        return float(np.interp(spent, self.x, self.y))

    def smoothed(self, window: int) -> Curve:
        """Each accuracy replaced by the mean of `window` neighbours, centred; fewer at the ends.

        A centred mean does not lag, so it makes no arm's threshold later than it is.
        """
        half = window // 2
        parts = (self.y[max(0, i - half) : i + half + 1] for i in range(len(self.y)))
        return Curve(self.x, tuple(math.fsum(part) / len(part) for part in parts))

    def first_reach(self, threshold: float) -> float | None:
        """What was spent when the accuracy first came to `threshold`, by linear interpolation; None if it never did."""
        if self.y[0] >= threshold:
            return self.x[0]
        for i in range(1, len(self.y)):
            low, high = self.y[i - 1], self.y[i]
            if high >= threshold:
                return self.x[i - 1] + (threshold - low) / (high - low) * (self.x[i] - self.x[i - 1])
        return None

    def mean_of_last(self, count: int) -> float:
        """Mean accuracy of the last `count` evaluations."""
        return math.fsum(self.y[-count:]) / len(self.y[-count:])


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over runs with its 95 % interval; no interval for fewer than two runs."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def plain(self) -> dict[str, Any]:
        """As JSON's types."""
        return asdict(self)


def estimate(values: Iterable[float | None]) -> Estimate | None:
    """Mean and Student's t interval over the runs that have a value; None if none has."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    interval = student_t_interval(found)
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Estimate(math.fsum(found) / len(found), low, high, len(found))


def ratio_estimate(pairs: Iterable[tuple[float | None, float | None]]) -> Estimate | None:
    """Geometric mean of `numerator / denominator` over pairs, Student's t interval of the logarithm.

    Pairs with a missing or a zero side have no ratio and are left out; None if no pair is left.
    """
    logs = [math.log(above / below) for above, below in pairs if above and below]
    found = estimate(logs)
    if found is None:
        return None
    low, high = (None if end is None else _finite_exp(end) for end in (found.low, found.high))
    return Estimate(math.exp(found.mean), low, high, found.n)


def mean_curve(curves: Sequence[Curve]) -> dict[str, list[Any]] | None:
    """Mean and Student's t band over runs, where every run has both ends: `x`, `mean`, `low`, `high`.

    None without curves, or where they have no stretch in common. `low` and `high` hold None for a single run.
    """
    if not curves:
        return None
    first, last = max(curve.x[0] for curve in curves), min(curve.end for curve in curves)
    if first > last:
        return None
    places = sorted({first, last, *(x for curve in curves for x in curve.x if first <= x <= last)})
    if len(places) > _GRID_POINTS:
        places = [float(x) for x in np.linspace(first, last, _GRID_POINTS)]
    points = [estimate(curve.at(x) for curve in curves) for x in places]
    kept = [(x, point) for x, point in zip(places, points, strict=True) if point is not None]
    return {
        "x": [x for x, _ in kept],
        "mean": [point.mean for _, point in kept],
        "low": [point.low for _, point in kept],
        "high": [point.high for _, point in kept],
    }


def threshold_of(curves: Sequence[Curve]) -> tuple[float, int]:
    """The final accuracy that others are held against: mean over runs of the mean of each run's last evaluations.

    The last three evaluations count, but never more than half of a run's. Gives the accuracy and how many counted.

    Raises:
        ValueError: without curves.
    """
    if not curves:
        raise ValueError("no curves")
    count = max(1, min(3, min(len(curve.y) for curve in curves) // 2))
    return math.fsum(curve.mean_of_last(count) for curve in curves) / len(curves), count


def _finite_exp(value: float) -> float | None:
    return math.exp(value) if value < 700 else None
