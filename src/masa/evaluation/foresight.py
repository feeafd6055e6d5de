"""What a model foretold of its solutions and what they were: the paper's figure 1, reliability and correlations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from masa.awareness import (
    Evidence,
    ReliabilityBin,
    SelfPredictor,
    awareness_summary,
    correlation_interval,
    reliability_table,
)
from masa.evaluation.answers import Answers

_BINS = 9
"""Of the reliability diagram: one for each eighth of the grid that pass rates are foretold on."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """Over problems, with Fisher's 95 % interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    problems: int
    """Problems that have both sides."""


@dataclass(frozen=True, slots=True)
class Line:
    """Least squares, true = intercept + slope x foretold, over the foretold range."""

    intercept: float
    slope: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Point:
    """One problem of the scatters; None where nothing valid was foretold, or no solution was right."""

    foretold_pass_rate: float | None
    pass_rate: float
    foretold_length: float | None
    """Tokens, the mean of the valid predictions."""
    length: float | None
    """Mean tokens of the correct solutions that ended by themselves."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """Predictions against rollouts: over problems, but for what is said of single predictions.

    Reliability, Brier score and calibration error are over single predictions. Figure 1 of arXiv 2510.03259 version 1
    is `points` with `pass_rate_line` and `length_line`.
    """

    points: tuple[Point, ...]
    pass_rate_line: Line | None
    length_line: Line | None
    reliability: tuple[ReliabilityBin, ...]
    valid_share: float | None
    """Predictions with all three components, over all."""
    pass_rate: float
    """Mean of the true pass rates."""
    foretold_pass_rate: float | None
    """Mean of the foretold ones."""
    brier: float | None
    brier_constant: float
    """Brier score of always saying the mean pass rate."""
    brier_perfect: float
    """Brier score of knowing each problem's pass rate, mean p (1 - p): no prediction scores better."""
    ece: float | None
    pass_rate_spearman: Correlation
    pass_rate_pearson: Correlation
    length_spearman: Correlation
    length_pearson: Correlation
    length_ratio: float | None
    """Median of foretold over mean correct length."""


def foresight(answers: Sequence[Answers]) -> Foresight:
    """Compare what was foretold of each problem with what came of it; at least one problem."""
    outcomes = [one.outcome for one in answers]
    pairs = [(one.predictions, outcome) for one, outcome in zip(answers, outcomes, strict=True)]
    summary = awareness_summary(pairs)
    points = tuple(_point(one) for one in answers)
    said = [(rate, outcome.pass_rate) for group, outcome in pairs for p in group if (rate := p.pass_rate) is not None]
    rates = [outcome.pass_rate for outcome in outcomes]
    mean = statistics.fmean(rates)
    return Foresight(
        points=points,
        pass_rate_line=fit_line([(p.foretold_pass_rate, p.pass_rate) for p in points]),
        length_line=fit_line([(p.foretold_length, p.length) for p in points]),
        reliability=tuple(reliability_table([x for x, _ in said], [y for _, y in said], _BINS)),
        valid_share=summary.valid_share,
        pass_rate=mean,
        foretold_pass_rate=statistics.fmean(x for x, _ in said) if said else None,
        brier=summary.brier,
        brier_constant=mean * (1 - mean),
        brier_perfect=statistics.fmean(p * (1 - p) for p in rates),
        ece=summary.ece,
        pass_rate_spearman=_correlation(summary.pass_rate_spearman, summary.pass_rate_problems),
        pass_rate_pearson=_correlation(summary.pass_rate_pearson, summary.pass_rate_problems),
        length_spearman=_correlation(summary.length_spearman, summary.length_problems),
        length_pearson=_correlation(summary.length_pearson, summary.length_problems),
        length_ratio=summary.length_ratio,
    )


def fit_line(pairs: Sequence[tuple[float | None, float | None]]) -> Line | None:
    """Least squares through the pairs that are whole; None where fewer than two different x are left."""
    whole = [(x, y) for x, y in pairs if x is not None and y is not None]
    xs = [x for x, _ in whole]
    if len(set(xs)) < 2:
        return None
    middle_x, middle_y = statistics.fmean(xs), statistics.fmean(y for _, y in whole)
    spread = math.fsum((x - middle_x) ** 2 for x in xs)
    slope = math.fsum((x - middle_x) * (y - middle_y) for x, y in whole) / spread
    return Line(middle_y - slope * middle_x, slope, min(xs), max(xs))


def _point(one: Answers) -> Point:
    estimate = SelfPredictor().estimate(Evidence(one.problem, one.predictions))
    lengths = one.outcome.correct_lengths
    return Point(
        foretold_pass_rate=estimate.pass_rate,
        pass_rate=one.outcome.pass_rate,
        foretold_length=estimate.length,
        length=statistics.fmean(lengths) if lengths else None,
    )


def _correlation(value: float | None, problems: int) -> Correlation:
    interval = correlation_interval(value, problems)
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Correlation(value, low, high, problems)
