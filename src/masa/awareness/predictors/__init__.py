"""Predictors of a problem's pass rate, behind one interface."""

from __future__ import annotations

from typing import Any

from masa.awareness.predictors.base import Estimate, Evidence, Observation, Predictor
from masa.awareness.predictors.combined import CombinedPredictor
from masa.awareness.predictors.hidden_state import HiddenStatePredictor
from masa.awareness.predictors.history import HistoryPredictor
from masa.awareness.predictors.in_context import InContextPredictor
from masa.awareness.predictors.none import NoPredictor
from masa.awareness.predictors.posterior import PosteriorPredictor
from masa.awareness.predictors.self_prediction import SelfPredictor
from masa.awareness.predictors.stacked import StackedPredictor
from masa.errors import UserError, unknown_key_message

PREDICTORS: dict[str, type[Predictor]] = {
    kind.name: kind
    for kind in (
        NoPredictor,
        SelfPredictor,
        HistoryPredictor,
        PosteriorPredictor,
        InContextPredictor,
        HiddenStatePredictor,
        CombinedPredictor,
        StackedPredictor,
    )
}
"""By name."""


def make_predictor(name: str, **options: Any) -> Predictor:
    """A predictor by its name; options go to its constructor.

    Raises:
        UserError: for an unknown name, naming the nearest known one.
    """
    if name not in PREDICTORS:
        raise UserError(unknown_key_message("predictor", name, PREDICTORS))
    return PREDICTORS[name](**options)


__all__ = [
    "PREDICTORS",
    "CombinedPredictor",
    "Estimate",
    "Evidence",
    "HiddenStatePredictor",
    "HistoryPredictor",
    "InContextPredictor",
    "NoPredictor",
    "Observation",
    "PosteriorPredictor",
    "Predictor",
    "SelfPredictor",
    "StackedPredictor",
    "make_predictor",
]
