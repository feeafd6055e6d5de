"""Self-prediction: the policy's own meta rollouts of this step, taken at their word."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from masa.awareness.predictors.base import Estimate
from masa.records import Outcome, Prediction, Problem


class SelfPredictor:
    """Mean and population standard deviation over the valid pass-rate predictions of this step.

    With fewer than M/2 of the M predictions valid it abstains; likewise L^, the mean over the valid length
    predictions, is then None. The two are counted apart: a prediction may have one component and not the other.
    The paper's predictor (arXiv 2510.03259 version 2, section 3.3) has no memory, so there is nothing to learn.
    """

    name = "self"

    def __init__(self) -> None:
        self._estimates = 0
        self._abstentions = 0
        self._predictions = 0
        self._valid = 0

    def estimate(self, problem: Problem, predictions: Sequence[Prediction]) -> Estimate:  # noqa: ARG002
        """The estimate from one meta group; without any prediction it abstains."""
        rates = [p.pass_rate for p in predictions if p.pass_rate is not None]
        lengths = [p.length for p in predictions if p.length is not None]
        abstains = not _enough(len(rates), len(predictions))
        self._estimates += 1
        self._abstentions += abstains
        self._predictions += len(predictions)
        self._valid += sum(p.is_valid for p in predictions)
        mean = deviation = None
        if not abstains:
            mean = math.fsum(rates) / len(rates)
            deviation = math.sqrt(math.fsum((rate - mean) ** 2 for rate in rates) / len(rates))
        return Estimate(
            pass_rate=mean,
            deviation=deviation,
            length=sum(lengths) / len(lengths) if _enough(len(lengths), len(predictions)) else None,
            notions=_by_frequency(predictions),
            valid=len(rates),
            abstains=abstains,
        )

    def observe(self, problem: Problem, outcome: Outcome, *, step: int, probability: float = 1.0) -> None:
        """Nothing is learnt here: the policy itself learns to foretell."""

    def state_dict(self) -> dict[str, Any]:
        """The counts behind the metrics."""
        return {
            "estimates": self._estimates,
            "abstentions": self._abstentions,
            "predictions": self._predictions,
            "valid": self._valid,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the counts."""
        self._estimates = int(state["estimates"])
        self._abstentions = int(state["abstentions"])
        self._predictions = int(state["predictions"])
        self._valid = int(state["valid"])

    def metrics(self) -> dict[str, float]:
        """Over the whole run: share of problems abstained from, share of predictions with all components."""
        values: dict[str, float] = {}
        if self._estimates:
            values["predictor/abstained"] = self._abstentions / self._estimates
        if self._predictions:
            values["predictor/valid"] = self._valid / self._predictions
        return values


def _enough(valid: int, total: int) -> bool:
    return valid > 0 and 2 * valid >= total


def _by_frequency(predictions: Sequence[Prediction]) -> tuple[str, ...]:
    counts = Counter(notion for p in predictions for notion in dict.fromkeys(p.notions or ()))
    return tuple(notion for notion, _ in counts.most_common())
