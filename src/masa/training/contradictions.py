"""Settings that contradict each other: each named with its value and the remedy, none rewritten."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from masa.awareness import PREDICTORS
from masa.errors import unknown_key_message
from masa.training.presets import AUTO, NEVER, SPENT_ON_OTHERS

if TYPE_CHECKING:
    from masa.training.config import MASAConfig

LEAST: dict[str, float] = {
    "min_solution_length": 1,
    "max_completion_length": 1,
    "max_meta_length": 1,
    "max_prompt_length": 1,
    "micro_batch_rows": 1,
    "engine_batch_size": 1,
    "num_threads": 1,
    "warm_start": 0,
    "warm_start_updates": 1,
    "expert_buffer_size": 1,
    "expert_updates": 1,
    "show_completions_every": 0,
    "max_nonfinite_steps": 1,
    "top_k": 0,
    "refill_limit": 1,
    "meta_audit_weight": 1,
    "allocation_least": 2,
}
"""Settings that are at least so much, where they are given."""
CHOICES = {
    "loss_denominator": ("live", "all"),
    "difficulty_reward": ("power", "brier"),
    "length_reward": ("range", "log-ratio"),
    "notion_reward": ("counts", "rates"),
    "notion_matching": ("lemma", "substring"),
    "gate_rule": (None, "paper", "calibrated", "exploration"),
    "refill": ("none", "before", "after", "best"),
    "allocation": ("uniform", "knapsack"),
    "cutoff_rule": ("paper", "median", "quantile"),
    "meta_problems": ("all", "unseen"),
}
"""Settings that are one of a few words."""
SHARES = (
    "audit_rate",
    "max_gated_share",
    "difficulty_base",
    "expert_threshold",
    "gate_threshold",
    "precision_floor",
)
"""Settings from 0 to 1."""
POSITIVE = (
    "expert_learning_rate",
    "warm_start_learning_rate",
    "meta_weight",
    "allocation_budget",
    "cutoff_factor",
    "reward_timeout",
)
"""Settings above 0 and finite, where they are given."""


def contradictions(config: MASAConfig) -> list[str]:
    """What is wrong with settings as the user and the preset give them."""
    return [
        *_out_of_range(config),
        *_meta_path(config),
        *_phases(config),
        *_spending(config),
        *_lengths(config),
        *(_vllm(config) if config.use_vllm else []),
    ]


def batch_contradictions(config: MASAConfig) -> list[str]:
    """What is wrong once the number of problems a step is known."""
    problems = config.problems_a_step
    if config.gate != "none" and config.refill != "best" and not math.floor(config.max_gated_share * problems):
        return [
            f"the gate could never act: max_gated_share ({config.max_gated_share}) of {problems} problems a step is "
            "less than one; raise problems_per_step, or set gate to 'none'"
        ]
    return []


def _out_of_range(config: MASAConfig) -> list[str]:
    found = [
        unknown_key_message(name, str(getattr(config, name)), [c for c in choices if c is not None])
        for name, choices in CHOICES.items()
        if getattr(config, name) not in choices
    ]
    if config.gate not in PREDICTORS:
        found.append(unknown_key_message("gate", str(config.gate), PREDICTORS))
    found.extend(
        f"{name} is {getattr(config, name)}: it must lie between 0 and 1"
        for name in SHARES
        if not 0 <= getattr(config, name) <= 1
    )
    found.extend(
        f"{name} is {value}: it must be at least {least}"
        for name, least in LEAST.items()
        if (value := getattr(config, name)) is not None and not value >= least
    )
    found.extend(
        f"{name} is {value}: it must be above 0 and finite"
        for name in POSITIVE
        if (value := getattr(config, name)) is not None and not 0 < value < math.inf
    )
    if not 0 < config.cutoff_quantile < 1:
        found.append(f"cutoff_quantile is {config.cutoff_quantile}: it must lie between 0 and 1, both excluded")
    weights = config.meta_reward_weights
    if len(weights) != 3 or not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        found.append(
            f"meta_reward_weights is {weights}: give three, from 0 and not all 0, for difficulty, length and notions"
        )
    if not config.temperature > 0:
        found.append(f"temperature is {config.temperature}: it must be above 0, or all rollouts of a group agree")
    if config.auto_find_batch_size:
        found.append("auto_find_batch_size is True: it begins training anew; set micro_batch_rows, which bounds memory")
    if not 0 < config.top_p <= 1:
        found.append(f"top_p is {config.top_p}: it must be above 0 and at most 1")
    return found


def _meta_path(config: MASAConfig) -> list[str]:
    M = config.num_meta_generations or 0
    if M == 1 or M < 0:
        return [f"num_meta_generations is {M}: use 0 (no meta path) or at least 2, a group to compare"]
    found = []
    if M == 0:
        predictor = PREDICTORS.get(str(config.gate))
        foretells = predictor is not None and config.gate != "none" and not predictor.uses_predictions
        wanting = [
            ("gate", config.gate, "none", predictor is None or not predictor.uses_predictions),
            ("cutoff", config.cutoff, False, foretells),
            ("hints", config.hints, False, False),
            ("expert_sft", config.expert_sft, False, False),
            ("warm_start", config.warm_start, 0, False),
        ]
        found += [
            f"{name} is {value!r} but num_meta_generations is 0: it needs predictions, so set "
            f"num_meta_generations to 2 or more, or {name} to {off!r}"
            for name, value, off, is_served in wanting
            if value != off and not is_served
        ]
    if config.meta_problems == "unseen" and config.gate != "combined":
        found.append("meta_problems 'unseen' needs a predictor that does without predictions too: use gate 'combined'")
    if config.loss_denominator == "all" and config.meta_weight != 1.0:
        found.append("meta_weight needs loss_denominator 'live': with 'all' both paths share one denominator")
    return found


def _phases(config: MASAConfig) -> list[str]:
    k = config.parallel_steps
    if not (k in (NEVER, AUTO) or (isinstance(k, int) and k >= 0)):
        return [f"parallel_steps is {k!r}: use a number of steps, 0 or more, {AUTO!r} or {NEVER!r}"]
    if k == AUTO and config.gate == "none":
        return [f"parallel_steps is {AUTO!r} but gate is 'none': the gate's audits decide; name a gate, or a number"]
    if k != NEVER:
        return []
    return [
        f"{name} is on but parallel_steps is {NEVER!r}: it acts in the predictive phase only, so set "
        f"parallel_steps to a number of steps"
        for name, is_on in (
            ("cutoff", config.cutoff),
            ("gate", config.gate != "none"),
            ("hints", config.hints),
            ("allocation", config.allocation == "knapsack"),
            (f"refill {config.refill!r}", config.refill in SPENT_ON_OTHERS),
        )
        if is_on
    ]


def _spending(config: MASAConfig) -> list[str]:
    found = []
    if config.gate == "none":
        found += [
            f"{name} needs a predictor: name one in `gate`"
            for name, is_on in (
                ("allocation 'knapsack'", config.allocation == "knapsack"),
                (f"refill {config.refill!r}", config.refill in SPENT_ON_OTHERS),
                (f"gate_rule {config.gate_rule!r}", config.gate_rule is not None),
            )
            if is_on
        ]
    is_explored = config.gate == "history" and config.gate_rule in (None, "exploration")
    if config.parallel_steps == AUTO and not config.audit_rate and not is_explored:
        found.append(
            f"parallel_steps is {AUTO!r} but audit_rate is 0: without audits the predictive phase would never be left"
        )
    if config.gate_rule == "exploration" and config.gate != "history":
        found.append("gate_rule 'exploration' needs the odds of a randomised predictor: use gate 'history'")
    if config.allocation == "knapsack" and config.largest_group < config.allocation_least:
        found.append(
            f"allocation_least is {config.allocation_least}: it must be at most allocation_most "
            f"({config.largest_group}; by default twice num_generations)"
        )
    if config.refill_limit == math.inf:
        found.append("refill_limit is inf: a step must end, so give a number")
    if config.refill == "best" and config.refill_limit == 1:
        found.append("refill_limit is 1: to choose the best of the problems drawn, draw more than are rolled out")
    if config.refill == "best" and is_explored:
        found.append(
            "refill 'best' chooses by belief, but the rule of gate 'history' rolls out by its own odds: "
            "set gate_rule to 'calibrated' or 'paper', or refill to 'before'"
        )
    if config.refill == "after" and config.loss_denominator == "all":
        found.append("refill 'after' would have loss_denominator 'all' count the groups it rejects: use 'live'")
    return found


def _lengths(config: MASAConfig) -> list[str]:
    if (config.num_meta_generations or config.cutoff) and config.min_solution_length >= (
        config.max_completion_length or 0
    ):
        return [
            f"min_solution_length ({config.min_solution_length}) must lie below max_completion_length "
            f"({config.max_completion_length}), since predictions range from one to the other"
        ]
    return []


_MODES = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")


def _vllm(config: MASAConfig) -> list[str]:
    """What of TRL's settings of vLLM only TRL's own path serves, and what does not go together."""
    found = []
    if config.vllm_mode == "server" and config.vllm_python is not None:
        found.append("vllm_python starts a vLLM of the run's own: leave it out, or set vllm_mode to 'colocate'")
    if config.vllm_mode not in ("server", "colocate"):
        found.append(unknown_key_message("vllm_mode", config.vllm_mode, ("colocate", "server")))
    if config.vllm_importance_sampling_mode not in _MODES:
        found.append(unknown_key_message("vllm_importance_sampling_mode", config.vllm_importance_sampling_mode, _MODES))
    is_by_sequence = config.corrects_sampling and config.vllm_importance_sampling_mode.startswith("sequence")
    if config.loss_type == "vespo" and is_by_sequence:
        found.append("loss_type 'vespo' needs vllm_importance_sampling_mode 'token_truncate' or 'token_mask'")
    return found
