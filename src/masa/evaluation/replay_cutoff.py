"""What a token limit would have done to rollouts that are in a log.

The limit follows from a running median of the lengths of correct rollouts, of the problem's own or of all. As in a run,
it rests on problems that had no limit: those without an earlier length to go by, and the share that is exempt. A
correct rollout past its limit would have been cut and not been seen, and a median over the rest would shrink round by
round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from masa.awareness.cutoff import Cutoff, CutoffDecision
from masa.awareness.predictors.base import Estimate
from masa.evaluation.log_summary import Share, share_by_problem
from masa.evaluation.logged_rollouts import LoggedRollouts
from masa.records import Outcome

Basis = Literal["problem", "all"]
FACTORS = (1.5, 2.0, 3.0)
QUANTILE = 0.98
_WINDOW = 4096
"""Lengths that the median of all problems rests on, the last ones."""
_LEAST = 50
"""Lengths without which it says nothing."""


@dataclass(frozen=True, slots=True)
class CutoffReplay:
    """A limit on a log."""

    basis: Basis
    """Whose median: the problem's own, or that of all problems."""
    factor: float | None
    """Limit over median; None: the 0.98 quantile of length over median, over earlier correct rollouts."""
    limited: int
    """Groups that had a limit."""
    false_cut: Share
    """Rollouts past the limit among the correct ones of these groups."""
    wrong_cut: Share
    """Rollouts past the limit among the incorrect ones of these groups."""
    tokens_saved: int
    """Tokens past the limit, of groups not exempt."""
    tokens_saved_share: float
    """Of all tokens of the log."""


def replay_cutoffs(
    log: LoggedRollouts, *, run_seed: int = 0, exempt: float = 0.05, factors: Sequence[float] = FACTORS
) -> list[CutoffReplay]:
    """Each factor and the quantile, by the problems' own medians and by that of all.

    Args:
        log: the rollouts.
        run_seed: names the draws of exempt groups.
        exempt: share of groups that run without their limit.
        factors: limits over the median.
    """
    found = []
    bases: tuple[Basis, ...] = ("problem", "all")
    for basis in bases:
        # Which groups have no limit, and so what the medians rest on, is the same for every factor.
        decisions = _decisions(log, basis, _cutoff(log, run_seed, rule="paper", factor=1.0, exempt=exempt))
        is_exempt = np.array([decision.exempt for decision in decisions])
        for factor in factors:
            cutoff = _cutoff(log, run_seed, rule="paper", factor=factor, exempt=exempt)
            lengths = {decision.length for decision in decisions}
            limit_of = {length: cutoff.limit(Estimate(length=length)) for length in lengths}
            limits = [limit_of[decision.length] for decision in decisions]
            found.append(_judge(log, basis, factor, limits, is_exempt))
        cutoff = _cutoff(log, run_seed, rule="quantile", quantile=QUANTILE, exempt=exempt)
        decisions = _decisions(log, basis, cutoff)
        limits = [decision.predicted_limit for decision in decisions]
        found.append(_judge(log, basis, None, limits, np.array([decision.exempt for decision in decisions])))
    return found


class _Median:
    """Of the last lengths of correct rollouts of all problems, None while there are too few."""

    def __init__(self) -> None:
        self._ring = np.empty(_WINDOW)
        self._count = 0
        self._known: float | None = None

    def add(self, lengths: Sequence[int]) -> None:
        for length in lengths:
            self._ring[self._count % _WINDOW] = length
            self._count += 1
        self._known = None

    def value(self) -> float | None:
        if self._known is None and self._count >= _LEAST:
            self._known = float(np.median(self._ring[: self._count]))
        return self._known


@dataclass(slots=True)
class _Seen:
    """Lengths of correct rollouts of groups without a limit."""

    basis: Basis
    of_all: _Median = field(default_factory=_Median)
    of_problem: dict[int, list[int]] = field(default_factory=dict)

    def estimates(self, keys: Sequence[int]) -> list[Estimate]:
        """What length is expected of each problem."""
        if self.basis == "all":
            return [Estimate(length=self.of_all.value() or None)] * len(keys)
        own = [median(self.of_problem[key]) if key in self.of_problem else None for key in keys]
        return [Estimate(length=length or None) for length in own]

    def add(self, key: int, lengths: Sequence[int]) -> None:
        """Take in a group's correct rollouts."""
        if self.basis == "all":
            self.of_all.add(lengths)
        elif lengths:
            self.of_problem.setdefault(key, []).extend(lengths)


def _decisions(log: LoggedRollouts, basis: Basis, cutoff: Cutoff) -> list[CutoffDecision]:
    """What a cutoff decides for each group, step by step; groups with a limit are withheld from it and the medians."""
    seen = _Seen(basis)
    keys, starts = log.problems.tolist(), log.starts.tolist()
    correct, lengths = log.correct.tolist(), log.lengths.tolist()
    found = []
    for step, groups in log.by_step():
        step_keys = [keys[group] for group in groups]
        decisions = cutoff.decide(step, step_keys, seen.estimates(step_keys))
        outcomes: list[Outcome | None] = []
        for group, decision in zip(groups, decisions, strict=True):
            outcome = None
            if decision.exempt or decision.length is None:
                first, end = starts[group], starts[group + 1]
                outcome = Outcome(("",) * (end - first), tuple(lengths[first:end]), tuple(correct[first:end]))
                seen.add(decision.key, outcome.correct_lengths)
            outcomes.append(outcome)
        cutoff.observe(decisions, outcomes)
        found += decisions
    return found


def _cutoff(log: LoggedRollouts, run_seed: int, **settings: Any) -> Cutoff:
    return Cutoff(run_seed, minimum=1, maximum=max(int(log.lengths.max()), 1), **settings)


def _judge(
    log: LoggedRollouts,
    basis: Basis,
    factor: float | None,
    rule_limits: Sequence[int | None],
    is_exempt: NDArray[np.bool_],
) -> CutoffReplay:
    starts, right = log.starts[:-1], log.right
    limits = np.array([np.inf if limit is None else limit for limit in rule_limits])
    limit = np.repeat(limits, log.sizes)
    over = log.lengths > limit
    right_cut = np.add.reduceat(over & log.correct, starts, dtype=np.int64)
    wrong_cut = np.add.reduceat(over & ~log.correct, starts, dtype=np.int64)
    beyond = np.add.reduceat(np.where(over, log.lengths - limit, 0.0), starts)
    is_limited = np.isfinite(limits)
    saved = int(beyond[~is_exempt].sum())
    return CutoffReplay(
        basis=basis,
        factor=factor,
        limited=int(is_limited.sum()),
        false_cut=share_by_problem(log, right_cut, np.where(is_limited, right, 0)),
        wrong_cut=share_by_problem(log, wrong_cut, np.where(is_limited, log.sizes - right, 0)),
        tokens_saved=saved,
        tokens_saved_share=saved / max(int(log.lengths.sum()), 1),
    )
