"""How good a cutoff is, from the problems that ran without it.

A cut rollout has no truth: had it gone on, it might have come right. So a share a of the problems is exempt, and on
these alone the cutoff is judged, each standing for 1 / a of its kind. A rollout *would be cut* if it is longer than
the limit that its problem would have had. A correct rollout is *falsely cut* if it would be cut before it has stated
its answer: one that had, and then went on, would still be graded correct, and cutting it is no harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from masa.awareness.intervals import Interval, clustered_interval
from masa.records import Outcome


@dataclass(frozen=True, slots=True)
class CutoffEvent:
    """One exempt problem: its rollouts, and those that would have been cut."""

    correct: int
    correct_cut: int
    """Correct rollouts longer than the limit."""
    false_cut: int
    """Those of them that would not be graded correct at the limit."""
    incorrect: int
    incorrect_cut: int
    tokens_beyond: int
    """Tokens its rollouts generated after the limit they would have had."""
    probability: float

    @property
    def tokens_saved(self) -> float:
        """Tokens not spent on problems of its kind that had the limit: tokens beyond x (1 - a) / a."""
        return self.tokens_beyond * (1 - self.probability) / self.probability

    @property
    def tokens_saved_variance(self) -> float:
        """Its share in the variance of that estimate: tokens^2 (1 - a) / a^2."""
        return self.tokens_beyond**2 * (1 - self.probability) / self.probability**2

    def as_list(self) -> list[int | float]:
        """Compact JSON-able form."""
        cut = [self.correct, self.correct_cut, self.false_cut, self.incorrect, self.incorrect_cut]
        return [*cut, self.tokens_beyond, self.probability]

    @classmethod
    def from_list(cls, row: Sequence[int | float]) -> CutoffEvent:
        """The event behind `as_list`."""
        correct, correct_cut, false_cut, incorrect, incorrect_cut, beyond = (int(count) for count in row[:6])
        return cls(correct, correct_cut, false_cut, incorrect, incorrect_cut, beyond, float(row[6]))


@dataclass(frozen=True, slots=True)
class CutoffReport:
    """Quality over a window of exempt problems; a share whose denominator is 0 is None.

    Counts and shares are over rollouts, each weighed by 1 / its problem's probability of being exempt. The intervals
    allow for the likeness of a problem's rollouts (`clustered_interval`).
    """

    problems: int
    correct: int
    """n behind the false-cut rate: correct rollouts of exempt problems."""
    false_cut_rate: float | None
    """Correct rollouts whose answer comes after the limit they would have had, over correct rollouts."""
    false_cut_interval: Interval | None
    would_cut: int
    """n behind the precision."""
    precision: float | None
    """Those that lose nothing by it (incorrect, or their answer stated before the limit) among the would-be-cut."""
    precision_interval: Interval | None
    incorrect: int
    """n behind the recall."""
    recall: float | None
    """Those that would have been cut among the incorrect rollouts."""
    recall_interval: Interval | None
    base_rate: float | None
    """Share of incorrect rollouts: the precision of cutting at random, before any answer is stated."""
    f1: float | None
    tokens_saved: float

    def metrics(self, prefix: str) -> dict[str, float]:
        """The defined numbers by name."""
        values: dict[str, float | None] = {
            "exempt_window": self.problems,
            "exempt_correct_window": self.correct,
            "base_rate": self.base_rate,
            "f1": self.f1,
            "tokens_saved_window": self.tokens_saved,
        }
        for name, value, interval in (
            ("false_cut_rate", self.false_cut_rate, self.false_cut_interval),
            ("precision", self.precision, self.precision_interval),
            ("recall", self.recall, self.recall_interval),
        ):
            values[name] = value
            values[f"{name}_low"] = interval.low if interval else None
            values[f"{name}_high"] = interval.high if interval else None
        return {prefix + name: float(value) for name, value in values.items() if value is not None}


def measure(
    outcome: Outcome, limit: int, probability: float, correct_at_limit: Sequence[bool] | None = None
) -> CutoffEvent:
    """What a limit of so many tokens would have done to a solution group that ran without it.

    Args:
        outcome: the group, run in full.
        limit: tokens a rollout would have been allowed.
        probability: the chance the problem had of running without the limit.
        correct_at_limit: whether each rollout, truncated at the limit, would be graded correct; None: no cut one would.

    Raises:
        ValueError: if flags and rollouts differ in number.
    """
    stated = (False,) * len(outcome.lengths) if correct_at_limit is None else correct_at_limit
    if len(stated) != len(outcome.lengths):
        raise ValueError(f"{len(stated)} grades at the limit for {len(outcome.lengths)} rollouts")
    over = [length > limit for length in outcome.lengths]
    correct_cut = [cut and correct for cut, correct in zip(over, outcome.correct, strict=True)]
    correct = sum(outcome.correct)
    return CutoffEvent(
        correct=correct,
        correct_cut=sum(correct_cut),
        false_cut=sum(cut and not early for cut, early in zip(correct_cut, stated, strict=True)),
        incorrect=len(over) - correct,
        incorrect_cut=sum(over) - sum(correct_cut),
        tokens_beyond=sum(max(length - limit, 0) for length in outcome.lengths),
        probability=probability,
    )


def report(events: Iterable[CutoffEvent], confidence: float) -> CutoffReport:
    """The quality over a window of exempt problems; `confidence` of the two-sided intervals."""
    events = list(events)

    def share(part: Callable[[CutoffEvent], int], whole: Callable[[CutoffEvent], int]) -> _Share:
        return _pooled(
            [part(e) for e in events], [whole(e) for e in events], [1 / e.probability for e in events], confidence
        )

    false_cut, false_cut_interval = share(lambda e: e.false_cut, lambda e: e.correct)
    precision, precision_interval = share(
        lambda e: e.correct_cut + e.incorrect_cut - e.false_cut, lambda e: e.correct_cut + e.incorrect_cut
    )
    recall, recall_interval = share(lambda e: e.incorrect_cut, lambda e: e.incorrect)
    base_rate, _ = share(lambda e: e.incorrect, lambda e: e.correct + e.incorrect)
    f1 = None
    if precision is not None and recall is not None:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return CutoffReport(
        problems=len(events),
        correct=sum(e.correct for e in events),
        false_cut_rate=false_cut,
        false_cut_interval=false_cut_interval,
        would_cut=sum(e.correct_cut + e.incorrect_cut for e in events),
        precision=precision,
        precision_interval=precision_interval,
        incorrect=sum(e.incorrect for e in events),
        recall=recall,
        recall_interval=recall_interval,
        base_rate=base_rate,
        f1=f1,
        tokens_saved=math.fsum(e.tokens_saved for e in events),
    )


_Share = tuple[float | None, Interval | None]


def _pooled(parts: Sequence[int], wholes: Sequence[int], weights: Sequence[float], confidence: float) -> _Share:
    total = math.fsum(w * n for w, n in zip(weights, wholes, strict=True))
    if total == 0:
        return None, None
    share = math.fsum(w * x for w, x in zip(weights, parts, strict=True)) / total
    return share, clustered_interval(parts, wholes, weights, confidence)
