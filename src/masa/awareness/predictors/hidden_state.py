"""A linear head on the policy's hidden state: what the policy knows of a problem before it writes a token."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masa.awareness.beliefs import Beta
from masa.awareness.predictors.base import Estimate, Evidence, Observation, Predictor
from masa.awareness.predictors.checks import ScoreWindow, check_setting
from masa.awareness.predictors.linear_head import (
    Floats,
    Line,
    Scaling,
    best_spread,
    fit_line,
    fit_logits,
    pass_rate_moments,
)

_UNFITTED_SPREAD = 1.0
_UNFITTED_LENGTH_NOISE = 0.25
_MINIMUM_FORECASTS = 32
"""Groups foretold before they were seen, before the spread around the head is fitted to them."""


@dataclass(frozen=True, slots=True)
class _Group:
    """A group rolled out whose hidden state is in the window; forecasts are those made before it was learnt from."""

    step: int
    right: int
    rolled: int
    logit: tuple[float, float] | None
    """Mean and variance of the foretold logit."""
    log_length: float | None
    """Of the mean correct length."""
    foretold_log_length: float | None


@dataclass(frozen=True, slots=True)
class _Head:
    """What follows from the window."""

    scaling: Scaling
    logits: Line
    spread: float
    lengths: Line | None
    length_center: float
    length_range: tuple[float, float]


class HiddenStatePredictor(Predictor):
    """Linear heads on `Evidence.hidden` for the pass rate's logit and the log mean correct length.

    It costs one prefill and no tokens (cf. arXiv 2510.01135 and 2511.14773). The window of the last groups is fitted
    anew each step: mixed binomial regression with a ridge penalty, features standardised over the window
    (`masa.awareness.predictors.linear_head`). A group weighs `forgetting` per step of its age. It is not weighed by
    1 / its probability of being rolled out: a gate decides by the very features that are fitted, so that the missing
    outcomes are missing at random given them and a likelihood needs no weights (Rubin 1976, Biometrika 63), while
    audits at a rate of 1 % would outweigh all other groups of the window.

    The belief has the moments of a logistic normal whose variance is the head's own posterior variance plus the
    squared spread of problems around the head. That spread is not taken from the fit, which bends to its window, but
    from how far groups came out from what was foretold of them beforehand, by maximum likelihood. It thus
    holds whatever the head cannot know, the policy's drift included.

    A step's fit costs O(n m^2 + m^3) for n groups of width w, m = min(n, w): with a full window about 0.1 s at width
    64 and 2 s at width 2048, on one core; an estimate costs O(m w). The window's hidden states, 4 n w bytes, are part
    of the state.

    Args:
        window: groups kept.
        minimum: groups before it stops abstaining.
        ridge: prior precision: 1 / ridge is the prior variance of the logit at a typical state.
        forgetting: weight left after a step, 0..1.

    Raises:
        ValueError: for a setting out of range.
    """

    name = "hidden-state"
    uses_hidden = True

    def __init__(self, *, window: int = 1024, minimum: int = 64, ridge: float = 0.1, forgetting: float = 0.99) -> None:
        check_setting(self.name, "minimum", minimum, 2)
        check_setting(self.name, "window", window, minimum)
        check_setting(self.name, "ridge", ridge, 1e-6, 1e6)
        check_setting(self.name, "forgetting", forgetting, 0.01, 1)
        self.window = window
        self.minimum = minimum
        self.ridge = ridge
        self.forgetting = forgetting
        self._groups: list[_Group] = []
        self._hidden: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._head: _Head | None = None
        self._scores = ScoreWindow()

    def estimate(self, evidence: Evidence) -> Estimate:
        """The belief from the hidden state.

        Abstains without one, with one that is not finite, and while fewer than `minimum` groups were observed.

        Raises:
            ValueError: if the state is not as wide as those observed.
        """
        head, state = self._head, self._state(evidence)
        if head is None or state is None:
            return Estimate()
        features = head.scaling.apply(state[None, :])
        mean, variance = (float(value[0]) for value in head.logits.at(features))
        pass_rate, deviation = pass_rate_moments(mean, variance + head.spread**2)
        belief = Beta.from_moments(pass_rate, deviation)
        return Estimate(
            pass_rate=belief.mean,
            deviation=belief.deviation,
            length=_length(head, features),
            valid=len(self._groups),
            abstains=False,
            belief=belief,
        )

    def observe(self, step: int, observations: Sequence[Observation]) -> None:
        """Take the step's groups into the window and fit it anew; groups without a hidden state are passed over.

        Raises:
            ValueError: if a state is not as wide as those observed before.
        """
        self._scores.add([self.estimate(observation.evidence) for observation in observations], observations)
        states = []
        for observation in observations:
            state = self._state(observation.evidence)
            if state is not None:
                states.append(state.astype(np.float32))
                self._groups.append(self._group(step, observation, state))
        if states:
            self._hidden = np.vstack([*([self._hidden] if self._hidden.size else []), *states])[-self.window :].copy()
            self._groups = self._groups[-self.window :]
            self._fit()

    def state_dict(self) -> dict[str, Any]:
        """The window, its hidden states as base64 of little-endian float32; the heads follow from it."""
        return {
            "groups": [[g.step, g.right, g.rolled, g.logit, g.log_length, g.foretold_log_length] for g in self._groups],
            "width": self._hidden.shape[1],
            "hidden": base64.b64encode(self._hidden.astype("<f4").tobytes()).decode("ascii"),
            "scores": self._scores.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        self._groups = [
            _Group(step, right, rolled, None if logit is None else (logit[0], logit[1]), log_length, foretold)
            for step, right, rolled, logit, log_length, foretold in state["groups"]
        ]
        flat = np.frombuffer(base64.b64decode(state["hidden"]), "<f4")
        self._hidden = flat.reshape(len(self._groups), int(state["width"])).astype(np.float32)
        self._scores.load_state_dict(state["scores"])
        self._fit()

    def metrics(self) -> dict[str, float]:
        """Groups in the window, spread around the head, and how well zero variance was foretold."""
        values = {"predictor/window_groups": float(len(self._groups))}
        if self._head is not None:
            values["predictor/logit_spread"] = self._head.spread
        return values | self._scores.metrics()

    def _state(self, evidence: Evidence) -> Floats | None:
        features = self._features(evidence)
        if features is not None and self._hidden.size and features.shape != self._hidden.shape[1:]:
            raise ValueError(
                f"hidden states of shape {self._hidden.shape[1:]} were observed, but now one of {features.shape} comes"
            )
        return features

    def _features(self, evidence: Evidence) -> Floats | None:
        """What the head rests on, [width]; None where it cannot be had."""
        hidden = evidence.hidden
        return None if hidden is None or not np.isfinite(hidden).all() else hidden.astype(np.float64)

    def _emphasis(self, width: int) -> Floats:
        """How much more than its share of the prior each feature has, [width]."""
        return np.ones(width)

    def _group(self, step: int, observation: Observation, state: Floats) -> _Group:
        outcome = observation.outcome
        lengths = outcome.correct_lengths
        logit = foretold = None
        if self._head is not None:
            features = self._head.scaling.apply(state[None, :])
            mean, variance = self._head.logits.at(features)
            logit = (float(mean[0]), float(variance[0]))
            length = _length(self._head, features)
            foretold = None if length is None else math.log(length)
        return _Group(
            step,
            sum(outcome.correct),
            len(outcome.correct),
            logit,
            math.log(max(math.fsum(lengths) / len(lengths), 1.0)) if lengths else None,
            foretold,
        )

    def _fit(self) -> None:
        if len(self._groups) < self.minimum:
            self._head = None
            return
        groups = self._groups
        now = max(g.step for g in groups)
        ages = np.array([now - g.step for g in groups], np.float64)
        # A group older than any that still counts must not bring a weight of 0, which would be infinite noise.
        weights = np.maximum(self.forgetting**ages, 1e-6)
        right, rolled = (
            np.array(column, np.float64) for column in zip(*((g.right, g.rolled) for g in groups), strict=True)
        )
        spread = _UNFITTED_SPREAD
        foretold = [i for i, g in enumerate(groups) if g.logit is not None]
        if len(foretold) >= _MINIMUM_FORECASTS:
            mean, variance = np.array([groups[i].logit for i in foretold], np.float64).T
            spread = best_spread(mean, variance, right[foretold], rolled[foretold], weights[foretold])
        raw = self._hidden.astype(np.float64)
        scaling = Scaling.of(raw, self._emphasis(raw.shape[1]))
        features = scaling.apply(raw)
        logits = fit_logits(features, right, rolled, weights, spread, self.ridge)
        solved = [i for i, g in enumerate(groups) if g.log_length is not None]
        lengths, center, bounds = None, 0.0, (0.0, 0.0)
        if len(solved) >= min(self.minimum, _MINIMUM_FORECASTS):
            targets = np.array([groups[i].log_length for i in solved], np.float64)
            center, bounds = float(np.average(targets, weights=weights[solved])), (targets.min(), targets.max())
            noise = self._length_noise(solved, weights) / weights[solved]
            lengths = fit_line(features[solved], targets - center, noise, self.ridge)
        self._head = _Head(scaling, logits, spread, lengths, center, (float(bounds[0]), float(bounds[1])))

    def _length_noise(self, solved: Sequence[int], weights: Floats) -> float:
        """Variance of log lengths around what was foretold of them."""
        errors = [
            (group.log_length - group.foretold_log_length, weights[i])
            for i in solved
            if (group := self._groups[i]).log_length is not None and group.foretold_log_length is not None
        ]
        if len(errors) < _MINIMUM_FORECASTS:
            return _UNFITTED_LENGTH_NOISE
        return max(math.fsum(w * e * e for e, w in errors) / math.fsum(w for _, w in errors), 1e-4)


def _length(head: _Head, features: Floats) -> float | None:
    """Foretold length in tokens, kept within the lengths seen: a line has no bounds, and its exponential less so."""
    if head.lengths is None:
        return None
    mean = float(head.lengths.at(features)[0][0]) + head.length_center
    return math.exp(min(max(mean, head.length_range[0]), head.length_range[1]))
