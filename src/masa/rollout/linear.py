"""Linear layers packed for many small products with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.distributed.fsdp import FSDPModule

_MIN_PACKED = 1 << 18
"""Weights in a matrix from which on oneDNN's packed product beats the plain one."""

Product = Callable[[torch.Tensor], torch.Tensor]


class PackedLinear:
    """Linear layers that read the same input, their outputs side by side, as one product.

    On a CPU the weights are copied into one matrix, laid out as its product wants them; elsewhere, where launching
    costs little and memory much, layers keep their own. LoRA stays beside it as two thin products, as in training:
    merged into bfloat16 weights a small adapter would be rounded away.
    """

    def __init__(self, layers: Sequence[nn.Module], dtype: torch.dtype) -> None:
        """
        Args:
            layers: each one `is_plain_linear`.
            dtype: of the product.
        """
        self._dtype = dtype
        plain: list[Any] = [_plain(layer) for layer in layers]
        weights = [layer.weight.to(dtype) for layer in plain]
        biases = None
        if any(layer.bias is not None for layer in plain):
            biases = [
                weight.new_zeros(weight.shape[0]) if layer.bias is None else layer.bias.to(dtype)
                for layer, weight in zip(plain, weights, strict=True)
            ]
        if weights[0].device.type == "cpu":
            weights = [torch.cat(weights)]
            biases = None if biases is None else [torch.cat(biases)]
        self._products = [
            _product(weight, bias) for weight, bias in zip(weights, biases or [None] * len(weights), strict=True)
        ]
        self._down, self._up = _adapter(layers, dtype)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs [n, in] of any floating type to outputs [n, out of all layers]."""
        inputs = inputs.to(self._dtype)
        parts = [product(inputs) for product in self._products]
        outputs = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        if self._down is None or self._up is None:
            return outputs
        return outputs + F.linear(F.linear(inputs, self._down), self._up)


def class_of(module: nn.Module) -> type[nn.Module]:
    """The module's class, without the one that sharding (FSDP2) puts before it."""
    own = type(module)
    return own.__bases__[-1] if issubclass(own, FSDPModule) else own


def is_plain_linear(layer: nn.Module) -> bool:
    """Whether `PackedLinear` takes it: `nn.Linear`, or PEFT's LoRA around one without its variants and biases."""
    if class_of(layer) is nn.Linear:
        return True
    if not is_lora(layer) or class_of(_plain(layer)) is not nn.Linear:
        return False
    lora: Any = layer
    is_settled = not (lora.merged and lora.disable_adapters)
    return is_settled and not len(lora.lora_variant) and all(part.bias is None for part in lora.lora_B.values())


def is_lora(layer: nn.Module) -> bool:
    """Whether it is PEFT's LoRA around a linear layer."""
    own = class_of(layer)
    return own.__module__ == "peft.tuners.lora.layer" and own.__name__ == "Linear"


def _plain(layer: nn.Module) -> nn.Module:
    base: nn.Module = layer.get_base_layer() if is_lora(layer) else layer  # type: ignore[operator]
    return base


def _adapter(layers: Sequence[nn.Module], dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """All active adapters of these layers as two matrices, [ranks, in] and [out of all layers, ranks]."""
    down: list[torch.Tensor] = []
    up: list[torch.Tensor] = []
    for layer in layers:
        lora: Any = layer
        names = []
        if is_lora(layer) and not lora.merged and not lora.disable_adapters:
            names = [name for name in lora.active_adapters if name in lora.lora_A]
        down.extend(lora.lora_A[name].weight.to(dtype) for name in names)
        parts = [(lora.lora_B[name].weight * lora.scaling[name]).to(dtype) for name in names]
        weight: Any = _plain(layer).weight
        up.append(torch.cat(parts, dim=1) if parts else weight.new_zeros(weight.shape[0], 0, dtype=dtype))
    if not down:
        return None, None
    return torch.cat(down), torch.block_diag(*up)  # type: ignore[no-untyped-call]


def _product(weight: torch.Tensor, bias: torch.Tensor | None) -> Product:
    if weight.device.type == "cpu" and weight.numel() >= _MIN_PACKED and _packs(weight.dtype):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        multiply = torch.ops.mkldnn._linear_pointwise
        return lambda inputs: multiply(inputs, packed, bias, "none", [], "")
    return lambda inputs: F.linear(inputs, weight, bias)


def _packs(dtype: torch.dtype) -> bool:
    if not torch._C._has_mkldnn or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
