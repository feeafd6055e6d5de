"""A real model, SmolLM2 of 135 M parameters, in bfloat16 and with LoRA, as it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from engine_contract import ending_at, load_model
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from masa.errors import UserError
from masa.models import resolve
from masa.records import FinishReason, Request, Rollout
from masa.rollout.vllm import VLLMEngine

pytestmark = pytest.mark.vllm
TOLERANCE = 0.05
"""Nats: bfloat16 keeps 8 bits, so that logits around 20 are off by up to 0.06 each."""
QUESTIONS = ("What is 7 plus 8?", "Name the capital of France.", "Count from one to ten.", "Why is the sky blue?")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    try:
        return AutoTokenizer.from_pretrained(resolve("smollm2-135m"))
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    adapters = LoraConfig(r=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    return get_peft_model(load_model("smollm2-135m"), adapters).eval()


@pytest.fixture(scope="module")
def engine(model: Any, tokenizer: Any, make_engine: Callable[..., VLLMEngine]) -> VLLMEngine:
    return make_engine(model, tokenizer=tokenizer, dtype=torch.bfloat16, max_model_len=512)


@pytest.fixture
def prompts(tokenizer: Any) -> list[tuple[int, ...]]:
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in QUESTIONS
    ]
    return [tuple(ids) for ids in tokenizer(texts)["input_ids"]]


@contextmanager
def trained(model: Any) -> Iterator[None]:
    """Adapters that say something, meanwhile."""
    torch.manual_seed(0)
    parts = [p for name, p in model.named_parameters() if "lora_B" in name]
    with torch.no_grad():
        for part in parts:
            part.normal_(std=0.08)
    yield
    with torch.no_grad():
        for part in parts:
            part.zero_()


def gap(model: Any, requests: list[Request], rollouts: list[Rollout]) -> float:
    """Mean absolute difference between vLLM's log-probabilities and those of the model as it is, in nats."""
    found = []
    for request, rollout in zip(requests, rollouts, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([request.prompt_ids + rollout.token_ids])).logits[0]
        own = logits[len(request.prompt_ids) - 1 : -1].log_softmax(-1)
        own = own.gather(-1, torch.tensor(rollout.token_ids)[:, None])[:, 0]
        found.append((own - torch.tensor(rollout.logprobs)).abs())
    return float(torch.cat(found).mean())


def test_it_answers_within_each_requests_limit(engine: VLLMEngine, tokenizer: Any, prompts: list[Any]) -> None:
    limits = (60, 60, 5, 9)
    requests = [
        Request(prompt, limit, temperature=0, is_cutoff=limit < 60)
        for prompt, limit in zip(prompts, limits, strict=True)
    ]
    rollouts = engine.generate(requests)
    texts = tokenizer.batch_decode([list(rollout.token_ids) for rollout in rollouts], skip_special_tokens=True)
    assert "7 and 8" in texts[0]
    assert "Paris" in texts[1]
    assert [(rollout.length, rollout.finish_reason) for rollout in rollouts[2:]] == [
        (5, FinishReason.CUTOFF),
        (9, FinishReason.CUTOFF),
    ]
    assert rollouts[1].finish_reason is FinishReason.STOP


def test_logprobs_are_the_models_but_for_rounding_and_follow_its_adapters(
    engine: VLLMEngine, model: Any, prompts: list[Any]
) -> None:
    requests = [Request(prompt, 8 + 4 * i, seed=i) for i, prompt in enumerate(prompts * 2)]
    with ending_at(engine):
        plain = engine.generate(requests, logprobs=True)
        with trained(model):
            adapted = engine.generate(requests, logprobs=True)
            assert gap(model, requests, adapted) < TOLERANCE
        again = engine.generate(requests, logprobs=True)
    assert gap(model, requests, plain) < TOLERANCE
    # These adapters say enough to be told from rounding.
    assert gap(model, requests, adapted) > 2 * TOLERANCE
    assert [rollout.token_ids for rollout in again] == [rollout.token_ids for rollout in plain]
