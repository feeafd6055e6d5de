"""The gate: which problems are worth their solution rollouts, and what that decision cost, by its own audit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from masa.awareness.audit_window import AuditWindow
from masa.awareness.gate_audit import GateEvent, GateReport, report
from masa.awareness.gate_rules import GateRule, check_range
from masa.awareness.predictors.base import Estimate
from masa.seeding import Purpose, derive_seed, derive_uniform


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gate decided for one problem."""

    key: int
    rule_skip: bool
    """The rule alone would skip it."""
    outside_skip: bool
    """A verdict from outside would skip it."""
    let_through: bool
    """The rule would skip it, but the step would starve."""
    audited: bool
    """To be skipped, but rolled out all the same by the audit's draw (or by the randomised rule's own)."""
    gated: bool
    """Not rolled out."""
    probability: float
    """pi: the chance it had of being rolled out, 1 if passed."""

    @property
    def candidate(self) -> bool:
        """The effective gate's verdict: skipped but for the audit, or but for the gate being inactive."""
        return self.effective_rule_skip or self.outside_skip

    @property
    def effective_rule_skip(self) -> bool:
        """The rule would skip it and the step does not starve without it."""
        return self.rule_skip and not self.let_through

    def weight(self, most: float = 4.0) -> float:
        """min(1 / pi, most): what a rolled-out problem stands for, bounded so that no single one rules a step."""
        return min(1 / self.probability, most) if self.probability > 0 else most


class Gate:
    """A rule with an audit and a limit on what a step may lose.

    The rule may skip at most `max_share` of a step's problems; over it those pass of which it is least certain, ties by
    derived seed. An allocation that spends a budget on some of the rest skips the others. Then each skipped problem is
    rolled out all the same with probability pi, by a draw that depends on (run seed, step, problem key) alone: pi is
    `audit`, or the rule's own where the rule is a randomised one.

    `observe` takes the truth back; quality is estimated over a window of the last rolled-out problems, see
    `masa.awareness.gate_audit`.

    Args:
        run_seed: the run's seed.
        rule: says which problems to skip, see `masa.awareness.gate_rules`.
        max_share: largest share of a step's problems that the rule may skip.
        audit: probability that a skipped problem is rolled out.
        window: how many of the last rolled-out problems the reported quality rests on.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(
        self,
        run_seed: int,
        rule: GateRule,
        *,
        max_share: float = 0.75,
        audit: float = 0.05,
        window: int = 4096,
    ) -> None:
        check_range("max_share", max_share, 0, 1)
        check_range("audit", audit, 0, 1)
        self.run_seed = run_seed
        self.rule = rule
        self.max_share = max_share
        self.audit = audit
        self._window = AuditWindow("gate", window, GateEvent.from_list)
        self._last: dict[str, float] = {}

    def decide(
        self,
        step: int,
        keys: Sequence[int],
        estimates: Sequence[Estimate],
        *,
        active: bool = True,
        skips: Sequence[bool] | None = None,
        let_through: Set[int] | None = None,
        earlier: Sequence[GateDecision] = (),
    ) -> list[GateDecision]:
        """One decision a problem, in order; to be called for each draw of a step, over the problems of all processes.

        Args:
            step: names the draws.
            keys: problem keys, one a problem.
            estimates: what the predictor holds of each.
            active: if not (the parallel phase), every problem passes and the verdicts are only noted, so that their
                quality can be watched before anything is skipped.
            skips: verdicts from outside, one a problem, beside the rule's (an allocation that gives a problem no
                rollouts): the same audit holds for them, but no limit, since an allocation spends its budget.
            let_through: what the method of this name says of the same arguments, where it was asked for these verdicts.
            earlier: decisions on the step's earlier draws: `max_share` is of all its problems together, or the single
                problem of a last small draw could never be skipped.

        Raises:
            ValueError: if the arguments differ in length.
        """
        outside = [False] * len(keys) if skips is None else skips
        for name, given in (("estimates", estimates), ("outside verdicts", outside)):
            if len(given) != len(keys):
                raise ValueError(f"{len(keys)} problem keys for {len(given)} {name}")
        rule_skips = [self.rule.skips(estimate) for estimate in estimates]
        if let_through is None:
            let_through = self.let_through(step, keys, estimates, earlier=earlier) if active else set()
        decisions = []
        for i, key in enumerate(keys):
            probability = 1.0
            if at_stake := active and ((rule_skips[i] and i not in let_through) or outside[i]):
                own = self.rule.probability(estimates[i])
                probability = self.audit if own is None else own
            audited = at_stake and derive_uniform(self.run_seed, Purpose.AUDIT, step, key) < probability
            gated = at_stake and not audited
            decisions.append(
                GateDecision(key, rule_skips[i], bool(outside[i]), i in let_through, audited, gated, probability)
            )
        return decisions

    def let_through(
        self,
        step: int,
        keys: Sequence[int],
        estimates: Sequence[Estimate],
        *,
        earlier: Sequence[GateDecision] = (),
    ) -> set[int]:
        """Which problems, by index, pass against the rule's verdict so that the step does not starve."""
        skipped = [i for i, estimate in enumerate(estimates) if self.rule.skips(estimate)]
        most = math.floor(self.max_share * (len(earlier) + len(keys)) + 1e-9)
        excess = sum(decision.effective_rule_skip for decision in earlier) + len(skipped) - most
        least_certain = sorted(
            skipped,
            key=lambda i: (
                self.rule.certainty(estimates[i]),
                derive_seed(self.run_seed, Purpose.NEVER_STARVE, step, keys[i]),
            ),
        )
        return set(least_certain[: max(excess, 0)])

    def observe(
        self,
        decisions: Sequence[GateDecision],
        zero_variance: Sequence[bool | None],
        tokens: Sequence[int | None],
    ) -> list[GateEvent]:
        """What became of a step's decisions.

        Args:
            decisions: as `decide` gave them.
            zero_variance: whether the solution group's rewards were all equal; None for gated problems.
            tokens: solution tokens the group generated; None for gated problems.

        Returns:
            One event a problem that was rolled out, in order.

        Raises:
            ValueError: if a problem that was rolled out has no truth.
        """
        events = []
        self._note(decisions)
        for decision, flat, spent in zip(decisions, zero_variance, tokens, strict=True):
            if decision.gated:
                continue
            if flat is None or spent is None:
                raise ValueError(f"problem {decision.key} was rolled out but comes back without outcome or tokens")
            events.append(
                GateEvent(decision.rule_skip, decision.candidate, bool(flat), decision.probability, int(spent))
            )
        for event in events:
            self._window.add(event)
        return events

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

    def _note(self, decisions: Sequence[GateDecision]) -> None:
        if n := len(decisions):
            self._last = {
                "gate/rule_share": sum(d.rule_skip for d in decisions) / n,
                "gate/share": sum(d.gated for d in decisions) / n,
                "gate/let_through": float(sum(d.let_through for d in decisions)),
                "gate/audited": float(sum(d.audited for d in decisions)),
            }
