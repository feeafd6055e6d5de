"""How good a gate is, from what it let be rolled out: Horvitz-Thompson estimates over audited and passed problems.

A skipped problem has no truth, so each audited one stands for 1 / pi of its kind, where pi is the probability with
which it was rolled out. With z = 1 for a zero-variance group (which the gate was right to skip):

    TP = sum over audits of z / pi              precision = TP / sum over audits of 1 / pi
    FN = sum over passed of z                   recall    = TP / (TP + FN)
    base rate = (TP + FN) / (sum over audits of 1 / pi + number passed)
    tokens saved = sum over audits of tokens (1 - pi) / pi
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from masa.awareness.intervals import Interval, weighted_interval


@dataclass(frozen=True, slots=True)
class GateEvent:
    """One problem that was rolled out."""

    rule_skip: bool
    candidate: bool
    """Would have been skipped but for the audit."""
    zero_variance: bool
    probability: float
    tokens: int

    @property
    def tokens_saved(self) -> float:
        """Tokens not spent on problems of its kind that were skipped: tokens (1 - pi) / pi."""
        return self.tokens * (1 - self.probability) / self.probability

    @property
    def tokens_saved_variance(self) -> float:
        """Its share in the variance of that estimate: tokens^2 (1 - pi) / pi^2."""
        return self.tokens**2 * (1 - self.probability) / self.probability**2

    def as_list(self) -> list[int | float]:
        """Compact JSON-able form."""
        return [int(self.rule_skip), int(self.candidate), int(self.zero_variance), self.probability, self.tokens]

    @classmethod
    def from_list(cls, row: Sequence[int | float]) -> GateEvent:
        """The event behind `as_list`."""
        return cls(bool(row[0]), bool(row[1]), bool(row[2]), float(row[3]), int(row[4]))


@dataclass(frozen=True, slots=True)
class GateReport:
    """Quality over a window; a share whose denominator is 0 is None.

    Intervals are Wilson's, on the effective number of observations where weights differ (`weighted_interval`).
    """

    audits: int
    """n behind the precision: problems the gate would skip and that were rolled out."""
    passed: int
    precision: float | None
    precision_interval: Interval | None
    recall: float | None
    recall_interval: Interval | None
    base_rate: float | None
    """Share of zero-variance groups; a gate that skips at random has this precision."""
    base_rate_interval: Interval | None
    f1: float | None
    tokens_saved: float

    def metrics(self, prefix: str) -> dict[str, float]:
        """The defined numbers by name."""
        values: dict[str, float | None] = {
            "audits_window": self.audits,
            "passed_window": self.passed,
            "f1": self.f1,
            "tokens_saved_window": self.tokens_saved,
        }
        for name, value, interval in (
            ("precision", self.precision, self.precision_interval),
            ("recall", self.recall, self.recall_interval),
            ("base_rate", self.base_rate, self.base_rate_interval),
        ):
            values[name] = value
            values[f"{name}_low"] = interval.low if interval else None
            values[f"{name}_high"] = interval.high if interval else None
        return {prefix + name: float(value) for name, value in values.items() if value is not None}


def report(events: Iterable[GateEvent], skips: Sequence[bool], confidence: float) -> GateReport:
    """The quality of the verdicts `skips` (one an event) on the events; `confidence` of the two-sided intervals."""
    pairs = list(zip(events, skips, strict=True))
    audits = [(event.zero_variance, 1 / event.probability) for event, skip in pairs if skip]
    passed = [(event.zero_variance, 1 / event.probability) for event, skip in pairs if not skip]
    precision, precision_interval = _share(audits, confidence)
    flat = [(True, weight) for z, weight in audits if z] + [(False, weight) for z, weight in passed if z]
    recall, recall_interval = _share(flat, confidence)
    base_rate, base_rate_interval = _share(audits + passed, confidence)
    f1 = None
    if precision is not None and recall is not None:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return GateReport(
        audits=len(audits),
        passed=len(passed),
        precision=precision,
        precision_interval=precision_interval,
        recall=recall,
        recall_interval=recall_interval,
        base_rate=base_rate,
        base_rate_interval=base_rate_interval,
        f1=f1,
        tokens_saved=math.fsum(event.tokens_saved for event, skip in pairs if skip),
    )


def _share(weighted: Sequence[tuple[bool, float]], confidence: float) -> tuple[float | None, Interval | None]:
    if not weighted:
        return None, None
    hits, weights = [hit for hit, _ in weighted], [weight for _, weight in weighted]
    share = math.fsum(w for hit, w in weighted if hit) / math.fsum(weights)
    return share, weighted_interval(hits, weights, confidence)
