"""Random models of a few thousand parameters, one for each kind of architecture that the engine serves."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from masa.records import Request

VOCABULARY = 64
POSITIONS = 256
WINDOW = 8
"""Sliding window, far shorter than the rollouts in the tests."""
EOS = (1, 7, 9)
"""Several of 64 random tokens, so that rollouts end at ragged lengths."""

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
_SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}

BUILDERS: dict[str, Callable[[], Any]] = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_SHAPE, head_dim=8)),
    "qwen2-mixed": lambda: Qwen2ForCausalLM(
        Qwen2Config(
            **_SHAPE,
            use_sliding_window=True,
            sliding_window=WINDOW,
            layer_types=["full_attention", "sliding_attention"],
        )
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_SHAPE)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=POSITIONS, n_embd=32, n_layer=2, n_head=4, **_SPECIAL)
    ),
    "mistral-sliding": lambda: MistralForCausalLM(MistralConfig(**_SHAPE, sliding_window=WINDOW)),
    "gemma3-mixed": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **_SHAPE, head_dim=8, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"]
        )
    ),
    "bloom-alibi": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, **_SPECIAL)
    ),
}


LLAMA_SHAPED = ("qwen3", "qwen2-mixed", "llama", "mistral-sliding")
"""Those with a forward pass of the engine's own."""


def build(name: str, *, dtype: torch.dtype = torch.float64) -> Any:
    """A model with weights large enough that its tokens depend on the context."""
    torch.manual_seed(0)
    model = BUILDERS[name]().eval().to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


def ragged_requests(prompts: int = 5, group: int = 2, **settings: Any) -> list[Request]:
    """Groups over prompts of 1 to 30 tokens, every request with its own limit and seed."""
    rng = random.Random(0)
    requests = []
    for _ in range(prompts):
        prompt = tuple(rng.randrange(2, VOCABULARY) for _ in range(rng.randrange(1, 31)))
        for _ in range(group):
            limit = rng.randrange(1, 50)
            requests.append(Request(prompt, limit, seed=len(requests), **settings))
    return requests
