"""A model's weights as another engine loads them: by their names in checkpoints, adapters merged."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from masa.errors import UserError
from masa.rollout.linear import class_of, is_lora, is_plain_linear


class _Steps:
    """Steps of all optimizers in this process since this module was loaded."""

    def __init__(self) -> None:
        self.count = 0
        register_optimizer_step_post_hook(self._add)

    def _add(self, *_: Any) -> None:
        self.count += 1


_steps = _Steps()


def served_weights(model: nn.Module, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Every parameter by its name in the model's checkpoints, in `dtype`, one at a time.

    LoRA adapters are added to the weights they stand beside, in float32 and without touching the model. A head tied to
    the embedding comes under its own name too, for an engine whose head is not tied.

    Raises:
        UserError: on adapters other than plain LoRA.
    """
    base = base_model(model)
    adapted = {name: module for name, module in base.named_modules() if _is_adapted(module)}
    for name, layer in adapted.items():
        if not (is_lora(layer) and is_plain_linear(layer)):
            raise UserError(
                f"{name} has an adapter of type {type(layer).__name__}: with use_vllm only plain LoRA on linear "
                "layers is served; change target_modules or modules_to_save, or leave use_vllm out"
            )
    seen = set()
    for name, parameter in base.named_parameters():
        owner = next((owner for owner in adapted if name.startswith(f"{owner}.")), None)
        weight = parameter.detach()
        if owner is not None:
            inner = name.removeprefix(f"{owner}.")
            if not inner.startswith("base_layer."):
                continue
            name = f"{owner}.{inner.removeprefix('base_layer.')}"
            if inner == "base_layer.weight":
                weight = _merged(adapted[owner], weight)
        seen.add(name)
        yield name, weight.to(dtype)
    head = base.get_output_embeddings()
    name = next((name for name, module in base.named_modules() if module is head), None)
    if name is not None and f"{name}.weight" not in seen:
        yield f"{name}.weight", head.weight.detach().to(dtype, copy=True)  # safetensors keeps tensors apart


def served_config(model: nn.Module) -> dict[str, Any]:
    """The model's `config.json`, with a head of its own."""
    base = base_model(model)
    config: dict[str, Any] = base.config.to_dict()
    return config | {"architectures": [class_of(base).__name__], "tie_word_embeddings": False}


def state_of(model: nn.Module) -> Hashable:
    """Something that is another once a parameter has been written to, adapters switched, or any optimizer has stepped.

    PyTorch counts writes to a tensor, but neither those of fused optimizers nor those through `.data`. The former are
    known by their steps, the latter not at all. Weights that are spread over processes (FSDP2, DeepSpeed) must not be
    gathered meanwhile: what is gathered is another tensor each time, and its writes are not counted.
    """
    parameters = tuple((parameter.data_ptr(), parameter._version) for parameter in model.parameters())
    adapters = []
    for module in model.modules():
        layer: Any = module
        if _is_adapted(layer):
            adapters.append((getattr(layer, "merged", False), layer.disable_adapters, tuple(layer.active_adapters)))
    return parameters, tuple(adapters), _steps.count


def base_model(model: nn.Module) -> Any:
    """The model of transformers inside PEFT's."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def _is_adapted(module: nn.Module) -> bool:
    """Whether it is one of PEFT's layers around another, or around a copy that is trained whole."""
    return type(module).__module__.startswith("peft.") and (
        hasattr(module, "base_layer") or hasattr(module, "original_module")
    )


def _merged(layer: Any, weight: Tensor) -> Tensor:
    if layer.merged or layer.disable_adapters:
        return weight
    names = [adapter for adapter in layer.active_adapters if adapter in layer.lora_A]
    deltas = [
        layer.scaling[adapter] * (layer.lora_B[adapter].weight.float() @ layer.lora_A[adapter].weight.float())
        for adapter in names
    ]
    return weight.float() + sum(delta.detach() for delta in deltas) if deltas else weight
