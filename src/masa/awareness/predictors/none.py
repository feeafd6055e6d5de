"""The predictor that foretells nothing: plain GRPO, or the method without its gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masa.awareness.predictors.base import Estimate
from masa.records import Outcome, Prediction, Problem


class NoPredictor:
    """Abstains from everything: no gate, no cutoff."""

    name = "none"

    def estimate(self, problem: Problem, predictions: Sequence[Prediction]) -> Estimate:  # noqa: ARG002
        """An empty estimate."""
        return Estimate()

    def observe(self, problem: Problem, outcome: Outcome, *, step: int, probability: float = 1.0) -> None:
        """Nothing is learnt."""

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""

    def metrics(self) -> dict[str, float]:
        """Empty."""
        return {}
