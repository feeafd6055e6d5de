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
        parameters = inspect.signature(base.forward).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        # Some models (Bloom, MPT) derive positions from the mask and take no position_ids.
        self._known = None if takes_any else frozenset(parameters)

    def prefill(
        self, tokens: torch.Tensor, lengths: torch.Tensor, past: Layers | None = None
    ) -> tuple[Layers, torch.Tensor]:
        """See `Forward.prefill`."""
        rows, width = tokens.shape
        device = tokens.device
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(past or []):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
        before = cache.get_seq_length()
        # Only the columns that are some prompt's last token need logits.
        last_columns, which = torch.unique(lengths - 1, return_inverse=True)
        logits = self._call(
            input_ids=tokens,
            position_ids=torch.arange(before, before + width, device=device).expand(rows, width),
            past_key_values=cache,
            logits_to_keep=1 if last_columns.tolist() == [width - 1] else last_columns.to(device),
        )
        if logits.shape[1] != len(last_columns):
            logits = logits[:, last_columns.to(device)]
        layers = [(keys[:, :, before:], values[:, :, before:]) for keys, values, _ in cache]
        return layers, logits[torch.arange(rows, device=device), which.to(device)]

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
        if self._known is not None:
            arguments = {name: value for name, value in arguments.items() if name in self._known}
        logits: torch.Tensor = self.model(**arguments).logits
        return logits
