"""What a log of rollouts says before any gate is asked: how many groups taught nothing, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masa.awareness.intervals import clustered_interval
from masa.evaluation.logged_rollouts import LoggedRollouts


@dataclass(frozen=True, slots=True)
class Share:
    """A share of counted things and its 95 % interval; None where there is nothing to count."""

    share: float | None
    low: float | None
    high: float | None
    of: int
    """How many were counted."""


@dataclass(frozen=True, slots=True)
class Period:
    """Groups of some consecutive steps."""

    first_step: int
    last_step: int
    groups: int
    zero_variance: Share
    right: float
    """Share of groups whose rollouts are all right (and have equal rewards)."""
    wrong: float
    """Share of groups whose rollouts are all wrong (and have equal rewards)."""
    tokens: int
    zero_variance_tokens: int
    """Tokens in zero-variance groups: all that a perfect gate could save."""
    wrong_tokens: int
    """Tokens in incorrect rollouts."""
    pass_rate: float
    """Share of correct rollouts."""


@dataclass(frozen=True, slots=True)
class LogSummary:
    """A log in figures."""

    rollouts: int
    groups: int
    steps: int
    problems: int
    smallest_group: int
    commonest_group: int
    largest_group: int
    visits: float
    """Groups per problem, the mean: what trainers call epochs."""
    most_visits: int
    returning: float
    """Share of groups whose problem was rolled out in an earlier step: all that a gate by history can know about."""
    unequal_rewards: int
    """Groups all right or all wrong whose rewards differ all the same: they count as live."""
    singles: int
    meta_rollouts: int
    gated: int
    cut: int
    whole: Period
    thirds: tuple[Period, ...]
    """Of the steps; as many as there are steps, if they are fewer than three."""


def summarise(log: LoggedRollouts) -> LogSummary:
    """The figures of a log; its groups need not be equally large."""
    sizes, right = log.sizes, log.right
    visits = np.bincount(log.problems)
    visits = visits[visits > 0]
    steps, order = np.unique(log.steps, return_inverse=True)
    parts = min(3, len(steps))
    of_part = order * parts // len(steps)
    is_one_sided = (right == 0) | (right == sizes)
    return LogSummary(
        rollouts=len(log.correct),
        groups=len(log.steps),
        steps=len(steps),
        problems=len(visits),
        smallest_group=int(sizes.min()),
        commonest_group=commonest_size(log),
        largest_group=int(sizes.max()),
        visits=float(visits.mean()),
        most_visits=int(visits.max()),
        returning=1 - len(visits) / len(log.steps),
        unequal_rewards=int((is_one_sided & ~log.zero_variance).sum()),
        singles=log.singles,
        meta_rollouts=log.meta_rollouts,
        gated=log.gated,
        cut=log.cut,
        whole=_period(log, np.ones(len(log.steps), dtype=bool)),
        thirds=tuple(_period(log, of_part == part) for part in range(parts)),
    )


def commonest_size(log: LoggedRollouts) -> int:
    """Rollouts in most groups; of several such sizes the smallest."""
    return int(np.bincount(log.sizes).argmax())


def share_by_problem(
    log: LoggedRollouts, hits: NDArray[np.int64] | NDArray[np.bool_], counts: NDArray[np.int64] | NDArray[np.bool_]
) -> Share:
    """Share of `hits` in `counts`, one entry a group each.

    The interval is Wilson's on the effective number of observations, since groups of one problem are alike: it is the
    plain one where every problem is counted once.
    """
    total = int(counts.sum())
    if not total:
        return Share(None, None, None, 0)
    by_problem = [np.bincount(log.problems, weights=part.astype(np.float64)).tolist() for part in (hits, counts)]
    interval = clustered_interval(by_problem[0], by_problem[1], [1.0] * len(by_problem[0]))
    assert interval is not None
    return Share(int(hits.sum()) / total, interval.low, interval.high, total)


def harmonic(first: float | None, second: float | None) -> float | None:
    """F1 of precision and recall; None where one of them is, 0 where both are 0."""
    if first is None or second is None:
        return None
    return 2 * first * second / (first + second) if first + second else 0.0


def _period(log: LoggedRollouts, chosen: NDArray[np.bool_]) -> Period:
    sizes, right, tokens = log.sizes, log.right, log.tokens
    flat = log.zero_variance & chosen
    steps = log.steps[chosen]
    groups = int(chosen.sum())
    in_wrong = np.add.reduceat(np.where(log.correct, 0, log.lengths), log.starts[:-1])
    return Period(
        first_step=int(steps[0]),
        last_step=int(steps[-1]),
        groups=groups,
        zero_variance=share_by_problem(log, flat, chosen),
        right=_sum(flat & (right == sizes)) / groups,
        wrong=_sum(flat & (right == 0)) / groups,
        tokens=_sum(tokens[chosen]),
        zero_variance_tokens=_sum(tokens[flat]),
        wrong_tokens=_sum(in_wrong[chosen]),
        pass_rate=_sum(right[chosen]) / _sum(sizes[chosen]),
    )


def _sum(values: NDArray[np.int64] | NDArray[np.bool_] | Sequence[int]) -> int:
    return int(np.sum(values))
