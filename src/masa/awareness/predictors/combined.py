"""Self-prediction calibrated against what came of it, with the problem's own history added as evidence."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from masa.awareness.beliefs import Beta
from masa.awareness.predictors.base import Estimate, Evidence, Observation, Predictor
from masa.awareness.predictors.checks import ScoreWindow, check_setting
from masa.awareness.predictors.posterior import PosteriorPredictor
from masa.awareness.predictors.self_calibration import Calibration, Floats, beta_binomial, fit_calibration
from masa.awareness.predictors.self_prediction import SelfPredictor
from masa.records import Problem

_RAW_WEIGHT = 2.0
"""Rollouts a self-prediction counts for while it is not calibrated: too few for any gate to act on."""
_HISTORY_WEIGHTS = np.linspace(0.0, 1.0, 11)
_MINIMUM_KNOWN = 30
"""Groups with both prediction and history, before the weight of history is fitted."""
_UNFITTED_HISTORY_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class _Group:
    """A group rolled out, of whose pass rate there was a prediction."""

    said: float
    right: int
    rolled: int
    weight: float
    past_right: float
    """What was remembered of the problem before this group."""
    past_wrong: float


class CombinedPredictor(Predictor):
    """`self`, calibrated over the last groups, and `posterior`, added where there is history.

    1. The mean self-prediction is mapped to a Beta belief by an isotonic fit with its local over-dispersion
       (`masa.awareness.predictors.self_calibration`): what pass rates did problems have of which this was foretold? A
       useless self-prediction becomes the base rate with its true spread.
    2. That belief is a prior for the problem, to which its own past rollouts are added as evidence:
       Beta(a + h right, b + h wrong), with the forgetting of `posterior` within right and wrong. The weight h allows
       for what the policy has learnt since the last visit; unless set, it is the one of 0, 0.1, ..., 1 that makes the
       window's groups likeliest (0.5 until 30 of them had history).
    3. Without valid predictions the posterior speaks alone, and without history either it abstains. Before `minimum`
       groups the word of the policy counts for two rollouts.

    Groups weigh 1 / probability. The length is that of `self`, or else the posterior's memory.

    Args:
        predictions: `all`, or `unseen`: no meta rollouts for problems whose history counts at least `known_rollouts`.
        known_rollouts: see there; rollouts after forgetting.
        window: groups the calibration rests on.
        minimum: groups before it is used.
        history_weight: h, 0..1; None fits it.
        prior_right: a0 of the posterior.
        prior_wrong: b0 of the posterior.
        forgetting: lambda of the posterior.

    Raises:
        ValueError: for a setting out of range.
    """

    name = "combined"
    uses_predictions = True

    def __init__(
        self,
        *,
        predictions: str = "all",
        known_rollouts: float = 8.0,
        window: int = 512,
        minimum: int = 32,
        history_weight: float | None = None,
        prior_right: float = 1.0,
        prior_wrong: float = 1.0,
        forgetting: float = 0.5,
    ) -> None:
        if predictions not in ("all", "unseen"):
            raise ValueError(f"combined predictor setting predictions must be all or unseen, got {predictions!r}")
        check_setting(self.name, "known_rollouts", known_rollouts, 1)
        check_setting(self.name, "minimum", minimum, 2)
        check_setting(self.name, "window", window, minimum)
        if history_weight is not None:
            check_setting(self.name, "history_weight", history_weight, 0, 1)
        self.predictions = predictions
        self.known_rollouts = known_rollouts
        self.minimum = minimum
        self.history_weight = history_weight
        self._self = SelfPredictor()
        self._posterior = PosteriorPredictor(prior_right=prior_right, prior_wrong=prior_wrong, forgetting=forgetting)
        self._groups: deque[_Group] = deque(maxlen=window)
        self._calibration: Calibration | None = None
        self._fitted_history_weight = _UNFITTED_HISTORY_WEIGHT
        self._scores = ScoreWindow()

    def estimate(self, evidence: Evidence) -> Estimate:
        """The belief from this step's predictions and the problem's past."""
        key = evidence.problem.key
        said, remembered = self._self.estimate(evidence), self._posterior.estimate(evidence)
        belief, valid = remembered.belief, remembered.valid
        if said.pass_rate is not None:
            prior = self._prior(said.pass_rate)
            right, wrong = self._posterior.counts(key)
            weight = self._fitted_history_weight
            belief = Beta(prior.a + weight * right, prior.b + weight * wrong)
            valid = said.valid
        return Estimate(
            pass_rate=None if belief is None else belief.mean,
            deviation=None if belief is None else belief.deviation,
            length=remembered.length if said.length is None else said.length,
            notions=said.notions,
            valid=valid,
            abstains=belief is None,
            belief=belief,
        )

    def observe(self, step: int, observations: Sequence[Observation]) -> None:
        """Calibrate by the step's groups, then remember them."""
        self._scores.add([self.estimate(observation.evidence) for observation in observations], observations)
        for observation in observations:
            said = self._self.estimate(observation.evidence).pass_rate
            if said is not None:
                right, rolled = sum(observation.outcome.correct), len(observation.outcome.correct)
                past = self._posterior.counts(observation.evidence.problem.key)
                self._groups.append(_Group(said, right, rolled, 1 / observation.probability, *past))
        self._posterior.observe(step, observations)
        self._fit()

    def wants_predictions(self, problem: Problem) -> bool:
        """With `unseen`, only of problems whose history counts for too little."""
        return self.predictions == "all" or sum(self._posterior.counts(problem.key)) < self.known_rollouts

    def state_dict(self) -> dict[str, Any]:
        """The window and the posteriors, JSON-able; the calibration follows from the window."""
        return {
            "groups": [[g.said, g.right, g.rolled, g.weight, g.past_right, g.past_wrong] for g in self._groups],
            "posterior": self._posterior.state_dict(),
            "scores": self._scores.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._groups.clear()
        self._groups.extend(_Group(*row) for row in state["groups"])
        self._posterior.load_state_dict(state["posterior"])
        self._scores.load_state_dict(state["scores"])
        self._fit()

    def metrics(self) -> dict[str, float]:
        """What the policy's word and the problems' histories are worth, and how well zero variance was foretold."""
        values = {
            "predictor/known_problems": float(self._posterior.known),
            "predictor/calibration_groups": float(len(self._groups)),
            "predictor/history_weight": self._fitted_history_weight,
        }
        if self._calibration is not None:
            values["predictor/calibration_range"] = self._calibration.range
        return values | self._scores.metrics()

    def _prior(self, said: float) -> Beta:
        if self._calibration is not None:
            return self._calibration.belief(said)
        return Beta(0.5 + _RAW_WEIGHT * said, 0.5 + _RAW_WEIGHT * (1 - said))

    def _fit(self) -> None:
        if self.history_weight is not None:
            self._fitted_history_weight = self.history_weight
        if len(self._groups) < self.minimum:
            self._calibration = None
            return
        columns: Floats = np.array(
            [[g.said, g.right, g.rolled, g.weight, g.past_right, g.past_wrong] for g in self._groups], np.float64
        )
        self._calibration = fit_calibration(*columns[:, :4].T)
        if self.history_weight is None:
            self._fitted_history_weight = self._fit_history_weight(columns)

    def _fit_history_weight(self, columns: Floats) -> float:
        known = columns[columns[:, 4] + columns[:, 5] > 0]
        if len(known) < _MINIMUM_KNOWN:
            return _UNFITTED_HISTORY_WEIGHT
        said, right, rolled, weights, past_right, past_wrong = known.T
        priors = [self._prior(value) for value in said]
        a, b = np.array([prior.a for prior in priors]), np.array([prior.b for prior in priors])
        likelihoods = [
            float(weights @ beta_binomial(a + weight * past_right, b + weight * past_wrong, right, rolled))
            for weight in _HISTORY_WEIGHTS
        ]
        return float(_HISTORY_WEIGHTS[int(np.argmax(likelihoods))])
