"""What a predictor is: an estimate of a problem's pass rate before its solution rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from masa.records import Outcome, Prediction, Problem


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a predictor holds of one problem; a part it cannot give is None."""

    pass_rate: float | None = None
    """Mean of the belief about p, 0..1."""
    deviation: float | None = None
    """Its uncertainty as a standard deviation; for `self` the population deviation over the valid predictions."""
    length: float | None = None
    """L^, the expected length of a solution in tokens."""
    notions: tuple[str, ...] = ()
    """Distinct foretold notions, the most often foretold first."""
    valid: int = 0
    """How many predictions (or past observations) the pass rate rests on."""
    abstains: bool = True
    """Whether the predictor declines to say anything of the pass rate: the gate then passes the problem."""


class Predictor(Protocol):
    """Estimates before the rollouts, learns after them.

    Implementations are pure: the same calls give the same estimates, and `state_dict` holds all they have learnt.
    """

    name: str

    def estimate(self, problem: Problem, predictions: Sequence[Prediction]) -> Estimate:
        """The belief about one problem; `predictions` are this step's, invalid ones included."""
        ...

    def observe(self, problem: Problem, outcome: Outcome, *, step: int, probability: float = 1.0) -> None:
        """Learn from a solution group that was rolled out with this probability (fitted predictors weigh by 1/it)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What has been learnt, as JSON-able values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        ...

    def metrics(self) -> dict[str, float]:
        """Finite numbers named `predictor/...`."""
        ...
