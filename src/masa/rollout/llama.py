"""The forward pass of Llama-shaped models, in fewer and larger operations than their own modules make.

A decoding step of a small model is mostly overhead: modules calling modules, six element-wise operations where one
does, attention that reads keys one query at a time. This is the same arithmetic without that. Weights are read from
the model, and packed for matrix products, once a call; the model itself is not touched.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.distributed.fsdp import FSDPModule

from masa.rollout.linear import PackedLinear, class_of, is_plain_linear
from masa.rollout.slots import Layers, SlotCache

_MODELS = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
_FSDP, _DEEPSPEED = "torch.distributed.fsdp", "deepspeed."
_TRLS_HEAD = "trl.trainer.utils"
"""Where `add_fused_lm_head` is."""
_ROPES = {"default", "linear", "llama3", "yarn"}
"""Rotary embeddings that depend on the position alone, not on the length of the sequence."""


def is_llama_shaped(model: nn.Module) -> bool:
    """Whether `LlamaForward` computes what the model's own forward pass does.

    It must be of a known class, with plain or LoRA linear layers; and nobody may wait, by a hook or a replaced method,
    for its modules to be called.
    """
    base = _base(model)
    own = class_of(base)
    if own.__name__ not in _MODELS or not own.__module__.startswith("transformers.models."):
        return False
    config = base.config
    if config.hidden_act != "silu" or config.rope_parameters.get("rope_type", "default") not in _ROPES:
        return False
    if class_of(base.model.embed_tokens) is not nn.Embedding or any(
        _is_watched(module, is_outermost=module is model) for module in model.modules()
    ):
        return False
    layers = base.model.layers
    parts = [part for layer in layers for block in (layer.self_attn, layer.mlp) for part in _projections(block)]
    return all(map(is_plain_linear, [base.lm_head, *parts]))


def _base(model: nn.Module) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def _projections(block: nn.Module) -> list[nn.Module]:
    return [part for name, part in block.named_children() if name.endswith("_proj")]


def _is_watched(module: nn.Module, *, is_outermost: bool) -> bool:
    """Whether somebody waits for the module to be called, other than those who are content without."""
    for hook in [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]:
        origin = getattr(hook, "__module__", "")
        # Gradient checkpointing has the embeddings' output ask for gradients, of which there are none here; FSDP
        # gathers weights for a call, which whoever shards has done for the whole model before rollouts; DeepSpeed's
        # engine accounts for calls of the whole model, and has hooks in it besides wherever weights are not whole.
        is_content = (
            getattr(hook, "__name__", "") == "make_inputs_require_grads"
            or (isinstance(module, FSDPModule) and origin.startswith(_FSDP))
            or (is_outermost and origin.startswith(_DEEPSPEED))
        )
        if not is_content:
            return True
    return _is_replaced(module)


def _is_replaced(module: nn.Module) -> bool:
    """Whether a method of the module's own stands in front of its class's forward pass and computes something else."""
    own = vars(module).get("forward")
    if own is None:
        return False
    # accelerate wraps the outermost forward for mixed precision, and keeps the original.
    function: Any = getattr(vars(module).get("_original_forward", own), "__func__", None)
    # TRL's trainers put a method there that serves their loss, and leaves all other calls to the original.
    if getattr(function, "__globals__", {}).get("__name__") == _TRLS_HEAD:
        original = inspect.getclosurevars(function).nonlocals.get("original_forward")
        function = getattr(original, "__func__", None)
    return function is not class_of(module).forward


class LlamaForward:
    """A `Forward` over Llama, Mistral, Qwen2 and Qwen3, plain or with LoRA."""

    def __init__(self, model: nn.Module, positions: int, dtype: torch.dtype | None = None) -> None:
        """
        Args:
            model: one that `is_llama_shaped`.
            positions: that prompts with their rollouts reach at most.
            dtype: of matrix products, keys and values, as under autocast; by default the weights' own.
        """
        base = _base(model)
        config = base.config
        attention = base.model.layers[0].self_attn
        self._embedding: torch.Tensor = base.model.embed_tokens.weight
        self._norm: torch.Tensor = base.model.norm.weight
        self._eps: float = config.rms_norm_eps
        dtype = dtype or self._embedding.dtype
        self._layers = [_Layer.of(layer, dtype) for layer in base.model.layers]
        self._head_layer: nn.Module = base.lm_head
        self._dtype = dtype
        self._dim: int = attention.head_dim
        self._heads: int = config.num_attention_heads
        self._kv_heads: int = config.num_key_value_heads
        self._scaling: float = attention.scaling
        places = torch.arange(positions, device=self._embedding.device)[None]
        cos, sin = base.model.rotary_emb(self._embedding, places)
        # Halves are rotated by a roll, which leaves the sign to the sines.
        half = self._dim // 2
        self._cos, self._sin = cos[0], torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)

    def prefill(
        self, tokens: torch.Tensor, lengths: torch.Tensor, past: Layers | None = None
    ) -> tuple[Layers, torch.Tensor]:
        """See `Forward.prefill`."""
        layers, states = self.states(tokens, lengths, past)
        return layers, self._head(states)

    def states(
        self, tokens: torch.Tensor, lengths: torch.Tensor, past: Layers | None = None
    ) -> tuple[Layers, torch.Tensor]:
        """See `Forward.states`."""
        rows, width = tokens.shape
        before = past[0][0].shape[2] if past else 0
        positions = torch.arange(before, before + width, device=tokens.device).repeat(rows)
        attention = _PromptAttention(rows, width, past, self._scaling)
        hidden = self._hidden(tokens.flatten(), positions, attention)
        last = torch.arange(rows) * width + lengths - 1
        return attention.layers, self._normed(hidden[last.to(tokens.device)], self._norm)

    def decode(self, tokens: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        """See `Forward.decode`."""
        attention = _SlotAttention(cache, self._kv_heads, self._scaling)
        hidden = self._hidden(tokens, cache.positions().to(tokens.device), attention)
        return self._head(self._normed(hidden, self._norm))

    def _hidden(self, tokens: torch.Tensor, positions: torch.Tensor, attention: _Attention) -> torch.Tensor:
        """The last layer's output for tokens [n] at positions [n], shape [n, width]."""
        hidden = F.embedding(tokens, self._embedding)
        cos, sin = self._cos[positions, None], self._sin[positions, None]
        rotated = self._heads + self._kv_heads
        for number, layer in enumerate(self._layers):
            states = layer.query_key_value(self._normed(hidden, layer.attention_norm)).view(len(tokens), -1, self._dim)
            pair, values = states[:, :rotated], states[:, rotated:]
            if layer.query_key_norm is not None:
                pair = F.rms_norm(pair, (self._dim,), eps=self._eps) * layer.query_key_norm
            pair = torch.addcmul(pair * cos, pair.roll(self._dim // 2, -1), sin)
            mixed = attention(number, layer.window, pair[:, : self._heads], pair[:, self._heads :], values)
            hidden += layer.output(mixed)
            gate, up = layer.gate_up(self._normed(hidden, layer.mlp_norm)).chunk(2, dim=-1)
            hidden += layer.down(F.silu(gate).mul_(up))
        return hidden

    def _normed(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(hidden, weight.shape, weight, self._eps)

    @cached_property
    def _head(self) -> PackedLinear:
        # The largest matrix of a small model, and of no use to who asks for hidden states only.
        return PackedLinear([self._head_layer], self._dtype)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A decoder layer's weights."""

    query_key_value: PackedLinear
    query_key_norm: torch.Tensor | None
    """[query and key heads, dim]."""
    output: PackedLinear
    gate_up: PackedLinear
    down: PackedLinear
    attention_norm: torch.Tensor
    mlp_norm: torch.Tensor
    window: int | None
    """Tokens that attention sees, the newest included; None: all."""

    @staticmethod
    def of(layer: Any, dtype: torch.dtype) -> _Layer:
        attention, mlp, config = layer.self_attn, layer.mlp, layer.self_attn.config
        norm = None
        if hasattr(attention, "q_norm"):
            heads = (config.num_attention_heads, config.num_key_value_heads)
            weights = (attention.q_norm.weight, attention.k_norm.weight)
            norm = torch.cat([weight.expand(count, -1) for count, weight in zip(heads, weights, strict=True)])
        is_mistral = config.model_type == "mistral"
        return _Layer(
            PackedLinear([attention.q_proj, attention.k_proj, attention.v_proj], dtype),
            norm,
            PackedLinear([attention.o_proj], dtype),
            PackedLinear([mlp.gate_proj, mlp.up_proj], dtype),
            PackedLinear([mlp.down_proj], dtype),
            layer.input_layernorm.weight,
            layer.post_attention_layernorm.weight,
            config.sliding_window if is_mistral else getattr(attention, "sliding_window", None),
        )


class _Attention(Protocol):
    def __call__(
        self, layer: int, window: int | None, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """What n tokens gather, [n, query heads * dim], from queries, keys and values, each [n, heads, dim]."""
        ...


class _PromptAttention:
    """Causal attention within prompts, and to the tokens that they all continue."""

    def __init__(self, rows: int, width: int, past: Layers | None, scaling: float) -> None:
        self.layers: Layers = []
        """Keys and values of the prompts' own tokens."""
        self._shape = (rows, width)
        self._past = past
        self._scaling = scaling

    def __call__(
        self, layer: int, window: int | None, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        rows, width = self._shape
        queries, keys, values = (
            part.reshape(rows, width, *part.shape[1:]).transpose(1, 2) for part in (queries, keys, values)
        )
        keys, values = keys.to(values.dtype), values.contiguous()
        self.layers.append((keys, values))
        if self._past is not None:
            before_keys, before_values = (part.expand(rows, -1, -1, -1) for part in self._past[layer])
            keys, values = torch.cat([before_keys, keys], dim=2), torch.cat([before_values, values], dim=2)
        before = keys.shape[2] - width
        mask = None
        if before or (window is not None and window < width):
            columns = torch.arange(before + width, device=keys.device)
            mask = columns <= columns[before:, None]
            if window is not None:
                mask &= columns > columns[before:, None] - window
        mixed = F.scaled_dot_product_attention(
            queries.to(values.dtype), keys, values, mask, is_causal=mask is None, scale=self._scaling, enable_gqa=True
        )
        return mixed.transpose(1, 2).reshape(rows * width, -1)


class _SlotAttention:
    """Attention of each row's newest token to the row's columns of the cache.

    Query heads that share a key head are one product. On a CPU this is several times faster in bfloat16, and no slower
    in float32, than the fused kernel, which is made for many queries.
    """

    def __init__(self, cache: SlotCache, heads: int, scaling: float) -> None:
        self._cache = cache
        self._heads = heads
        self._scaling = scaling
        self._masks: dict[int | None, torch.Tensor] = {}

    def __call__(
        self, layer: int, window: int | None, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        rows, _, dim = queries.shape
        batch = rows * self._heads
        all_keys, all_values = self._cache.update(keys[:, :, None], values[:, :, None], layer)
        all_keys, all_values = all_keys.flatten(0, 1), all_values.flatten(0, 1)
        queries = queries.to(all_keys.dtype).reshape(batch, -1, dim)
        scores = torch.baddbmm(self._mask(window, queries), queries, all_keys.mT, alpha=self._scaling)
        shares = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
        return torch.bmm(shares.to(all_values.dtype), all_values).view(rows, -1)

    def _mask(self, window: int | None, queries: torch.Tensor) -> torch.Tensor:
        """What scores begin with: 0 where a column is seen, -inf elsewhere, [rows * heads, 1, columns]."""
        if window not in self._masks:
            seen = self._cache.visible(queries.device, window).repeat_interleave(self._heads, dim=0)
            self._masks[window] = torch.where(seen, queries.new_zeros(()), float("-inf"))[:, None]
        return self._masks[window]
