"""Parameters and bytes: by hand, against transformers' own models, and against what autograd keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config, Qwen3Model

from masa.rollout.slots import SlotCache
from masa.scaling import STRATEGIES, Expectations, ModelShape, Workload, known_shape, memory_per_gpu, shape_from_config
from masa.scaling.memory import (
    GIB,
    activation_bytes,
    head_bytes,
    kv_cache_bytes,
    layer_activation_bytes,
    longest_row,
)
from masa.scaling.shapes import KNOWN, shape_from_folder
from masa.tiny import MODEL_PATH
from masa.training import logprobs

# Two layers of 16 + 8 + 8 + 16 + 3 x 32 weights and 8 of norms; 10 x 4 of a shared embedding and 4 of the last norm.
TOY = ModelShape(layers=2, hidden=4, feed_forward=8, heads=2, kv_heads=1, head_size=2, vocabulary=10, is_tied=True)
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}


def _shape(name: str) -> ModelShape:
    shape = known_shape(name)
    assert shape is not None
    return shape


def test_parameters_by_hand() -> None:
    assert TOY.layer_parameters == 144 + 8
    assert TOY.parameters == 2 * 152 + 44 == 348
    assert TOY.lora_parameters(3, ["q_proj", "down_proj"]) == 2 * 3 * ((4 + 4) + (8 + 4))
    assert TOY.lora_parameters(3, "down_proj") == 2 * 3 * 12
    assert TOY.kv_bytes_per_token() == 2 * 2 * 2 * 2


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen3-0.6B-Base", 596_049_920),
        ("Qwen/Qwen3-1.7B", 1_720_574_976),
        ("Qwen/Qwen3-4B-Base", 4_022_468_096),
        ("Qwen/Qwen3-8B-Base", 8_190_735_360),
        ("Qwen/Qwen3-14B-Base", 14_768_307_200),
    ],
)
def test_parameters_of_the_recipes_models(name: str, parameters: int) -> None:
    shape = _shape(name)
    assert shape.parameters == parameters
    config = Qwen3Config(
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.is_tied,
    )
    assert _count(config) == parameters
    assert shape_from_config(config.to_dict()) == shape


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES, num_hidden_layers=3, tie_word_embeddings=False),
        Qwen2Config(**SIZES, num_hidden_layers=3, tie_word_embeddings=True),
        Qwen3Config(**SIZES, num_hidden_layers=3, head_dim=24, tie_word_embeddings=False),
    ],
    ids=["llama", "qwen2", "qwen3"],
)
def test_parameters_are_those_of_transformers(config: Any) -> None:
    shape = shape_from_config(config.to_dict())
    assert shape is not None
    assert shape.parameters == _count(config)


def _count(config: Any) -> int:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_bundled_model_is_read_from_its_folder_and_others_are_not_guessed(tmp_path: Any) -> None:
    shape = shape_from_folder(MODEL_PATH)
    assert shape is not None
    assert (shape.layers, shape.hidden, shape.parameters) == (4, 128, 637_568)
    assert shape_from_folder(tmp_path) is None
    (tmp_path / "config.json").write_text("[1]")
    assert shape_from_folder(tmp_path) is None
    assert shape_from_config({"model_type": "qwen3_moe", "hidden_size": 64}) is None
    assert shape_from_config({"model_type": "qwen3", "hidden_size": 64}) is None
    endless = LlamaConfig(**SIZES).to_dict() | {"num_hidden_layers": float("inf")}
    assert shape_from_config(endless) is None
    assert known_shape("Qwen/Qwen3-32B") is None
    assert all(name in KNOWN for name in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-14B"))


def test_lora_and_keys_and_values_of_known_models() -> None:
    # 36 x 16 x ((2560 + 4096) x 2 + (2560 + 1024) x 2 + (2560 + 9728) x 3)
    assert _shape("Qwen/Qwen3-4B").lora_parameters(16) == 33_030_144
    assert _shape("Qwen/Qwen3-8B").kv_bytes_per_token() == 2 * 36 * 8 * 128 * 2 == 147_456


def test_weights_gradients_and_moments_by_hand() -> None:
    work = Workload(problems=2, solutions=4, predictions=0, solution_limit=10, meta_limit=10)
    data_parallel, zero_2, zero_3, lora = memory_per_gpu(TOY, work, Expectations(gpus=4), lora_rank=3)
    assert [m.strategy for m in (data_parallel, zero_2, zero_3, lora)] == list(STRATEGIES)
    n, adapters = 348, TOY.lora_parameters(3)
    assert (data_parallel.weights, data_parallel.gradients, data_parallel.optimizer) == (4 * n, 4 * n, 8 * n)
    assert (zero_2.weights, zero_2.gradients, zero_2.optimizer) == (2 * n, 2 * n / 4, 12 * n / 4)
    assert (zero_3.weights, zero_3.gradients, zero_3.optimizer) == (4 * n / 4, 4 * n / 4, 8 * n / 4)
    assert (lora.weights, lora.gradients, lora.optimizer) == (4 * (n + adapters), 4 * adapters, 8 * adapters)
    assert [m.rollout_copies for m in (data_parallel, zero_2, zero_3, lora)] == [2 * n, 0, 2 * n, 2 * n]
    # Two rollouts a GPU, prompts of 512 where nothing is known, 16 bytes a token.
    assert data_parallel.kv_cache == 2 * (512 + 10) * 16
    assert data_parallel.peak == max(data_parallel.update, data_parallel.rollouts)
    assert data_parallel.fits(1)
    assert not data_parallel.fits(data_parallel.peak / GIB)  # a tenth must stay free


def test_rows_and_caches_are_as_long_as_limits_allow() -> None:
    work = Workload(problems=2, solutions=4, predictions=4, solution_limit=10, meta_limit=30, engine_rows=3)
    assert longest_row(work, Expectations(prompt_tokens=5)) == 35
    assert kv_cache_bytes(TOY, work, Expectations(prompt_tokens=5)) == 3 * 35 * 16
    longest = Workload(problems=2, solutions=4, predictions=0, solution_limit=10, meta_limit=30, prompt_limit=7)
    assert longest_row(longest, Expectations()) == 17


def test_the_engines_buffers_take_what_is_reckoned_for_a_token() -> None:
    shape = shape_from_folder(MODEL_PATH)
    assert shape is not None
    cache = SlotCache(shape.layers, slots=5)
    prefix = torch.zeros(1, shape.kv_heads, 7, shape.head_size)
    cache.join([(prefix, prefix)] * shape.layers, torch.zeros(5, dtype=torch.int64), torch.full((5,), 7))
    buffers = [buffer for layer in cache.layers for buffer in (layer.keys, layer.values)]
    columns = cache.window.columns
    assert sum(buffer.nbytes for buffer in buffers) == 5 * columns * shape.kv_bytes_per_token(width=4)


def test_the_heads_part_is_bounded_where_it_is_computed_in_parts() -> None:
    assert head_bytes(TOY, 100, is_packed=False, is_trained=True) == 2.5 * 4 * 100 * 10 + 4 * 10 * 4
    shape = _shape("Qwen/Qwen3-8B")
    assert head_bytes(shape, 1e5, is_packed=True, is_trained=False) == 2.5 * 256 * 2**20
    assert logprobs._KEPT_BYTES == 256 * 2**20  # whose part it is


@pytest.mark.parametrize("is_autocast", [True, False])
def test_activations_are_what_autograd_keeps(is_autocast: bool) -> None:
    config = Qwen3Config(**SIZES, head_dim=16, num_hidden_layers=2, tie_word_embeddings=True)
    shape = shape_from_config(config.to_dict())
    assert shape is not None
    expected = layer_activation_bytes(shape, is_autocast=is_autocast)
    kept = _kept(2, is_autocast, is_checkpointed=False)
    assert (_kept(6, is_autocast, is_checkpointed=False) - kept) / 4 == pytest.approx(expected, rel=0.02)
    # Checkpointed, each further layer costs its input alone.
    inputs = (_kept(6, is_autocast, is_checkpointed=True) - _kept(2, is_autocast, is_checkpointed=True)) / 4
    assert inputs == 64 * (4 if is_autocast else 2)
    assert activation_bytes(shape, 10, is_autocast=is_autocast, is_checkpointed=True) == 10 * (2 * inputs + expected)
    assert activation_bytes(shape, 10, is_autocast=is_autocast, is_checkpointed=False) == 10 * 2 * expected


def _kept(layers: int, is_autocast: bool, *, is_checkpointed: bool) -> float:
    """Bytes a token of all tensors that autograd keeps of a forward pass, weights and copies of them left out."""
    tokens = 251  # a number that is no size of the model, so that weights can be told apart
    model = Qwen3Model(Qwen3Config(**SIZES, head_dim=16, num_hidden_layers=layers))
    model.to(torch.float32 if is_autocast else torch.bfloat16).train()
    if is_checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    sizes: dict[int, tuple[int, torch.Tensor]] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if tokens in tensor.shape:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=is_autocast),
    ):
        model(input_ids=torch.zeros(1, tokens, dtype=torch.int64), use_cache=False)
    return sum(size for size, _ in sizes.values()) / tokens
