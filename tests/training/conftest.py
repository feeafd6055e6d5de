"""A random two-layer Qwen3 with a byte tokenizer: the whole trainer in seconds, without a download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from small_run import SETTINGS, byte_tokenizer, first_as_expert, foretold, parity_of_length, small_model, sums
from team import EFFICIENT, SAVING, train
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from masa.awareness import HiddenStatePredictor
from masa.training.config import MASAConfig
from masa.training.trainer import MASATrainer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture
def make_model(tokenizer: PreTrainedTokenizerFast) -> Callable[..., Qwen3ForCausalLM]:
    def make(seed: int = 0, dtype: torch.dtype = torch.float32) -> Qwen3ForCausalLM:
        return small_model(tokenizer, seed, dtype)

    return make


@pytest.fixture
def make_trainer(
    tmp_path: Path, make_model: Callable[..., Qwen3ForCausalLM], tokenizer: PreTrainedTokenizerFast
) -> Callable[..., MASATrainer]:
    """A trainer over 4 problems x 4 rollouts of at most 12 tokens; keyword arguments are settings."""

    def make(
        reward: Any = parity_of_length, *, dataset: Dataset | None = None, model: Any = None, **changed: Any
    ) -> MASATrainer:
        return MASATrainer(
            model if model is not None else make_model(),
            reward,
            args=MASAConfig(**SETTINGS | {"output_dir": str(tmp_path / "run")} | changed),
            train_dataset=dataset if dataset is not None else sums(12),
            processing_class=tokenizer,
        )

    return make


@pytest.fixture
def a_random_model_foretells(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says is read as a valid prediction, and every problem gives an expert trajectory.

    Heads on hidden states are fitted from the fourth group on, so that the few steps of a test know their advice.
    """
    monkeypatch.setitem(HiddenStatePredictor.__init__.__kwdefaults__, "minimum", 4)
    monkeypatch.setattr("masa.training.sampler.parse_prediction", foretold)
    monkeypatch.setattr("masa.training.imitation.make_expert", first_as_expert)


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one process, which runs of several are held against."""
    output = tmp_path_factory.mktemp("alone") / "run"
    done = train(1, output, **EFFICIENT, **SAVING)
    assert done.returncode == 0, done.stderr
    return output
