"""The predictor that foretells nothing: plain GRPO, or the method without its gate."""

from __future__ import annotations

from masa.awareness.predictors.base import Estimate, Evidence, Predictor


class NoPredictor(Predictor):
    """Abstains from everything: no gate, no cutoff."""

    name = "none"

    def estimate(self, evidence: Evidence) -> Estimate:  # noqa: ARG002
        """An empty estimate."""
        return Estimate()
