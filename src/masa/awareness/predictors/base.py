"""What a predictor is: an estimate of a problem's pass rate before its solution rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from masa.awareness.beliefs import Beta
from masa.records import Outcome, Prediction, Problem


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a problem in this step before its solution rollouts."""

    problem: Problem
    predictions: Sequence[Prediction] = ()
    """This step's meta rollouts, invalid predictions included; empty where none were made."""
    hidden: NDArray[np.float32] | None = None
    """The policy's last hidden state at the end of the problem's prompt, [width], if the predictor asks for it."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of a problem that was rolled out."""

    evidence: Evidence
    outcome: Outcome
    is_zero_variance: bool
    """Whether the rewards of the solution group were all equal."""
    probability: float = 1.0
    """The chance it had of being rolled out: what is estimated over all problems weighs by 1 / it."""


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
    belief: Beta | None = None
    """The belief in full, of predictors that are calibrated; else it follows from mean and deviation."""
    exploration: float | None = None
    """Of a randomised predictor: the probability with which it would have the problem rolled out; 1 passes it."""

    @property
    def beta(self) -> Beta | None:
        """The belief about p; None where the predictor abstains."""
        if self.belief is not None or self.abstains or self.pass_rate is None:
            return self.belief
        return Beta.from_moments(self.pass_rate, self.deviation or 0.0, least=2.0)


class Predictor:
    """Estimates before the rollouts, learns after them; what a predictor does not need keeps its default here.

    Predictors are pure: the same calls give the same estimates, `estimate` changes nothing, and `state_dict` holds all
    they have learnt.
    """

    name: ClassVar[str]
    uses_predictions: ClassVar[bool] = False
    """Whether estimates rest on meta rollouts."""
    uses_hidden: ClassVar[bool] = False
    """Whether estimates rest on hidden states."""

    def estimate(self, evidence: Evidence) -> Estimate:
        """The belief about one problem."""
        raise NotImplementedError

    def observe(self, step: int, observations: Sequence[Observation]) -> None:
        """Learn from the problems of a step that were rolled out; called once a step, also without any."""

    def wants_predictions(self, problem: Problem) -> bool:  # noqa: ARG002
        """Whether meta rollouts of this problem would sharpen its estimate."""
        return self.uses_predictions

    def context(self, problem: Problem) -> str:  # noqa: ARG002
        """What the meta prompt should tell the policy of its own past; empty for nothing."""
        return ""

    def state_dict(self) -> dict[str, Any]:
        """What has been learnt, as JSON-able values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""

    def metrics(self) -> dict[str, float]:
        """Finite numbers named `predictor/...`."""
        return {}
