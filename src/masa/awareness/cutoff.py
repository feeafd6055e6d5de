"""The cutoff: a token limit for each problem's solution rollouts, from the predicted length, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from masa.awareness.audit_window import AuditWindow
from masa.awareness.cutoff_audit import CutoffEvent, CutoffReport, measure, report
from masa.awareness.length_calibration import LengthCalibration
from masa.awareness.predictors.base import Estimate
from masa.records import FinishReason, Outcome
from masa.seeding import Purpose, derive_uniform

CutoffRule: TypeAlias = Literal["paper", "median", "quantile"]


@dataclass(frozen=True, slots=True)
class CutoffDecision:
    """The token limit of one problem's solution rollouts."""

    key: int
    limit: int
    """Tokens a rollout may generate, end-of-sequence included."""
    is_cutoff: bool
    """Whether `limit` is a predicted one, below the run's own."""
    predicted_limit: int | None
    """The limit the rule gives, exempt or not; None without L^, or while the rule has too little to go by."""
    exempt: bool
    """Has L^ and runs without a predicted limit, to measure what cutting would have done and how L compares with L^."""
    probability: float
    """The chance it had of running without its predicted limit."""
    length: float | None = None
    """L^ in tokens."""


class Cutoff:
    """A limit in proportion to the predicted length, with a share of problems exempt from it to see what it destroys.

    Rules, each rounded up and clamped to [minimum, maximum]:

    - `paper`: factor x L^ (arXiv 2510.03259 version 2, section 3.3).
    - `median`: factor x c x L^, c being the median of L / L^; 1 before there are 50 of these ratios.
    - `quantile`: the quantile of L / L^, times L^, without a factor; no cutoff before there are 50 ratios.

    L^ is the mean over valid length predictions; without it there is no cutoff. Ratios are those of the last 1,024
    correct rollouts that ended by themselves on exempt problems (see `masa.awareness.length_calibration`). A share
    `exempt` of the problems runs without its limit, by a draw that depends on (run seed, step, problem key) alone:
    correct rollouts past a limit are censored, so only exempt problems tell what cutting destroys.

    Args:
        run_seed: the run's seed.
        rule: `paper`, `median` or `quantile`.
        factor: limit over predicted (and corrected) length; not used by `quantile`.
        quantile: share of correct rollouts that `quantile` means to keep.
        minimum: no predicted limit is below it, in tokens.
        maximum: the run's own limit on response tokens; a predicted limit that reaches it is no cutoff.
        exempt: share of problems that run without their limit.
        window: how many of the last exempt problems the reported quality rests on.
        calibration: holds the ratios L / L^; the default keeps the last 1,024 and asks for 50.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(
        self,
        run_seed: int,
        *,
        minimum: int,
        maximum: int,
        rule: CutoffRule = "paper",
        factor: float = 2.0,
        quantile: float = 0.98,
        exempt: float = 0.05,
        window: int = 1024,
        calibration: LengthCalibration | None = None,
    ) -> None:
        if rule not in get_args(CutoffRule):
            raise ValueError(f"cutoff setting rule must be one of {', '.join(get_args(CutoffRule))}, got {rule!r}")
        if not 0 < quantile < 1:
            raise ValueError(f"cutoff setting quantile must lie strictly between 0 and 1, got {quantile}")
        if not 0 < factor < math.inf:
            raise ValueError(f"cutoff setting factor must be a positive number, got {factor}")
        if not 1 <= minimum <= maximum:
            raise ValueError(f"cutoff settings must satisfy 1 <= minimum <= maximum, got {minimum} and {maximum}")
        if not 0 <= exempt <= 1:
            raise ValueError(f"cutoff setting exempt must lie between 0 and 1, got {exempt}")
        self.run_seed = run_seed
        self.rule = rule
        self.factor = factor
        self.quantile = quantile
        self.minimum = minimum
        self.maximum = maximum
        self.exempt = exempt
        self._calibration = calibration or LengthCalibration()
        self._window = AuditWindow("cutoff", window, CutoffEvent.from_list)
        self._last: dict[str, float] = {}

    @property
    def ratio(self) -> float | None:
        """What L^ is multiplied by before any factor: 1, the median or the quantile; None: no cutoff yet."""
        if self.rule == "paper":
            return 1.0
        if self.rule == "quantile":
            return self._calibration.quantile(self.quantile)
        median = self._calibration.median()
        return 1.0 if median is None else median

    def limit(self, estimate: Estimate) -> int | None:
        """The limit for one problem in tokens; None without L^, or while the rule has too little to go by."""
        return self._limit(estimate.length, self.ratio)

    def decide(
        self, step: int, keys: Sequence[int], estimates: Sequence[Estimate], *, active: bool = True
    ) -> list[CutoffDecision]:
        """One decision a problem, in order. With `active=False` (the parallel phase) every problem is exempt."""
        decisions = []
        ratio = self.ratio
        for key, estimate in zip(keys, estimates, strict=True):
            length = estimate.length
            predicted = self._limit(length, ratio)
            probability = 1.0 if predicted is None or not active else self.exempt
            exempt = length is not None and derive_uniform(self.run_seed, Purpose.EXEMPT, step, key) < probability
            limit = self.maximum if predicted is None or exempt else predicted
            decisions.append(CutoffDecision(key, limit, limit < self.maximum, predicted, exempt, probability, length))
        return decisions

    def observe(
        self,
        decisions: Sequence[CutoffDecision],
        outcomes: Sequence[Outcome | None],
        correct_at_limit: Sequence[Sequence[bool] | None] | None = None,
    ) -> None:
        """What became of a step's decisions.

        An exempt rollout counts as one that would have been cut if it is longer than the predicted limit. Whether it
        is right is its grade: the truth is the full rollout.

        Args:
            decisions: as `decide` gave them.
            outcomes: one a problem; None for a problem that was not rolled out.
            correct_at_limit: one entry a problem, each None or one flag a rollout of its outcome: whether the rollout,
                truncated at the predicted limit, would be graded correct. Read for exempt problems with a predicted
                limit alone. Where it is missing, every correct rollout longer than the limit is taken to be lost.

        Raises:
            ValueError: if the arguments differ in length, or flags and rollouts do.
        """
        early = [None] * len(decisions) if correct_at_limit is None else correct_at_limit
        rollouts = cut = limited = problems = 0
        for decision, outcome, stated in zip(decisions, outcomes, early, strict=True):
            if outcome is None:
                continue
            problems += 1
            limited += decision.is_cutoff
            rollouts += len(outcome.lengths)
            cut += sum(reason is FinishReason.CUTOFF for reason in outcome.finish_reasons)
            if decision.exempt and decision.predicted_limit is not None:
                self._window.add(measure(outcome, decision.predicted_limit, decision.probability, stated))
            if decision.exempt and decision.length is not None:
                self._calibration.observe(decision.length, outcome.correct_lengths)
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
        values["cutoff/ratio_window"] = float(self._calibration.n)
        if (ratio := self.ratio) is not None:
            values["cutoff/ratio"] = ratio
        return values | self._window.metrics()

    def state_dict(self) -> dict[str, Any]:
        """The window, the totals and the ratios, JSON-able."""
        return {"last": dict(self._last), "calibration": self._calibration.state_dict(), **self._window.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._last = {str(name): float(value) for name, value in state["last"].items()}
        self._calibration.load_state_dict(state["calibration"])
        self._window.load_state_dict(state)

    def _limit(self, length: float | None, ratio: float | None) -> int | None:
        if length is None or ratio is None:
            return None
        factor = ratio if self.rule == "quantile" else self.factor * ratio
        # The product of two decimals may lie a hair above a whole number, which is not meant to be rounded up.
        return min(max(math.ceil(factor * length - 1e-9), self.minimum), self.maximum)
