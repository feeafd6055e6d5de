"""What prompts share is computed once, and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, build

from masa.records import Request
from masa.rollout import prefill as module
from masa.rollout.local import LocalEngine
from masa.rollout.prefill import shared_part

SYSTEM = tuple(2 + i % 60 for i in range(40))


def prompts(count: int = 12) -> list[tuple[int, ...]]:
    """A family of ragged prompts after one system message, and two strangers."""
    family = [(*SYSTEM, 5 + i, *range(3, 4 + 2 * i)) for i in range(count)]
    return [(9, 8, 7), *family, tuple(range(60, 20, -1))]


def test_the_largest_family_shares_what_it_begins_with() -> None:
    assert shared_part(prompts()) == SYSTEM
    assert shared_part([]) == ()
    # Too few tokens saved to be worth a pass of their own.
    assert shared_part(prompts(count=3)) == ()
    # A prompt that is the beginning of another keeps its last token, whose logits are wanted.
    long = tuple(range(2, 60)) * 6
    assert shared_part([long, (*long, 3)]) == long[:-1]


@pytest.mark.parametrize("name", ["qwen3", "qwen2-mixed", "gpt2", "gemma3-mixed", "bloom-alibi"])
def test_sharing_changes_no_token(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name)
    requests = [Request(prompt, 12, seed=i) for i, prompt in enumerate(prompts()) for _ in range(2)]
    shared = LocalEngine(model, eos_token_ids=(), max_batch_size=9).generate(requests)
    monkeypatch.setattr(module, "_MIN_SAVED", 10**9)
    assert LocalEngine(model, eos_token_ids=(), max_batch_size=9).generate(requests) == shared


def test_the_shared_part_passes_the_model_once() -> None:
    model = build("qwen3")
    widths: list[int] = []

    def see(_module: Any, arguments: Any, _output: Any) -> None:
        widths.append(arguments[0].shape[1])

    model.get_input_embeddings().register_forward_hook(see)
    requests = [Request(prompt, 3, seed=i) for i, prompt in enumerate(prompts())]
    # Four slots: the family is spread over several admissions.
    LocalEngine(model, eos_token_ids=(), max_batch_size=4).generate(requests)
    assert widths.count(len(SYSTEM)) == 2  # the shared part, and the stranger that happens to be as long
    assert max(width for width in widths if width != len(SYSTEM)) < len(SYSTEM)
    assert max(max(prompt) for prompt in prompts()) < VOCABULARY
    assert torch.is_grad_enabled()
