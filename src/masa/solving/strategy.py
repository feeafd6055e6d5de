"""How a question's tokens are spent, put together from small parts: samples, when to stop, what is foretold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from masa.awareness.beliefs import Beta
from masa.awareness.cutoff import Cutoff
from masa.awareness.predictors import Estimate, Predictor, SelfPredictor
from masa.errors import UserError, unknown_key_message
from masa.solving.stopping import UNIFORM, AdaptiveConsistency, StoppingRule
from masa.solving.worth import LEAST_GAIN, RIVAL

SAMPLES = 16
PREDICTIONS = 4


@dataclass(frozen=True, slots=True)
class Foretelling:
    """Predictions before the samples, and what follows from them.

    Raises:
        ValueError: for a setting out of range.
    """

    predictions: int = PREDICTIONS
    """K, meta rollouts a question."""
    predictor: Predictor = field(default_factory=SelfPredictor)
    """Makes an estimate of them: `self` takes them at their word, a fitted predictor corrects them."""
    cutoff: Cutoff | None = None
    """Gives the token limit from the foretold length L^; None leaves the run's own limit."""
    hints: bool = False
    """Whether samples get the notions of one prediction to read."""
    trust: float = 8.0
    """Votes that a prediction may outweigh, at most."""
    rival: float = RIVAL
    """Chance that two wrong samples name the same wrong answer (see `masa.solving.worth`)."""
    least_gain: float = LEAST_GAIN
    """By how much a further sample must raise the chance that the vote is right."""
    budget_share: float = 0.5
    """Of a token budget, what predictions may take at most."""

    def __post_init__(self) -> None:
        if self.predictions < 1:
            raise ValueError(f"predictions must be at least 1, got {self.predictions}")
        if not self.trust > 0:
            raise ValueError(f"trust must be above 0, got {self.trust}")
        for name in ("rival", "least_gain", "budget_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")

    def belief(self, estimate: Estimate | None) -> Beta:
        """What is believed of a question's pass rate p: Beta(1 + w m, 1 + w (1 - m)), uniform without an estimate.

        m is the estimate's mean, w its weight in votes, at most `trust`: K equal predictions have no spread, and are
        no certainty for that.
        """
        held = None if estimate is None else estimate.beta
        if held is None:
            return UNIFORM
        weight = min(self.trust, held.a + held.b)
        return Beta(1 + weight * held.mean, 1 + weight * (1 - held.mean))


@dataclass(frozen=True, slots=True)
class Strategy:
    """What is done with a question.

    - neither part: `samples` answers and a majority vote (self-consistency, arXiv 2203.11171);
    - `stopping`: answers in rounds until the vote is settled, `samples` at most;
    - `foretelling`: a token limit and a number of samples by prediction, `samples` at most;
    - both: answers in rounds until the vote, with the prediction as its prior, is settled or the foretold number is
      drawn; what a token budget leaves over goes to the votes that are still open.

    Raises:
        ValueError: for fewer than one sample, or a prediction that is to sharpen a rule which cannot take it in.
    """

    samples: int = SAMPLES
    """A question, at most."""
    stopping: StoppingRule | None = None
    foretelling: Foretelling | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if self.foretelling and self.stopping and getattr(self.stopping, "posterior", None) != "beta":
            raise ValueError("a prediction can sharpen the beta posterior alone: choose it, or leave out predictions")


_PARTS: dict[str, tuple[bool, bool]] = {
    "uniform": (False, False),
    "adaptive": (True, False),
    "learned": (True, False),
    "predicted": (False, True),
    "both": (True, True),
}

STRATEGIES = tuple(_PARTS)
"""By name: neither part of a `Strategy`, the stopping rule, one that is learnt, the prediction, both."""


def parts_of(name: str) -> tuple[bool, bool]:
    """Whether a strategy by name stops by a rule, and whether it foretells.

    Raises:
        UserError: for an unknown name, naming the nearest known one.
    """
    if name not in _PARTS:
        raise UserError(unknown_key_message("strategy", name, STRATEGIES))
    return _PARTS[name]


def make_strategy(
    name: str,
    *,
    samples: int = SAMPLES,
    stopping: StoppingRule | None = None,
    foretelling: Callable[[], Foretelling] = Foretelling,
) -> Strategy:
    """A strategy by name; parts that it does not have are left out.

    Args:
        name: one of `STRATEGIES`.
        samples: a question, at most.
        stopping: default: the paper's threshold.
        foretelling: makes the part where there is one.

    Raises:
        UserError: for an unknown name, naming the nearest known one.
        ValueError: as `Strategy`.
    """
    stops, foretells = parts_of(name)
    return Strategy(
        samples=samples,
        stopping=(stopping or AdaptiveConsistency()) if stops else None,
        foretelling=foretelling() if foretells else None,
    )
