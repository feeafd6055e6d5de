"""The method itself, pure: no torch, no files, no clock, no global random state."""

from __future__ import annotations

from masa.awareness.groups import group_advantages, zero_variance
from masa.awareness.notions import contains_notion
from masa.awareness.parsing import find_prediction, parse_prediction
from masa.awareness.predictors import Estimate, Predictor, make_predictor
from masa.awareness.prompts import TEMPLATES, MetaPrompt, add_hint, build_meta_prompt, draw_hint, resolve_template
from masa.awareness.rewards import MetaReward, MetaScorer, RewardOptions, mean_reward, meta_reward

__all__ = [
    "TEMPLATES",
    "Estimate",
    "MetaPrompt",
    "MetaReward",
    "MetaScorer",
    "Predictor",
    "RewardOptions",
    "add_hint",
    "build_meta_prompt",
    "contains_notion",
    "draw_hint",
    "find_prediction",
    "group_advantages",
    "make_predictor",
    "mean_reward",
    "meta_reward",
    "parse_prediction",
    "resolve_template",
    "zero_variance",
]
