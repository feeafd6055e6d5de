"""The cutoff: a token limit for each problem's solution rollouts, from the predicted length, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.awareness.audit_window import AuditWindow
from masa.awareness.cutoff_audit import CutoffEvent, CutoffReport, measure, report
from masa.awareness.predictors.base import Estimate
from masa.records import FinishReason, Outcome
from masa.seeding import Purpose, derive_uniform


@dataclass(frozen=True, slots=True)
class CutoffDecision:
    """The token limit of one problem's solution rollouts."""

    key: int
    limit: int
    """Tokens a rollout may generate, end-of-sequence included."""
    is_cutoff: bool
    """Whether `limit` is a predicted one, below the run's own."""
    predicted_limit: int | None
    """The limit the rule gives, exempt or not; None without L^."""
    exempt: bool
    """Has a predicted limit and runs without it, to measure what cutting would have done."""
    probability: float
    """The chance it had of running without its predicted limit."""


class Cutoff:
    """The paper's rule: limit = factor x L^ (arXiv 2510.03259 version 2, section 3.3), clamped to [minimum, maximum].

    L^ is the mean over valid length predictions; without it there is no cutoff. The product is rounded up. A share
    `exempt` of the problems runs without its limit, by a draw that depends on (run seed, step, problem key) alone:
    correct rollouts past a limit are censored, so only exempt problems tell what cutting destroys.

    Args:
        run_seed: the run's seed.
        factor: limit over predicted length.
        minimum: no predicted limit is below it, in tokens.
        maximum: the run's own limit on response tokens; a predicted limit that reaches it is no cutoff.
        exempt: share of problems that run without their limit.
        window: how many of the last exempt problems the reported quality rests on.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(
        self,
        run_seed: int,
        *,
        minimum: int,
        maximum: int,
        factor: float = 2.0,
        exempt: float = 0.05,
        window: int = 1024,
    ) -> None:
        if not 0 < factor < math.inf:
            raise ValueError(f"cutoff setting factor must be a positive number, got {factor}")
        if not 1 <= minimum <= maximum:
            raise ValueError(f"cutoff settings must satisfy 1 <= minimum <= maximum, got {minimum} and {maximum}")
        if not 0 <= exempt <= 1:
            raise ValueError(f"cutoff setting exempt must lie between 0 and 1, got {exempt}")
        self.run_seed = run_seed
        self.factor = factor
        self.minimum = minimum
        self.maximum = maximum
        self.exempt = exempt
        self._window = AuditWindow("cutoff", window, CutoffEvent.from_list)
        self._last: dict[str, float] = {}

    def rule(self, estimate: Estimate) -> int | None:
        """The limit for one problem in tokens; None without L^."""
        if estimate.length is None:
            return None
        # The product of two decimals may lie a hair above a whole number, which is not meant to be rounded up.
        limit = math.ceil(self.factor * estimate.length - 1e-9)
        return min(max(limit, self.minimum), self.maximum)

    def decide(
        self, step: int, keys: Sequence[int], estimates: Sequence[Estimate], *, active: bool = True
    ) -> list[CutoffDecision]:
        """One decision a problem, in order. With `active=False` (the parallel phase) every problem is exempt."""
        decisions = []
        for key, estimate in zip(keys, estimates, strict=True):
            predicted = self.rule(estimate)
            probability = 1.0 if predicted is None or not active else self.exempt
            exempt = predicted is not None and derive_uniform(self.run_seed, Purpose.EXEMPT, step, key) < probability
            limit = self.maximum if predicted is None or exempt else predicted
            decisions.append(CutoffDecision(key, limit, limit < self.maximum, predicted, exempt, probability))
        return decisions

    def observe(self, decisions: Sequence[CutoffDecision], outcomes: Sequence[Outcome | None]) -> None:
        """What became of a step's decisions; the outcome of a problem that was not rolled out is None.

        An exempt rollout counts as one that would have been cut if it is longer than the predicted limit. Whether it
        is right is its grade: the truth is the full rollout.
        """
        rollouts = cut = limited = problems = 0
        for decision, outcome in zip(decisions, outcomes, strict=True):
            if outcome is None:
                continue
            problems += 1
            limited += decision.is_cutoff
            rollouts += len(outcome.lengths)
            cut += sum(reason is FinishReason.CUTOFF for reason in outcome.finish_reasons)
            if decision.exempt and decision.predicted_limit is not None:
                event = measure(outcome, decision.predicted_limit, decision.probability)
                self._window.add(event)
        self._last = {}
        if problems:
            self._last = {"cutoff/limited_share": limited / problems, "cutoff/share": cut / rollouts}

    def report(self, confidence: float = 0.9) -> CutoffReport:
        """The cutoff's quality over the window, on exempt problems."""
        return report(self._window.events, confidence)

    @property
    def tokens_saved(self) -> float:
        """Estimated solution tokens saved over the whole run: sum over exempt of tokens beyond x (1 - a) / a."""
        return self._window.tokens_saved

    @property
    def tokens_saved_error(self) -> float:
        """Standard error of `tokens_saved`: root of the sum over exempt of tokens beyond^2 (1 - a) / a^2."""
        return self._window.tokens_saved_error

    def metrics(self) -> dict[str, float]:
        """Shares of the last step, quality over the window, tokens saved over the run; undefined ones are left out."""
        values = {**self._last, **self.report().metrics("cutoff/")}
        return values | self._window.metrics()

    def state_dict(self) -> dict[str, Any]:
        """The window and the totals, JSON-able."""
        return {"last": dict(self._last), **self._window.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._last = {str(name): float(value) for name, value in state["last"].items()}
        self._window.load_state_dict(state)
