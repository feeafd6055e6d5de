"""The hidden states at the end of prompts against transformers' own."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import BUILDERS, LLAMA_SHAPED, POSITIONS, VOCABULARY, build

from masa.records import Request
from masa.rollout import prefill as module
from masa.rollout.llama import is_llama_shaped
from masa.rollout.local import LocalEngine

SYSTEM = tuple(2 + i % 60 for i in range(40))


def prompts() -> list[tuple[int, ...]]:
    """Of unequal lengths, some twice, most after one system message."""
    draw = random.Random(0)
    ragged = [tuple(draw.randrange(2, VOCABULARY) for _ in range(draw.randrange(1, 31))) for _ in range(10)]
    family = [(*SYSTEM, *prompt) for prompt in ragged]
    return [*family[:6], *ragged, ragged[3], *family[4:], family[0]]


def reference(model: Any, prompts: list[tuple[int, ...]]) -> np.ndarray:
    """The last entry of transformers' own hidden states, one prompt at a time."""
    with torch.no_grad():
        rows = [model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1] for ids in prompts]
    return torch.stack(rows).float().numpy()


@pytest.mark.parametrize(
    ("name", "is_own"), [*((name, False) for name in LLAMA_SHAPED), *((name, True) for name in BUILDERS)]
)
def test_states_are_the_last_hidden_states_of_transformers(
    name: str, is_own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name, dtype=torch.float32)
    assert is_llama_shaped(model) == (name in LLAMA_SHAPED)
    if is_own:
        monkeypatch.setattr("masa.rollout.local.is_llama_shaped", lambda model: False)
    expected = reference(model, prompts())
    assert expected.std(axis=0).min() > 0.1  # it would be hollow if the state did not depend on the prompt
    found = LocalEngine(model).prompt_states(prompts())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("is_own", [False, True])
@pytest.mark.parametrize("is_disabled", [False, True])
def test_adapters_are_in_the_states(is_own: bool, is_disabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(build("qwen3", dtype=torch.float32), config)
    plain = reference(build("qwen3", dtype=torch.float32), prompts())
    assert is_llama_shaped(model)
    if is_own:
        monkeypatch.setattr("masa.rollout.local.is_llama_shaped", lambda model: False)
    if is_disabled:
        model.base_model.disable_adapter_layers()
    expected = reference(model.eval(), prompts())
    assert np.allclose(expected, plain, atol=1e-3) == is_disabled
    np.testing.assert_allclose(LocalEngine(model).prompt_states(prompts()), expected, rtol=0, atol=1e-4)


def test_equal_prompts_and_what_prompts_share_pass_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("gpt2", dtype=torch.float32)
    seen: list[torch.Tensor] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    model.lm_head.register_forward_pre_hook(lambda *_: pytest.fail("the head has nothing to do"))
    shared = LocalEngine(model).prompt_states(prompts())
    assert [tuple(tokens.shape) for tokens in seen if tokens.shape[1] >= len(SYSTEM)] == [(1, len(SYSTEM))]
    assert sum(len(tokens) for tokens in seen) == 1 + len(set(prompts()))
    # A small bound on the tokens of one pass changes the passes and not the states.
    monkeypatch.setattr(module, "_MAX_TOKENS", 60)
    seen.clear()
    bounded = LocalEngine(model).prompt_states(prompts())
    assert max(tokens.numel() for tokens in seen) <= 60
    np.testing.assert_allclose(bounded, shared, rtol=0, atol=1e-4)


def test_the_model_is_left_as_found_and_no_gradient_is_kept() -> None:
    model = build("llama", dtype=torch.float32).train()
    model.model.layers[0].eval()
    modes = [part.training for part in model.modules()]
    threads = torch.get_num_threads()
    engine = LocalEngine(model, num_threads=1)
    engine.prompt_states(prompts())
    with pytest.raises(ValueError, match="empty"):
        engine.prompt_states([(3,), ()])
    assert [part.training for part in model.modules()] == modes
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_smaller_types_are_those_of_generate(name: str) -> None:
    model = build(name, dtype=torch.float32)
    exact = LocalEngine(model).prompt_states(prompts())
    found = LocalEngine(model, compute_dtype=torch.bfloat16).prompt_states(prompts())
    assert found.dtype == np.float32
    # bfloat16 keeps 8 bits
    assert 1e-3 < np.abs(found - exact).mean() < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(LocalEngine(model).prompt_states(prompts()), found)


def test_nothing_asked_nothing_computed() -> None:
    assert LocalEngine(build("gpt2")).prompt_states([]).shape == (0, 32)


def test_what_generate_refuses_is_refused() -> None:
    engine = LocalEngine(build("gpt2", dtype=torch.float32))
    whole = tuple(3 + i % 60 for i in range(POSITIONS))
    assert engine.prompt_states([whole]).shape == (1, 32)
    with pytest.raises(ValueError, match=r"prompt 1: 257 tokens, the model has 256 positions"):
        engine.prompt_states([whole, (*whole, 3)])
    with pytest.raises(ValueError, match=r"prompt 0: token ids must lie in 0\.\.63, got 3\.\.64"):
        engine.prompt_states([(3, 64)])
    with pytest.raises(ValueError, match=r"prompt 1: the prompt is empty"):
        engine.prompt_states([(3,), ()])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_broken_weights_are_reported_and_generation_still_works_afterwards(name: str) -> None:
    model = build(name, dtype=torch.float32)
    engine = LocalEngine(model, eos_token_ids=())
    before = engine.generate([Request((3, 4), 5)])
    weight = next(model.parameters())
    kept = weight[5].clone()
    with torch.no_grad():
        weight[5] = float("nan")
    with pytest.raises(FloatingPointError, match="hidden states are not finite"):
        engine.prompt_states([(3, 4), (5, 6)])
    with torch.no_grad():
        weight[5] = kept
    assert engine.generate([Request((3, 4), 5)]) == before
