"""A random two-layer Qwen3 with a byte tokenizer: the whole trainer in seconds, without a download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from small_run import byte_tokenizer, parity_of_length, sums
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from masa.awareness import ExpertTrajectory, HiddenStatePredictor
from masa.records import Prediction
from masa.training.config import MASAConfig
from masa.training.trainer import MASATrainer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture
def make_model(tokenizer: PreTrainedTokenizerFast) -> Callable[..., Qwen3ForCausalLM]:
    def make(seed: int = 0, dtype: torch.dtype = torch.float32) -> Qwen3ForCausalLM:
        torch.manual_seed(seed)
        config = Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
        return Qwen3ForCausalLM(config).to(dtype)

    return make


@pytest.fixture
def make_trainer(
    tmp_path: Path, make_model: Callable[..., Qwen3ForCausalLM], tokenizer: PreTrainedTokenizerFast
) -> Callable[..., MASATrainer]:
    """A trainer over 4 problems x 4 rollouts of at most 12 tokens; keyword arguments are settings."""

    def make(
        reward: Any = parity_of_length, *, dataset: Dataset | None = None, model: Any = None, **changed: Any
    ) -> MASATrainer:
        settings: dict[str, Any] = {
            "preset": "grpo",
            "output_dir": str(tmp_path / "run"),
            "problems_per_step": 4,
            "num_generations": 4,
            "micro_batch_rows": 8,
            "max_completion_length": 12,
            "min_solution_length": 2,
            "meta_prompt": "brief",
            "max_steps": 3,
            "learning_rate": 1e-3,
            "lr_scheduler_type": "constant",
            "gradient_checkpointing": False,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            "logging_steps": 1,
        }
        return MASATrainer(
            model if model is not None else make_model(),
            reward,
            args=MASAConfig(**settings | changed),
            train_dataset=dataset if dataset is not None else sums(12),
            processing_class=tokenizer,
        )

    return make


@pytest.fixture
def a_random_model_foretells(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says is read as a valid prediction, and every problem gives an expert trajectory.

    Heads on hidden states are fitted from the fourth group on, so that the few steps of a test know their advice.
    """

    def foretold(text: str, **_: Any) -> Prediction:
        return Prediction((len(text) % 9) / 8, 2 + len(text) % 9, (text[:1] or "x",))

    def first(problem: Any, texts: list[str], *_: Any, step: int, prompt_ids: Any, **__: Any) -> ExpertTrajectory:
        return ExpertTrajectory(problem.key, step, texts[0], tuple(prompt_ids))

    monkeypatch.setitem(HiddenStatePredictor.__init__.__kwdefaults__, "minimum", 4)
    monkeypatch.setattr("masa.training.sampler.parse_prediction", foretold)
    monkeypatch.setattr("masa.training.imitation.make_expert", first)
