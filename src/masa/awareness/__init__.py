"""The method itself, pure: no torch, no files, no clock, no global random state."""

from __future__ import annotations

from masa.awareness.allocation import Allocation, allocate, group_scale, row_weight
from masa.awareness.beliefs import Beta
from masa.awareness.calibration import (
    AwarenessSummary,
    Classification,
    ReliabilityBin,
    awareness_summary,
    brier,
    classify,
    expected_calibration_error,
    pearson,
    reliability_table,
    spearman,
)
from masa.awareness.cutoff import Cutoff, CutoffDecision, CutoffRule
from masa.awareness.cutoff_audit import CutoffReport
from masa.awareness.expert import ExpertBuffer, ExpertOptions, ExpertTrajectory, format_prediction, make_expert
from masa.awareness.gate import Gate, GateDecision
from masa.awareness.gate_audit import GateEvent, GateReport
from masa.awareness.gate_rules import CalibratedRule, ExplorationRule, GateRule, PaperRule
from masa.awareness.groups import group_advantages, zero_variance
from masa.awareness.intervals import (
    Interval,
    bootstrap_average_interval,
    bootstrap_mean_interval,
    correlation_interval,
    student_t_interval,
    wilson_interval,
)
from masa.awareness.length_calibration import LengthCalibration
from masa.awareness.notions import NotionMatcher, contains_notion
from masa.awareness.parsing import find_prediction, parse_prediction
from masa.awareness.phases import FixedPhases, Phases, PhaseSwitch
from masa.awareness.predictors import (
    PREDICTORS,
    CombinedPredictor,
    Estimate,
    Evidence,
    HiddenStatePredictor,
    HistoryPredictor,
    InContextPredictor,
    NoPredictor,
    Observation,
    PosteriorPredictor,
    Predictor,
    SelfPredictor,
    StackedPredictor,
    make_predictor,
)
from masa.awareness.prompts import TEMPLATES, MetaPrompt, add_hint, build_meta_prompt, draw_hint, resolve_template
from masa.awareness.rewards import MetaReward, MetaScorer, RewardOptions, mean_reward, meta_reward
from masa.awareness.warm_start import own_notions, warm_start_target

__all__ = [
    "PREDICTORS",
    "TEMPLATES",
    "Allocation",
    "AwarenessSummary",
    "Beta",
    "CalibratedRule",
    "Classification",
    "CombinedPredictor",
    "Cutoff",
    "CutoffDecision",
    "CutoffReport",
    "CutoffRule",
    "Estimate",
    "Evidence",
    "ExpertBuffer",
    "ExpertOptions",
    "ExpertTrajectory",
    "ExplorationRule",
    "FixedPhases",
    "Gate",
    "GateDecision",
    "GateEvent",
    "GateReport",
    "GateRule",
    "HiddenStatePredictor",
    "HistoryPredictor",
    "InContextPredictor",
    "Interval",
    "LengthCalibration",
    "MetaPrompt",
    "MetaReward",
    "MetaScorer",
    "NoPredictor",
    "NotionMatcher",
    "Observation",
    "PaperRule",
    "PhaseSwitch",
    "Phases",
    "PosteriorPredictor",
    "Predictor",
    "ReliabilityBin",
    "RewardOptions",
    "SelfPredictor",
    "StackedPredictor",
    "add_hint",
    "allocate",
    "awareness_summary",
    "bootstrap_average_interval",
    "bootstrap_mean_interval",
    "brier",
    "build_meta_prompt",
    "classify",
    "contains_notion",
    "correlation_interval",
    "draw_hint",
    "expected_calibration_error",
    "find_prediction",
    "format_prediction",
    "group_advantages",
    "group_scale",
    "make_expert",
    "make_predictor",
    "mean_reward",
    "meta_reward",
    "own_notions",
    "parse_prediction",
    "pearson",
    "reliability_table",
    "resolve_template",
    "row_weight",
    "spearman",
    "student_t_interval",
    "warm_start_target",
    "wilson_interval",
    "zero_variance",
]
