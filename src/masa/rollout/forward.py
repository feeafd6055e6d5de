"""How prompts and single tokens pass a model: any model of transformers, through its own forward pass."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch
from transformers.cache_utils import DynamicCache

from masa.rollout.slots import Layers, SlotCache


class Forward(Protocol):
    """A model as the engine uses it."""

    def prefill(
        self, tokens: torch.Tensor, lengths: torch.Tensor, past: Layers | None = None
    ) -> tuple[Layers, torch.Tensor]:
        """Run prompts, padded on the right: causal attention needs no mask then, and positions are the plain ones.

        Args:
            tokens: [prompts, width].
            lengths: of each prompt, [prompts], on the CPU.
            past: keys and values of tokens that all prompts continue, [1, heads, columns, dim].

        Returns:
            Keys and values of these tokens, [prompts, heads, width, dim], those of padding to be ignored; and the
            logits after each prompt's last token, [prompts, vocabulary].
        """
        ...

    def states(
        self, tokens: torch.Tensor, lengths: torch.Tensor, past: Layers | None = None
    ) -> tuple[Layers, torch.Tensor]:
        """As `prefill`, but with what the output head reads in place of logits: [prompts, width of the model]."""
        ...

    def decode(self, tokens: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        """Logits after one more token a row, [rows, vocabulary].

        Args:
            tokens: [rows].
            cache: takes their keys and values in its next column.
        """
        ...


class TransformersForward:
    """Through the model's own forward pass."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        base: Any = model
        if hasattr(model, "get_base_model"):
            base = base.get_base_model()
        self._base = base
        self._known = _known_arguments(base)

    def prefill(
        self, tokens: torch.Tensor, lengths: torch.Tensor, past: Layers | None = None
    ) -> tuple[Layers, torch.Tensor]:
        """See `Forward.prefill`."""
        rows, width = tokens.shape
        device = tokens.device
        arguments, cache, before = _continuing(tokens, past)
        # Only the columns that are some prompt's last token need logits.
        last_columns, which = torch.unique(lengths - 1, return_inverse=True)
        logits = self._call(
            **arguments,
            logits_to_keep=1 if last_columns.tolist() == [width - 1] else last_columns.to(device),
        )
        if logits.shape[1] != len(last_columns):
            logits = logits[:, last_columns.to(device)]
        return _layers(cache, before), logits[torch.arange(rows, device=device), which.to(device)]

    def states(
        self, tokens: torch.Tensor, lengths: torch.Tensor, past: Layers | None = None
    ) -> tuple[Layers, torch.Tensor]:
        """See `Forward.states`: the model's decoder runs, its head does not."""
        arguments, cache, before = _continuing(tokens, past)
        # Adapters of PEFT sit inside the base model's own modules.
        decoder = self._base.get_decoder()
        hidden = decoder(**_only(arguments, _known_arguments(decoder))).last_hidden_state
        device = hidden.device
        return _layers(cache, before), hidden[torch.arange(len(lengths), device=device), lengths.to(device) - 1]

    def decode(self, tokens: torch.Tensor, cache: SlotCache) -> torch.Tensor:
        """See `Forward.decode`."""
        return self._call(
            input_ids=tokens[:, None],
            attention_mask=cache.visible(tokens.device),
            position_ids=cache.positions().to(tokens.device)[:, None],
            past_key_values=cache,
            logits_to_keep=1,
        )[:, -1]

    def _call(self, **arguments: Any) -> torch.Tensor:
        arguments["use_cache"] = True
        logits: torch.Tensor = self.model(**_only(arguments, self._known)).logits
        return logits


def _known_arguments(model: Any) -> frozenset[str] | None:
    """What its forward pass takes; None: anything."""
    parameters = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return None if takes_any else frozenset(parameters)


def _only(arguments: dict[str, Any], known: frozenset[str] | None) -> dict[str, Any]:
    # Some models (Bloom, MPT) derive positions from the mask and take no position_ids.
    return arguments if known is None else {name: value for name, value in arguments.items() if name in known}


def _continuing(tokens: torch.Tensor, past: Layers | None) -> tuple[dict[str, Any], DynamicCache, int]:
    """Arguments of a forward pass over prompts that continue `past`, their cache, and the columns of `past`."""
    rows, width = tokens.shape
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(past or []):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
    before = cache.get_seq_length()
    positions = torch.arange(before, before + width, device=tokens.device).expand(rows, width)
    arguments = {"input_ids": tokens, "position_ids": positions, "past_key_values": cache, "use_cache": True}
    return arguments, cache, before


def _layers(cache: DynamicCache, before: int) -> Layers:
    return [(keys[:, :, before:], values[:, :, before:]) for keys, values, _ in cache]
