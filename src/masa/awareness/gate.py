"""The gate: which problems are worth their solution rollouts, and what that decision cost, by its own audit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masa.awareness.audit_window import AuditWindow
from masa.awareness.gate_audit import GateEvent, GateReport, report
from masa.awareness.predictors.base import Estimate
from masa.seeding import Purpose, derive_seed, derive_uniform


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gate decided for one problem."""

    key: int
    rule_skip: bool
    """The rule alone would skip it."""
    let_through: bool
    """Skipped by the rule, but passed so that the step does not starve."""
    audited: bool
    """To be skipped, but rolled out all the same by the audit's draw."""
    gated: bool
    """Not rolled out."""
    probability: float
    """pi: the chance it had of being rolled out, 1 if passed."""

    @property
    def candidate(self) -> bool:
        """The effective gate's verdict: skipped but for the audit, or but for the gate being inactive."""
        return self.rule_skip and not self.let_through


class Gate:
    """The paper's rule with an audit and a limit on what a step may lose (arXiv 2510.03259 version 2, section 3.3).

    Rule: skip if the deviation of the estimate is below `gate_std` and its mean within `margin` of 0 or of 1. (The
    paper says "average 0 or 1"; read to the letter that would force the deviation to 0, so the mean is rounded to the
    grid of 1/8.) A problem whose predictor abstains passes.

    At most `max_share` of a step's problems may be skipped; over it the least certain pass: largest deviation, then
    farthest from 0 or 1, then by derived seed. Then each skipped problem is audited with probability `audit`, by a
    draw that depends on (run seed, step, problem key) alone.

    `observe` takes the truth back; quality is estimated over a window of the last rolled-out problems, see
    `masa.awareness.gate_audit`.

    Args:
        run_seed: the run's seed.
        window: how many of the last rolled-out problems the reported quality rests on.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(
        self,
        run_seed: int,
        *,
        gate_std: float = 0.1,
        margin: float = 1 / 16,
        max_share: float = 0.75,
        audit: float = 0.05,
        window: int = 4096,
    ) -> None:
        for name, value, low, high in (
            ("gate_std", gate_std, 0, 1),
            ("margin", margin, 0, 0.5),
            ("max_share", max_share, 0, 1),
            ("audit", audit, 0, 1),
        ):
            if not low <= value <= high:
                raise ValueError(f"gate setting {name} must lie between {low} and {high}, got {value}")
        self.run_seed = run_seed
        self.gate_std = gate_std
        self.margin = margin
        self.max_share = max_share
        self.audit = audit
        self._window = AuditWindow("gate", window, GateEvent.from_list)
        self._last: dict[str, float] = {}

    def rule(self, estimate: Estimate) -> bool:
        """Whether the rule alone would skip a problem."""
        if estimate.abstains or estimate.pass_rate is None or estimate.deviation is None:
            return False
        return estimate.deviation < self.gate_std and _from_edge(estimate.pass_rate) <= self.margin

    def decide(
        self, step: int, keys: Sequence[int], estimates: Sequence[Estimate], *, active: bool = True
    ) -> list[GateDecision]:
        """One decision a problem, in order; to be called once a step over the problems of all processes.

        With `active=False` (the parallel phase) every problem passes and the rule's verdict is only noted, so that
        its quality can be watched before anything is skipped.
        """
        if len(keys) != len(estimates):
            raise ValueError(f"{len(keys)} problem keys for {len(estimates)} estimates")
        rule_skips = [self.rule(estimate) for estimate in estimates]
        excess = sum(rule_skips) - math.floor(self.max_share * len(keys) + 1e-9) if active else 0
        least_certain = sorted(
            (i for i, skip in enumerate(rule_skips) if skip),
            key=lambda i: self._certainty(step, keys[i], estimates[i]),
        )
        let_through = set(least_certain[: max(excess, 0)])
        decisions = []
        for i, (key, rule_skip) in enumerate(zip(keys, rule_skips, strict=True)):
            candidate = rule_skip and i not in let_through
            at_stake = candidate and active
            probability = self.audit if at_stake else 1.0
            audited = at_stake and derive_uniform(self.run_seed, Purpose.AUDIT, step, key) < probability
            gated = at_stake and not audited
            decisions.append(GateDecision(key, rule_skip, i in let_through, audited, gated, probability))
        self._note(decisions)
        return decisions

    def observe(
        self,
        decisions: Sequence[GateDecision],
        zero_variance: Sequence[bool | None],
        tokens: Sequence[int | None],
    ) -> None:
        """What became of a step's decisions.

        Args:
            decisions: as `decide` gave them.
            zero_variance: whether the solution group's rewards were all equal; None for gated problems.
            tokens: solution tokens the group generated; None for gated problems.

        Raises:
            ValueError: if a problem that was rolled out has no truth.
        """
        for decision, flat, spent in zip(decisions, zero_variance, tokens, strict=True):
            if decision.gated:
                continue
            if flat is None or spent is None:
                raise ValueError(f"problem {decision.key} was rolled out but comes back without outcome or tokens")
            event = GateEvent(decision.rule_skip, decision.candidate, bool(flat), decision.probability, int(spent))
            self._window.add(event)

    def report(self, confidence: float = 0.9) -> GateReport:
        """The effective gate's quality over the window."""
        return report(self._window.events, [event.candidate for event in self._window.events], confidence)

    def rule_report(self, confidence: float = 0.9) -> GateReport:
        """The rule's quality over the window, problems let through against starving counted as the rule saw them."""
        return report(self._window.events, [event.rule_skip for event in self._window.events], confidence)

    @property
    def tokens_saved(self) -> float:
        """Estimated solution tokens saved over the whole run: sum over audits of tokens (1 - pi) / pi."""
        return self._window.tokens_saved

    @property
    def tokens_saved_error(self) -> float:
        """Standard error of `tokens_saved`: root of the sum over audits of tokens^2 (1 - pi) / pi^2."""
        return self._window.tokens_saved_error

    def metrics(self) -> dict[str, float]:
        """Shares of the last step, quality over the window, tokens saved over the run; undefined ones are left out."""
        values = dict(self._last)
        values.update(self.report().metrics("gate/"))
        rule = self.rule_report().metrics("gate/rule_")
        values.update({name: rule[name] for name in ("gate/rule_precision", "gate/rule_recall") if name in rule})
        return values | self._window.metrics()

    def state_dict(self) -> dict[str, Any]:
        """The window and the totals, JSON-able."""
        return {"last": dict(self._last), **self._window.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._last = {str(name): float(value) for name, value in state["last"].items()}
        self._window.load_state_dict(state)

    def _certainty(self, step: int, key: int, estimate: Estimate) -> tuple[float, float, int]:
        """Sorts the least certain first. Rounded, since equal predictions in another order may differ by an ulp."""
        return (
            -round(estimate.deviation or 0.0, 9),
            -round(_from_edge(estimate.pass_rate or 0.0), 9),
            derive_seed(self.run_seed, Purpose.NEVER_STARVE, step, key),
        )

    def _note(self, decisions: Sequence[GateDecision]) -> None:
        if n := len(decisions):
            self._last = {
                "gate/rule_share": sum(d.rule_skip for d in decisions) / n,
                "gate/share": sum(d.gated for d in decisions) / n,
                "gate/let_through": float(sum(d.let_through for d in decisions)),
                "gate/audited": float(sum(d.audited for d in decisions)),
            }


def _from_edge(pass_rate: float) -> float:
    return min(pass_rate, 1 - pass_rate)
