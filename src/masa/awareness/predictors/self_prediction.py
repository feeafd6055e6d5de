"""Self-prediction: the policy's own meta rollouts of this step, taken at their word."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from masa.awareness.predictors.base import Estimate, Evidence, Predictor
from masa.records import Prediction


class SelfPredictor(Predictor):
    """Mean and population standard deviation over the valid pass-rate predictions of this step.

    With fewer than M/2 of the M predictions valid it abstains; likewise L^, the mean over the valid length
    predictions, is then None. The two are counted apart: a prediction may have one component and not the other.
    The paper's predictor (arXiv 2510.03259 version 2, section 3.3) has no memory: it is the policy that learns.
    """

    name = "self"
    uses_predictions = True

    def estimate(self, evidence: Evidence) -> Estimate:
        """The estimate from one meta group; without any prediction it abstains."""
        predictions = evidence.predictions
        rates = [p.pass_rate for p in predictions if p.pass_rate is not None]
        lengths = [p.length for p in predictions if p.length is not None]
        abstains = not _enough(len(rates), len(predictions))
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


def _enough(valid: int, total: int) -> bool:
    return valid > 0 and 2 * valid >= total


def _by_frequency(predictions: Sequence[Prediction]) -> tuple[str, ...]:
    counts = Counter(notion for p in predictions for notion in dict.fromkeys(p.notions or ()))
    return tuple(notion for notion, _ in counts.most_common())
