"""Which steps are predictive: those after a fixed number, or those after the gate has shown that it can be trusted."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from masa.awareness.gate_audit import GateEvent, GateReport, report

BOUND_CONFIDENCE = 0.8
"""Of the two-sided interval whose ends are one-sided 90 % bounds."""


class Phases(Protocol):
    """Decides of each step whether it is predictive."""

    def is_predictive(self, step: int) -> bool:
        """Whether `step` (counted from 1) lies in the predictive phase; to be asked before the step."""
        ...

    def observe(self, step: int, events: Sequence[GateEvent]) -> None:
        """What the gate saw in `step` (as `Gate.observe` returns it); to be called once a step, after it."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What later decisions rest on, JSON-able."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        ...

    def metrics(self) -> dict[str, float]:
        """Finite numbers named `phase/...`."""
        ...


class FixedPhases:
    """Parallel for `k` steps, then predictive for good; None never turns predictive (arXiv 2510.03259 v2, section 3.3).

    Raises:
        ValueError: for a negative k.
    """

    def __init__(self, k: int | None) -> None:
        if k is not None and k < 0:
            raise ValueError(f"a phase cannot last {k} steps: k must be at least 0")
        self.k = k

    def is_predictive(self, step: int) -> bool:
        """Whether `step` (counted from 1) comes after the first k."""
        return self.k is not None and step > self.k

    def observe(self, step: int, events: Sequence[GateEvent]) -> None:
        """Nothing is learnt."""

    def state_dict(self) -> dict[str, Any]:
        """Empty: the step says it all."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to load."""

    def metrics(self) -> dict[str, float]:
        """None."""
        return {}


class PhaseSwitch:
    """Enters the predictive phase when the gate's precision is shown to be good, and leaves it when shown to be bad.

    Parallel phase: evidence is every problem rolled out, the gate's verdict merely noted. Enter when at least `least`
    of the last `window` problems would have been skipped and the lower 90 % bound of the precision is at least
    max(floor, (1 + base rate) / 2). The second term asks that the gate makes at most half the mistakes of skipping
    at random: predictions collapsed to one value have the base rate for precision, and never get there.

    Predictive phase: evidence is the audits alone, the last `audits` of them, since problems passed say nothing of the
    precision and would crowd rare audits out. Leave when there are at least `least` and the upper 90 % bound of the
    precision is below `floor`.

    Every switch starts from no evidence: what was seen before one was seen under another regime, and the gate has to
    earn its way back. Bounds are Wilson's, one-sided, on audits weighed by 1 / pi. They are looked at after every
    step, so over a long run a gate that is exactly as good as the bound asks will be misjudged sooner or later; the
    distance between the two conditions keeps it from flapping.

    Args:
        floor: precision below which a gate is not worth having, 0..1.
        window: problems rolled out that the decision to enter rests on, at most.
        audits: audits that the decision to leave rests on, at most.
        least: verdicts to skip with known truth that either decision needs.

    Raises:
        ValueError: for a setting out of range.
    """

    def __init__(self, *, floor: float = 0.8, window: int = 1024, audits: int = 128, least: int = 30) -> None:
        if not 0 <= floor <= 1:
            raise ValueError(f"phase setting floor must lie between 0 and 1, got {floor}")
        if least < 1:
            raise ValueError(f"phase setting least must be at least 1, got {least}")
        for name, size in (("window", window), ("audits", audits)):
            if size < least:
                raise ValueError(f"phase setting {name} must be at least {least}, the evidence needed, got {size}")
        self.floor = floor
        self.least = least
        self._sizes = {False: window, True: audits}
        self._predictive = False
        self._switches = 0
        self._events: deque[GateEvent] = deque(maxlen=window)
        self._last: dict[str, float] = {}

    def is_predictive(self, step: int) -> bool:  # noqa: ARG002
        """The phase now, whatever the step."""
        return self._predictive

    def observe(self, step: int, events: Sequence[GateEvent]) -> None:  # noqa: ARG002
        """Take in the problems rolled out in a step of the phase now, and perhaps switch for the steps after it."""
        self._events.extend(event for event in events if _is_verdict(event) or not self._predictive)
        quality = report(self._events, [_is_verdict(event) for event in self._events], BOUND_CONFIDENCE)
        self._note(quality)
        if self._is_due(quality):
            self._enter(not self._predictive)
            self._switches += 1

    def state_dict(self) -> dict[str, Any]:
        """The phase and its evidence, JSON-able."""
        return {
            "predictive": self._predictive,
            "switches": self._switches,
            "events": [event.as_list() for event in self._events],
            "last": dict(self._last),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._enter(bool(state["predictive"]))
        self._switches = int(state["switches"])
        self._events.extend(GateEvent.from_list(row) for row in state["events"])
        self._last = {str(name): float(value) for name, value in state["last"].items()}

    def metrics(self) -> dict[str, float]:
        """The bounds that the last decision rested on, their n, the bound to be met, and how often it switched."""
        return {**self._last, "phase/switches": float(self._switches)}

    def _threshold(self, quality: GateReport) -> float:
        """What the lower bound must reach to enter, or the upper bound to stay."""
        return self.floor if self._predictive else max(self.floor, (1 + (quality.base_rate or 0.0)) / 2)

    def _is_due(self, quality: GateReport) -> bool:
        bounds = quality.precision_interval
        if quality.audits < self.least or bounds is None:
            return False
        return bounds.high < self.floor if self._predictive else bounds.low >= self._threshold(quality)

    def _enter(self, predictive: bool) -> None:
        self._predictive = predictive
        self._events = deque(maxlen=self._sizes[predictive])

    def _note(self, quality: GateReport) -> None:
        self._last = {"phase/verdicts": float(quality.audits), "phase/threshold": self._threshold(quality)}
        if bounds := quality.precision_interval:
            self._last |= {"phase/precision_low": bounds.low, "phase/precision_high": bounds.high}


def _is_verdict(event: GateEvent) -> bool:
    """Whether the gate's rule would skip the problem; what an allocation leaves out is no mistake of the rule's."""
    return event.candidate and event.rule_skip
