"""Parameters of dense Llama-shaped models, from their `config.json` or from a small table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_QKV_BIAS = {"qwen2": True}
_QK_NORM = {"qwen3"}
_DENSE = ("llama", "mistral", "qwen2", "qwen3")
"""Model types whose parameters the formulas below count exactly."""
_PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALL_LINEAR = "all-linear"
"""PEFT's name for every linear layer but the head."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder of Llama's kind: grouped-query attention, gated feed-forward, RMS norms, no other biases."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    is_tied: bool
    """Whether embedding and head share their matrix."""
    has_qkv_bias: bool = False
    has_qk_norm: bool = False
    """Norms of each head's queries and keys (Qwen3)."""

    @property
    def queries(self) -> int:
        """Width of all heads' queries."""
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        """Width of all heads' keys; the same as of their values."""
        return self.kv_heads * self.head_size

    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each matrix of one layer, by its name in transformers."""
        h, f = self.hidden, self.feed_forward
        sizes = ((h, self.queries), (h, self.keys), (h, self.keys), (self.queries, h), (h, f), (h, f), (f, h))
        return dict(zip(_PARTS, sizes, strict=True))

    @property
    def layer_parameters(self) -> int:
        """Of one layer: seven matrices, two norms, and what Qwen2 and Qwen3 add."""
        matrices = sum(inputs * outputs for inputs, outputs in self.linear_layers().values())
        biases = self.queries + 2 * self.keys if self.has_qkv_bias else 0
        norms = 2 * self.hidden + (2 * self.head_size if self.has_qk_norm else 0)
        return matrices + biases + norms

    @property
    def outer_parameters(self) -> int:
        """Embedding, head (once if tied) and the last norm."""
        return self.vocabulary * self.hidden * (1 if self.is_tied else 2) + self.hidden

    @property
    def parameters(self) -> int:
        """All of them; a shared matrix counts once, as in `sum(p.numel() for p in model.parameters())`."""
        return self.layers * self.layer_parameters + self.outer_parameters

    def lora_parameters(self, rank: int, targets: str | Sequence[str] = ALL_LINEAR) -> int:
        """Trainable parameters of LoRA adapters: rank x (inputs + outputs) a matrix (arXiv 2106.09685).

        Args:
            rank: r.
            targets: names of matrices as in `linear_layers`, or `all-linear`; others are not counted.
        """
        names = _PARTS if targets == ALL_LINEAR else [targets] if isinstance(targets, str) else targets
        sizes = self.linear_layers()
        return self.layers * sum(rank * sum(sizes[name]) for name in names if name in sizes)

    def kv_bytes_per_token(self, width: int = 2) -> int:
        """Bytes of keys and values of one token in all layers.

        Args:
            width: bytes a number; 2 for bfloat16.
        """
        return 2 * self.layers * self.keys * width


def shape_from_config(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a model's `config.json` tells; None for model types that the formulas do not cover."""
    kind = config.get("model_type")
    if kind not in _DENSE:
        return None
    try:
        heads = int(config["num_attention_heads"])
        return ModelShape(
            layers=int(config["num_hidden_layers"]),
            hidden=int(config["hidden_size"]),
            feed_forward=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or config["hidden_size"] // heads),
            vocabulary=int(config["vocab_size"]),
            is_tied=bool(config.get("tie_word_embeddings", False)),
            has_qkv_bias=_QKV_BIAS.get(kind, bool(config.get("attention_bias", False))),
            has_qk_norm=kind in _QK_NORM,
        )
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def shape_from_folder(folder: Path) -> ModelShape | None:
    """The shape of a model folder; None if its `config.json` cannot be read or is not covered."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return shape_from_config(config) if isinstance(config, dict) else None


def _qwen3(layers: int, hidden: int, feed_forward: int, heads: int, *, is_tied: bool) -> ModelShape:
    return ModelShape(layers, hidden, feed_forward, heads, 8, 128, 151_936, is_tied, has_qk_norm=True)


KNOWN = {
    "Qwen/Qwen3-0.6B": _qwen3(28, 1024, 3072, 16, is_tied=True),
    "Qwen/Qwen3-1.7B": _qwen3(28, 2048, 6144, 16, is_tied=True),
    "Qwen/Qwen3-4B": _qwen3(36, 2560, 9728, 32, is_tied=True),
    "Qwen/Qwen3-8B": _qwen3(36, 4096, 12_288, 32, is_tied=False),
    "Qwen/Qwen3-14B": _qwen3(40, 5120, 17_408, 40, is_tied=False),
}
"""From the `config.json` of each on the Hub; the `-Base` models are of the same shape."""


def known_shape(name: str) -> ModelShape | None:
    """The shape of a model of the recipes by its Hub id, `-Base` or not; None for others."""
    return KNOWN.get(name.removesuffix("-Base"))
