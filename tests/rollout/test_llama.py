"""The engine's own forward pass of Llama-shaped models against the models' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import LLAMA_SHAPED, VOCABULARY, build, ragged_requests
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from masa.rollout.forward import Forward, TransformersForward
from masa.rollout.linear import PackedLinear, is_plain_linear
from masa.rollout.llama import LlamaForward, is_llama_shaped
from masa.rollout.local import LocalEngine
from masa.rollout.precision import computing_in
from masa.rollout.slots import SlotCache

LENGTHS = torch.tensor([12, 3, 7])


def lora_model(dtype: torch.dtype = torch.float64, **settings: Any) -> Any:
    targets = ["q_proj", "v_proj", "down_proj"]
    config = LoraConfig(r=2, lora_alpha=3, target_modules=targets, lora_dropout=0.5, init_lora_weights=False)
    for name, value in settings.items():
        setattr(config, name, value)
    return get_peft_model(build("qwen3"), config).to(dtype).eval()


def logits_of(forward: Forward, model: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
    """After prompts of ragged lengths and after each of four more tokens, [5, rows, vocabulary]."""
    tokens = torch.randint(2, VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(1))
    cache = SlotCache(model.config.num_hidden_layers, 3, dtype=dtype)
    with torch.no_grad():
        layers, first = forward.prefill(tokens, LENGTHS)
        found = [first]
        # Right-aligned, as the cache wants them.
        for row, length in enumerate(LENGTHS.tolist()):
            one = [tuple(part[row : row + 1, :, :length] for part in pair) for pair in layers]
            cache.join(one, torch.tensor([0]), LENGTHS[row : row + 1])  # type: ignore[arg-type]
        for step in range(4):
            cache.make_room()
            found.append(forward.decode(torch.tensor([3, 4, 5]) + step, cache))
            cache.window.column += 1
    return torch.stack(found)


@pytest.mark.parametrize("name", LLAMA_SHAPED)
def test_logits_are_the_models_own(name: str) -> None:
    model = build(name)
    own = logits_of(TransformersForward(model), model)
    assert own.std() > 0.3
    # Their norms compute in float32 whatever the weights.
    torch.testing.assert_close(logits_of(LlamaForward(model, 64), model), own, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rope", [{"rope_type": "llama3", "factor": 4.0}, {"rope_type": "linear", "factor": 2.0}])
def test_scaled_rotations_are_the_models_own(rope: dict[str, Any]) -> None:
    torch.manual_seed(0)
    more = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8}
    rope = {"rope_theta": 100.0, **rope, **(more if rope["rope_type"] == "llama3" else {})}
    shape = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4}
    config = LlamaConfig(**shape, num_hidden_layers=2, num_key_value_heads=1, rope_parameters=rope)
    model = LlamaForCausalLM(config).double().eval()
    assert is_llama_shaped(model)
    own = logits_of(TransformersForward(model), model)
    torch.testing.assert_close(logits_of(LlamaForward(model, 64), model), own, rtol=0, atol=1e-5)


def test_bfloat16_stays_as_near_to_float32_as_autocast_does() -> None:
    model = build("qwen3", dtype=torch.float32)
    exact = logits_of(TransformersForward(model), model)
    with computing_in(model, torch.bfloat16):
        autocast = logits_of(TransformersForward(model), model, torch.bfloat16).float()
    packed = logits_of(LlamaForward(model, 64, torch.bfloat16), model, torch.bfloat16).float()
    assert (packed - exact).abs().mean() < 1.3 * (autocast - exact).abs().mean()


@pytest.mark.parametrize("state", ["active", "disabled", "merged", "two"])
def test_lora_is_the_models_own(state: str) -> None:
    model = lora_model()
    assert is_llama_shaped(model)
    plain = logits_of(TransformersForward(model), model)
    if state == "disabled":
        model.base_model.disable_adapter_layers()
    elif state == "merged":
        model.merge_adapter()
    elif state == "two":
        model.add_adapter("other", LoraConfig(r=3, target_modules=["k_proj", "q_proj"], init_lora_weights=False))
        model.double().base_model.set_adapter(["default", "other"])
    own = logits_of(TransformersForward(model), model)
    assert torch.allclose(own, plain, atol=1e-3) == (state in ("active", "merged"))
    torch.testing.assert_close(logits_of(LlamaForward(model, 64), model), own, rtol=0, atol=1e-5)


def test_what_it_cannot_serve_goes_through_the_model() -> None:
    assert not is_llama_shaped(build("gpt2"))
    assert not is_llama_shaped(build("gemma3-mixed"))
    assert not is_llama_shaped(lora_model(use_dora=True))
    assert not is_llama_shaped(lora_model(lora_bias=True))
    hooked = build("llama")
    hooked.model.layers[1].register_forward_hook(lambda *_: None)
    assert not is_llama_shaped(hooked)
    replaced = build("llama")
    replaced.model.layers[0].mlp.forward = lambda x: x
    assert not is_llama_shaped(replaced)
    other_activation = build("llama")
    other_activation.config.hidden_act = "gelu"
    assert not is_llama_shaped(other_activation)

    class Own(LlamaForCausalLM):
        """A model of somebody's own may compute something else."""

    assert not is_llama_shaped(Own(build("llama").config))


def test_wrappers_of_training_do_not_hinder_it() -> None:
    model = build("llama", dtype=torch.float32)
    model.enable_input_require_grads()
    model._original_forward, model.forward = model.forward, lambda *_, **__: pytest.fail("not to be called")
    assert is_llama_shaped(model)
    expected = LocalEngine(build("llama", dtype=torch.float32)).generate(ragged_requests())
    assert LocalEngine(model).generate(ragged_requests()) == expected


@pytest.mark.parametrize("name", ["llama", "lora"])
def test_the_head_of_trls_loss_does_not_hinder_it(name: str) -> None:
    model = lora_model() if name == "lora" else build(name, dtype=torch.float32)
    expected = logits_of(TransformersForward(model), model)
    add_fused_lm_head(model.get_base_model() if name == "lora" else model)
    assert is_llama_shaped(model)
    torch.testing.assert_close(logits_of(LlamaForward(model, 64), model), expected, rtol=0, atol=1e-5)


def test_ambient_autocast_is_followed() -> None:
    model, requests = build("llama", dtype=torch.float32), ragged_requests()
    inside = LocalEngine(model)
    with torch.autocast("cpu", torch.bfloat16):
        found = inside.generate(requests, logprobs=True)
    assert found == LocalEngine(model, compute_dtype=torch.bfloat16).generate(requests, logprobs=True)
    assert found != LocalEngine(model).generate(requests, logprobs=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [16, 512])
def test_packed_layers_equal_their_layers_side_by_side(dtype: torch.dtype, width: int) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(width, 600, bias=False), nn.Linear(width, 30)]
    assert all(map(is_plain_linear, layers))
    inputs = torch.randn(5, width)
    with torch.no_grad():
        found = PackedLinear(layers, dtype)(inputs)
        expected = torch.cat([layer(inputs) for layer in layers], dim=-1)
    assert found.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
