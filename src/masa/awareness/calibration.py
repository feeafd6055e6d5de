"""How well predictions agree with the truth. An undefined number is None, never NaN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median

from masa.awareness.intervals import Interval, correlation_interval
from masa.records import Outcome, Prediction


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predictions that fell into one bin."""

    low: float
    high: float
    count: int
    mean_predicted: float
    mean_true: float


def pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Linear correlation; None for fewer than two pairs or when one side is constant."""
    if len(x) != len(y):
        raise ValueError(f"a correlation needs pairs, got {len(x)} and {len(y)} values")
    if len(x) < 2 or min(x) == max(x) or min(y) == max(y):
        return None
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    dx, dy = [v - mean_x for v in x], [v - mean_y for v in y]
    # Scaled first, so that tiny or huge values neither vanish nor overflow when squared.
    scale_x, scale_y = max(map(abs, dx)), max(map(abs, dy))
    dx, dy = [v / scale_x for v in dx], [v / scale_y for v in dy]
    spread = math.sqrt(math.fsum(v * v for v in dx) * math.fsum(v * v for v in dy))
    return max(-1.0, min(1.0, math.fsum(a * b for a, b in zip(dx, dy, strict=True)) / spread))


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    result = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for index in order[start:end]:
            result[index] = (start + 1 + end) / 2
        start = end
    return result


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Rank correlation: Pearson's over mean ranks; None for fewer than two pairs or when one side is constant."""
    return pearson(ranks(x), ranks(y))


def brier(predicted: Sequence[float], pass_rates: Sequence[float]) -> float | None:
    """Brier score of p^ against single rollouts: the mean of (p^ - p)^2 + p (1 - p).

    That is the mean over a problem's rollouts of (p^ - c)^2 with c = 1 for a correct one. A perfect forecaster scores
    the mean of p (1 - p), always saying 1/2 scores 1/4. None without predictions.
    """
    if not predicted:
        return None
    return math.fsum((q - p) ** 2 + p * (1 - p) for q, p in zip(predicted, pass_rates, strict=True)) / len(predicted)


def reliability_table(predicted: Sequence[float], true: Sequence[float], bins: int = 10) -> list[ReliabilityBin]:
    """Mean prediction and mean truth in bins of equal width over [0, 1]; empty bins are left out.

    A value on an edge belongs to the bin above it, 1 to the last bin.
    """
    members: dict[int, list[tuple[float, float]]] = {}
    for q, p in zip(predicted, true, strict=True):
        if not 0 <= q <= 1:
            raise ValueError(f"a predicted pass rate must lie between 0 and 1, got {q}")
        members.setdefault(min(int(q * bins), bins - 1), []).append((q, p))
    return [
        ReliabilityBin(
            low=index / bins,
            high=(index + 1) / bins,
            count=len(rows),
            mean_predicted=math.fsum(q for q, _ in rows) / len(rows),
            mean_true=math.fsum(p for _, p in rows) / len(rows),
        )
        for index, rows in sorted(members.items())
    ]


def expected_calibration_error(predicted: Sequence[float], true: Sequence[float], bins: int = 10) -> float | None:
    """Mean over predictions of |mean prediction - mean truth| of their bin; None without predictions."""
    table = reliability_table(predicted, true, bins)
    if not table:
        return None
    return math.fsum(row.count * abs(row.mean_predicted - row.mean_true) for row in table) / len(predicted)


@dataclass(frozen=True, slots=True)
class Classification:
    """Counts of a yes/no decision against the truth."""

    true_positives: float
    false_positives: float
    false_negatives: float
    true_negatives: float

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP)."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN)."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    @property
    def base_rate(self) -> float | None:
        """(TP + FN) / all: the precision of deciding at random."""
        positives = self.true_positives + self.false_negatives
        return _ratio(positives, positives + self.false_positives + self.true_negatives)


def classify(decided: Sequence[bool], true: Sequence[bool]) -> Classification:
    """Count decisions against the truth."""
    pairs = list(zip(map(bool, decided), map(bool, true), strict=True))
    return Classification(
        true_positives=pairs.count((True, True)),
        false_positives=pairs.count((True, False)),
        false_negatives=pairs.count((False, True)),
        true_negatives=pairs.count((False, False)),
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


@dataclass(frozen=True, slots=True)
class AwarenessSummary:
    """How well a policy foretells itself; what is undefined is None.

    Correlations are over problems, with the mean of a problem's valid predictions: several predictions of one problem
    share its truth and are no independent evidence. The rest is over single predictions.
    """

    problems: int
    predictions: int
    valid_share: float | None
    """Predictions with all three components, over all."""
    pass_rate_problems: int
    """n of the pass rate's correlations: problems with a valid pass-rate prediction."""
    pass_rate_spearman: float | None
    pass_rate_pearson: float | None
    brier: float | None
    ece: float | None
    """Expected calibration error in 9 equal bins, one for each eighth of the grid."""
    length_problems: int
    """n of the length's correlations: problems with a valid length prediction and a correct length."""
    length_spearman: float | None
    """Between L^ and the mean correct length."""
    length_pearson: float | None
    length_ratio: float | None
    """Median of L^ over the mean correct length."""

    @property
    def pass_rate_spearman_interval(self) -> Interval | None:
        """95 % interval (Fisher)."""
        return correlation_interval(self.pass_rate_spearman, self.pass_rate_problems)

    @property
    def length_spearman_interval(self) -> Interval | None:
        """95 % interval (Fisher)."""
        return correlation_interval(self.length_spearman, self.length_problems)

    def metrics(self, prefix: str = "awareness/") -> dict[str, float]:
        """The defined numbers by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {prefix + name: float(value) for name, value in values.items() if value is not None}


def awareness_summary(pairs: Sequence[tuple[Prediction | Sequence[Prediction], Outcome]]) -> AwarenessSummary:
    """Summarise predictions against outcomes; one pair a problem, with its prediction or its meta group."""
    groups = [((said,) if isinstance(said, Prediction) else tuple(said), outcome) for said, outcome in pairs]
    predicted: list[float] = []
    true: list[float] = []
    ratios: list[float] = []
    rate_means: list[tuple[float, float]] = []
    length_means: list[tuple[float, float]] = []
    for predictions, outcome in groups:
        rates = [p.pass_rate for p in predictions if p.pass_rate is not None]
        lengths = [p.length for p in predictions if p.length is not None]
        if rates:
            predicted += rates
            true += [outcome.pass_rate] * len(rates)
            rate_means.append((math.fsum(rates) / len(rates), outcome.pass_rate))
        if lengths and outcome.correct_lengths:
            correct_mean = sum(outcome.correct_lengths) / len(outcome.correct_lengths)
            ratios += [length / correct_mean for length in lengths]
            length_means.append((sum(lengths) / len(lengths), correct_mean))
    everything = [p for predictions, _ in groups for p in predictions]
    rate_x, rate_y = [x for x, _ in rate_means], [y for _, y in rate_means]
    length_x, length_y = [x for x, _ in length_means], [y for _, y in length_means]
    return AwarenessSummary(
        problems=len(groups),
        predictions=len(everything),
        valid_share=_ratio(sum(p.is_valid for p in everything), len(everything)),
        pass_rate_problems=len(rate_means),
        pass_rate_spearman=spearman(rate_x, rate_y),
        pass_rate_pearson=pearson(rate_x, rate_y),
        brier=brier(predicted, true),
        ece=expected_calibration_error(predicted, true, bins=9),
        length_problems=len(length_means),
        length_spearman=spearman(length_x, length_y),
        length_pearson=pearson(length_x, length_y),
        length_ratio=median(ratios) if ratios else None,
    )
