"""MASA: reasoning models that foretell themselves, and spend rollouts by what they foretell."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from masa.awareness import meta_reward, parse_prediction
    from masa.evaluation.estimators import pass_at_k
    from masa.grading import grade
    from masa.records import Outcome, Prediction, Problem, Request, Rollout
    from masa.report import write_report
    from masa.rollout.local import LocalEngine
    from masa.rollout.vllm import VLLMEngine
    from masa.training.config import MASAConfig
    from masa.training.trainer import MASATrainer

_WHERE = {
    "LocalEngine": "masa.rollout.local",
    "MASAConfig": "masa.training.config",
    "MASATrainer": "masa.training.trainer",
    "Outcome": "masa.records",
    "Prediction": "masa.records",
    "Problem": "masa.records",
    "Request": "masa.records",
    "Rollout": "masa.records",
    "VLLMEngine": "masa.rollout.vllm",
    "grade": "masa.grading",
    "meta_reward": "masa.awareness",
    "parse_prediction": "masa.awareness",
    "pass_at_k": "masa.evaluation.estimators",
    "write_report": "masa.report",
}

__all__ = [
    "LocalEngine",
    "MASAConfig",
    "MASATrainer",
    "Outcome",
    "Prediction",
    "Problem",
    "Request",
    "Rollout",
    "VLLMEngine",
    "grade",
    "meta_reward",
    "parse_prediction",
    "pass_at_k",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Names are imported when first used: the method, grading and run folders need no torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'masa' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
