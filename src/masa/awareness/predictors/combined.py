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
_NOTHING_SAID = 0.5


@dataclass(frozen=True, slots=True)
class _Group:
    """A group rolled out."""

    said: float
    """The pass rate foretold of it; 1/2 where nothing was."""
    right: int
    rolled: int
    weight: float
    past_right: float
    """What was remembered of the problem before this group."""
    past_wrong: float


class _Pool:
    """The last groups of one kind, with or without predictions, and what they teach."""

    def __init__(self, window: int, minimum: int, history_weight: float | None) -> None:
        self.minimum = minimum
        self.set_weight = history_weight
        self.groups: deque[_Group] = deque(maxlen=window)
        self.calibration: Calibration | None = None
        self.history_weight = _UNFITTED_HISTORY_WEIGHT if history_weight is None else history_weight

    def belief(self, prior: Beta, past: tuple[float, float]) -> Beta:
        """A prior with the problem's remembered rollouts (right, wrong) as evidence."""
        return Beta(prior.a + self.history_weight * past[0], prior.b + self.history_weight * past[1])

    def prior(self, said: float) -> Beta:
        """What is believed of a problem of which this was foretold, its history aside."""
        if self.calibration is not None:
            return self.calibration.belief(said)
        return Beta(0.5 + _RAW_WEIGHT * said, 0.5 + _RAW_WEIGHT * (1 - said))

    def fit(self) -> None:
        """Learn from the groups, once there are enough."""
        if len(self.groups) < self.minimum:
            return
        columns: Floats = np.array(self.as_lists(), np.float64)
        self.calibration = fit_calibration(*columns[:, :4].T)
        known = columns[columns[:, 4] + columns[:, 5] > 0]
        if self.set_weight is None and len(known) >= _MINIMUM_KNOWN:
            self.history_weight = self._best_history_weight(known)

    def as_lists(self) -> list[list[float]]:
        """The groups, JSON-able."""
        return [[g.said, g.right, g.rolled, g.weight, g.past_right, g.past_wrong] for g in self.groups]

    def load(self, rows: Sequence[Sequence[Any]]) -> None:
        """Continue with saved groups; what they teach follows from them."""
        unfitted = _UNFITTED_HISTORY_WEIGHT if self.set_weight is None else self.set_weight
        self.calibration, self.history_weight = None, unfitted
        self.groups.clear()
        self.groups.extend(_Group(*row) for row in rows)
        self.fit()

    def _best_history_weight(self, known: Floats) -> float:
        said, right, rolled, weights, past_right, past_wrong = known.T
        priors = [self.prior(value) for value in said]
        a, b = np.array([prior.a for prior in priors]), np.array([prior.b for prior in priors])
        likelihoods = [
            float(weights @ beta_binomial(a + weight * past_right, b + weight * past_wrong, right, rolled))
            for weight in _HISTORY_WEIGHTS
        ]
        return float(_HISTORY_WEIGHTS[int(np.argmax(likelihoods))])


class CombinedPredictor(Predictor):
    """`self`, calibrated over the last groups, and `posterior`, added where there is history.

    1. The mean self-prediction is mapped to a Beta belief by an isotonic fit with its local over-dispersion
       (`masa.awareness.predictors.self_calibration`): what pass rates did problems have of which this was foretold? A
       useless self-prediction becomes the base rate with its true spread.
    2. That belief is a prior for the problem, to which its own past rollouts are added as evidence:
       Beta(a + h right, b + h wrong), with the forgetting of `posterior` within right and wrong. The weight h allows
       for what the policy has learnt since the last visit; unless set, it is the one of 0, 0.1, ..., 1 that makes the
       window's groups likeliest (0.5 until 30 of them had history).
    3. Without valid predictions history speaks alone, and without history either it abstains. The prior is then the
       base rate of such groups with its spread, by the same fit: a uniform one would call every problem lively.

    Before `minimum` groups of a kind the word of the policy counts for two rollouts, and history alone is `posterior`.
    Groups weigh 1 / probability. The length is that of `self`, or else the posterior's memory.

    Args:
        predictions: `all`, or `unseen`: no meta rollouts for problems whose history counts at least `known_rollouts`.
        known_rollouts: see there; rollouts after forgetting.
        window: groups of a kind (with valid predictions, without) that are kept.
        minimum: groups of a kind before they are calibrated by.
        history_weight: h, 0..1; None fits it.
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
        self._self = SelfPredictor()
        self._posterior = PosteriorPredictor(prior=(1.0, 1.0), forgetting=forgetting)
        self._foretold = _Pool(window, minimum, history_weight)
        self._silent = _Pool(window, minimum, history_weight)
        self._scores = ScoreWindow()

    def estimate(self, evidence: Evidence) -> Estimate:
        """The belief from this step's predictions and the problem's past."""
        past = self._posterior.counts(evidence.problem.key)
        said, remembered = self._self.estimate(evidence), self._posterior.estimate(evidence)
        belief, valid = remembered.belief, remembered.valid
        if said.pass_rate is not None:
            belief, valid = self._foretold.belief(self._foretold.prior(said.pass_rate), past), said.valid
        elif belief is not None and self._silent.calibration is not None:
            belief = self._silent.belief(self._silent.prior(_NOTHING_SAID), past)
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
            pool = self._silent if said is None else self._foretold
            correct = observation.outcome.correct
            past = self._posterior.counts(observation.evidence.problem.key)
            word = _NOTHING_SAID if said is None else said
            pool.groups.append(_Group(word, sum(correct), len(correct), 1 / observation.probability, *past))
        self._posterior.observe(step, observations)
        for pool in (self._foretold, self._silent):
            pool.fit()

    def wants_predictions(self, problem: Problem) -> bool:
        """With `unseen`, only of problems whose history counts for too little."""
        return self.predictions == "all" or sum(self._posterior.counts(problem.key)) < self.known_rollouts

    def state_dict(self) -> dict[str, Any]:
        """The windows and the posteriors, JSON-able; calibrations follow from the windows."""
        return {
            "foretold": self._foretold.as_lists(),
            "silent": self._silent.as_lists(),
            "posterior": self._posterior.state_dict(),
            "scores": self._scores.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._foretold.load(state["foretold"])
        self._silent.load(state["silent"])
        self._posterior.load_state_dict(state["posterior"])
        self._scores.load_state_dict(state["scores"])

    def metrics(self) -> dict[str, float]:
        """What the policy's word and the problems' histories are worth, and how well zero variance was foretold."""
        values = {
            "predictor/known_problems": float(self._posterior.known),
            "predictor/calibration_groups": float(len(self._foretold.groups)),
            "predictor/history_weight": self._foretold.history_weight,
            "predictor/history_weight_silent": self._silent.history_weight,
        }
        if self._foretold.calibration is not None:
            values["predictor/calibration_range"] = self._foretold.calibration.range
        return values | self._scores.metrics()
