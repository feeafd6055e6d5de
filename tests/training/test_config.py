"""Presets, derived fields and contradictions."""

from __future__ import annotations

from typing import Any

import pytest

from masa.errors import UserError
from masa.training.config import MASAConfig
from masa.training.presets import NEVER, PRESETS


def config(tmp_path: Any, **changed: Any) -> MASAConfig:
    settings: dict[str, Any] = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": "none"}
    return MASAConfig(**settings | changed)


@pytest.mark.parametrize(
    ("preset", "meta", "k", "gate", "factor", "expert", "hints"),
    [
        ("grpo", 0, NEVER, "none", None, False, False),
        ("masa", 8, NEVER, "none", None, False, False),
        ("masa-expert", 8, NEVER, "none", None, True, False),
        ("masa-efficient", 8, 120, "self", 2.0, True, True),
        ("mapr", 4, NEVER, "none", None, False, False),
        ("mapr-efficient", 4, 80, "self", 1.5, False, False),
    ],
)
def test_presets_are_the_papers_table(
    tmp_path: Any, preset: str, meta: int, k: Any, gate: str, factor: float | None, expert: bool, hints: bool
) -> None:
    args = config(tmp_path, preset=preset, num_generations=8, problems_per_step=8)
    assert (args.num_meta_generations, args.parallel_steps, args.gate) == (meta, k, gate)
    assert (args.expert_sft, args.hints) == (expert, hints)
    assert args.cutoff is (factor is not None)
    if factor is not None:
        assert args.cutoff_factor == factor
    assert (args.epsilon, args.epsilon_high, args.beta) == (0.2, 0.28, 0.0)


def test_a_users_value_wins_over_the_preset_inherited_fields_included(tmp_path: Any) -> None:
    args = config(
        tmp_path,
        preset="masa-efficient",
        problems_per_step=4,
        epsilon_high=0.5,
        hints=False,
        parallel_steps=7,
        num_meta_generations=2,
    )
    assert (args.epsilon_high, args.hints, args.parallel_steps, args.num_meta_generations) == (0.5, False, 7, 2)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"preset": "masa-eficient"}, "masa-efficient"),
        ({"preset": "masa-efficient"}, "the gate could never act"),
        ({"problems_per_step": 4, "per_device_train_batch_size": 2}, "leave per_device_train_batch_size unset"),
        ({"warm_start": -1}, "warm_start is -1"),
        ({"max_meta_length": 0}, "max_meta_length is 0"),
        ({"expert_learning_rate": 0.0}, "expert_learning_rate is 0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"max_nonfinite_steps": 0}, "max_nonfinite_steps is 0"),
        ({"reward_timeout": 0.0}, "reward_timeout is 0"),
        ({"reward_timeout": float("inf")}, "reward_timeout is inf"),
        ({"num_generations": 1}, "at least 2 solution rollouts"),
        ({"num_meta_generations": 1}, "at least 2"),
        ({"preset": "grpo", "cutoff": True, "parallel_steps": 1}, "cutoff is True but num_meta_generations is 0"),
        ({"preset": "masa-efficient", "num_meta_generations": 0}, "it needs predictions"),
        ({"preset": "grpo", "gate": "self", "parallel_steps": 1}, "gate is 'self'"),
        ({"preset": "masa", "gate": "self"}, "parallel_steps is 'never'"),
        ({"preset": "masa", "gate": "selv", "parallel_steps": 1}, "did you mean 'self'"),
        ({"loss_denominator": "life"}, "did you mean 'live'"),
        ({"audit_rate": 1.5}, "between 0 and 1"),
        ({"parallel_steps": -1}, "number of steps"),
        ({"parallel_steps": "soon"}, "number of steps"),
        ({"min_solution_length": 999}, "must lie below max_completion_length"),
        ({"loss_denominator": "all", "meta_weight": 2.0}, "meta_weight needs"),
        ({"problems_per_step": 4, "gradient_accumulation_steps": 2}, "leave gradient_accumulation_steps unset"),
        ({"problems_per_step": 0}, "at least 1"),
        (
            {"preset": "grpo", "gate": "combined", "parallel_steps": 0},
            "gate is 'combined' but num_meta_generations is 0",
        ),
        ({"preset": "masa", "parallel_steps": "auto"}, "the gate's audits decide"),
        ({"preset": "grpo", "refill": "before", "parallel_steps": 0}, "refill 'before' needs a predictor"),
        ({"preset": "dapo", "refill": "befor"}, "did you mean 'before'"),
        ({"preset": "grpo", "allocation": "knapsack", "parallel_steps": 0}, "needs a predictor"),
        (
            {"preset": "greso", "allocation": "knapsack", "allocation_most": 3},
            "it must be at most allocation_most (3;",
        ),
        ({"preset": "masa-efficient", "gate_rule": "exploration"}, "use gate 'history'"),
        ({"preset": "masa-efficient", "cutoff_rule": "mean"}, "unknown cutoff_rule"),
        ({"preset": "masa-efficient", "gate_threshold": 1.2}, "between 0 and 1"),
        ({"preset": "dapo", "loss_denominator": "all"}, "count the groups it rejects"),
        ({"preset": "dapo", "refill_limit": 0.5}, "refill_limit is 0.5"),
        ({"preset": "masa-plus", "refill": "best", "refill_limit": 1.0}, "refill_limit is 1:"),
        ({"preset": "grpo", "refill": "best", "parallel_steps": 0}, "refill 'best' needs a predictor"),
        ({"preset": "greso", "refill": "best"}, "by its own odds"),
        ({"preset": "greso", "refill_limit": float("inf")}, "a step must end"),
        ({"preset": "greso", "refill_limit": float("nan")}, "refill_limit is nan"),
        ({"meta_reward_weights": [1.0, 0.0]}, "meta_reward_weights is"),
        ({"meta_reward_weights": [0.0, 0.0, 0.0]}, "meta_reward_weights is"),
        ({"preset": "masa-efficient", "meta_problems": "unseen"}, "use gate 'combined'"),
        ({"preset": "greso", "hints": True}, "hints is True but num_meta_generations is 0"),
        ({"preset": "masa-plus", "cutoff_quantile": 1.0}, "cutoff_quantile is 1.0"),
        ({"preset": "masa-plus", "cutoff_factor": -1.0}, "cutoff_factor is -1.0"),
        ({"preset": "greso", "allocation": "knapsack", "allocation_least": 20}, "allocation_least is 20"),
        ({"preset": "grpo", "gate_rule": "calibrated"}, "gate_rule 'calibrated' needs a predictor"),
        ({"preset": "masa-efficient", "parallel_steps": "auto", "audit_rate": 0.0}, "would never be left"),
    ],
)
def test_contradictions_are_refused_in_one_line(tmp_path: Any, changed: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=r".") as caught:
        config(tmp_path, **changed)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_settings_name_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match="did you mean 'learning_rate'"):
        MASAConfig.from_dict({"lerning_rate": 1e-4})


@pytest.mark.parametrize(
    ("problems", "group", "meta", "rows"), [(16, 8, 8, 64), (4, 4, 4, 8), (3, 5, 0, 7), (1, 2, 2, 64)]
)
def test_problems_and_rows_become_fields_that_trl_accepts(
    tmp_path: Any, problems: int, group: int, meta: int, rows: int
) -> None:
    args = config(
        tmp_path,
        preset="masa",
        problems_per_step=problems,
        num_generations=group,
        num_meta_generations=meta,
        micro_batch_rows=rows,
    )
    assert args.generation_batch_size == problems * group
    assert args.steps_per_generation == args.gradient_accumulation_steps
    assert args.problems_a_step == problems
    largest = args.gradient_accumulation_steps * max(rows, args.per_device_train_batch_size * 2)
    assert problems * (group + meta) <= largest


@pytest.mark.parametrize("preset", PRESETS)
def test_resolved_settings_build_the_same_config_again(tmp_path: Any, preset: str) -> None:
    first = config(tmp_path, preset=preset, problems_per_step=4)
    plain = first.resolved()
    assert all(value is None or isinstance(value, (str, int, float, bool, list, dict)) for value in plain.values())
    again = MASAConfig.from_dict(plain)
    assert again.resolved() == plain
    assert (again.gradient_accumulation_steps, again.generation_batch_size) == (
        first.gradient_accumulation_steps,
        first.generation_batch_size,
    )


@pytest.mark.parametrize("is_fast", [True, False])
def test_precision_follows_the_machine_only_when_asked(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, is_fast: bool
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("masa.training.config.cpu_has_fast_bf16", lambda: is_fast)
    assert config(tmp_path, use_cpu=False).bf16 is False
    asked = config(tmp_path, use_cpu=False, bf16="auto")
    assert (asked.bf16, asked.use_cpu) == (is_fast, True)
    assert config(tmp_path, bf16=True).bf16 is True


def test_access_tokens_are_not_among_the_settings_that_files_keep(tmp_path: Any) -> None:
    args = config(tmp_path, hub_token="hf_secret")
    assert args.hub_token == "hf_secret"
    assert "hf_secret" not in str(args.resolved())
