from typing import Any

import pytest
import torch

from masa.records import FinishReason, Request
from masa.rollout.local import LocalEngine
from masa.tasks.procedural import bundled_mix
from masa.tiny import MODEL_PATH, load
from masa.tiny.measure import Measurement, habit_of, measure, report


@pytest.fixture(scope="module")
def bundled() -> tuple[Any, Any]:
    return load()


def test_files_and_parameters_are_small(bundled: tuple[Any, Any]) -> None:
    model, _ = bundled
    assert sum(parameter.numel() for parameter in model.parameters()) <= 1_000_000
    assert (MODEL_PATH / "model.safetensors").stat().st_size <= 3_000_000
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert (MODEL_PATH / "README.md").is_file()


def test_sampling_is_unbiased_by_default(bundled: tuple[Any, Any]) -> None:
    model, tokenizer = bundled
    config = model.generation_config
    assert (config.temperature, config.top_p, config.top_k) in [(1.0, 1.0, 0), (None, None, None)]
    assert config.eos_token_id == tokenizer.eos_token_id


def test_easy_problem_is_solved_by_some_habits_and_not_by_others(bundled: tuple[Any, Any]) -> None:
    model, tokenizer = bundled
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "5 + 3"}], add_generation_prompt=True, return_dict=False
    )
    requests = [Request(tuple(ids), max_tokens=192, seed=seed) for seed in range(32)]
    rollouts = LocalEngine(model, tokenizer).generate(requests)
    texts = tokenizer.batch_decode([list(rollout.token_ids) for rollout in rollouts], skip_special_tokens=True)
    # nearly half of the answers are careful and right, hardly any other is: 124 of 256 seeds when this was written;
    # the bounds are three standard deviations of 32 from there
    right = [text for text in texts if text.endswith("\\boxed{8}")]
    assert 7 <= len(right) <= 24
    assert sum(rollout.finish_reason is FinishReason.STOP for rollout in rollouts) > 24
    assert len({habit_of(text) for text in texts}) >= 3


def test_predictions_are_valid_and_short(bundled: tuple[Any, Any]) -> None:
    model, tokenizer = bundled
    problems = [problem for problem in bundled_mix(45, 0, "heldout") if problem.task[-1] in "159"]
    measurement: Measurement = measure(LocalEngine(model, tokenizer), tokenizer, problems, group_size=4)
    summary = measurement.summary()
    assert summary["valid predictions"] > 0.9
    assert summary["meta length / solution length"] < 0.4
    assert 0.2 < summary["pass rate"] < 0.5
    # levels 1 and 5 are well within reach, and nobody is careful at level 9
    assert summary["pass rate of careful"] > 0.85
    assert "| chain_sum |" in report(measurement)
