"""One linear head over all that is known of a problem: hidden state, history and self-predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from masa.awareness.predictors.base import Estimate, Evidence, Observation
from masa.awareness.predictors.hidden_state import HiddenStatePredictor
from masa.awareness.predictors.linear_head import Floats
from masa.awareness.predictors.posterior import PosteriorPredictor
from masa.awareness.predictors.self_prediction import SelfPredictor

_EXTRAS = 4


class StackedPredictor(HiddenStatePredictor):
    """`hidden-state` with what `posterior` remembers and what `self` says as further features of its head.

    The features are the log odds of the rollouts remembered of the problem, with forgetting, and how many these are;
    the log odds of the mean self-prediction, and whether there is one. Unknown ones are 0. Each has the prior weight of
    the whole hidden state. How much history and word are worth is thus fitted to what came of them, and so is
    the spread around them, on which the odds of zero variance hang. Self-predictions are used where they are made, and
    not needed.

    Args:
        forgetting_history: lambda of the history, see `PosteriorPredictor`.
        settings: those of `HiddenStatePredictor`.

    Raises:
        ValueError: for a setting out of range.
    """

    name = "stacked"

    def __init__(self, *, forgetting_history: float = 0.5, **settings: Any) -> None:
        super().__init__(**settings)
        self._self = SelfPredictor()
        self._posterior = PosteriorPredictor(prior=(1.0, 1.0), forgetting=forgetting_history)

    def estimate(self, evidence: Evidence) -> Estimate:
        """The belief from everything known; L^ and notions are the policy's own where it said them."""
        found, said = super().estimate(evidence), self._self.estimate(evidence)
        return Estimate(
            pass_rate=found.pass_rate,
            deviation=found.deviation,
            length=found.length if said.length is None else said.length,
            notions=said.notions,
            valid=found.valid,
            abstains=found.abstains,
            belief=found.belief,
        )

    def observe(self, step: int, observations: Sequence[Observation]) -> None:
        """Fit the head with the histories as they were before the step, then remember the step."""
        super().observe(step, observations)
        self._posterior.observe(step, observations)

    def state_dict(self) -> dict[str, Any]:
        """The head's window and the histories, JSON-able."""
        return super().state_dict() | {"posterior": self._posterior.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        super().load_state_dict(state)
        self._posterior.load_state_dict(state["posterior"])

    def metrics(self) -> dict[str, float]:
        """Those of the head, and problems with history."""
        return super().metrics() | {"predictor/known_problems": float(self._posterior.known)}

    def _features(self, evidence: Evidence) -> Floats | None:
        hidden = super()._features(evidence)
        if hidden is None:
            return None
        right, wrong = self._posterior.counts(evidence.problem.key)
        said = self._self.estimate(evidence)
        rate, count = (0.5, 0) if said.pass_rate is None else (said.pass_rate, len(evidence.predictions))
        extras = [
            math.log((right + 0.5) / (wrong + 0.5)),
            (right + wrong) / (right + wrong + 8),
            math.log((rate * count + 0.5) / ((1 - rate) * count + 0.5)),
            float(count > 0),
        ]
        return np.concatenate([hidden, extras])

    def _emphasis(self, width: int) -> Floats:
        weights = np.ones(width)
        weights[-_EXTRAS:] = math.sqrt(width - _EXTRAS)
        return weights
