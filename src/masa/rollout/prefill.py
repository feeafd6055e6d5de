"""Keys, values and first logits of prompts, each distinct prompt computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

_MAX_TOKENS = 8192
"""Padded tokens in one forward pass."""
_MAX_LOGITS = 1 << 26
"""Logits that one forward pass may return, about 256 MB in float32."""
_MAX_PADDING = 1.5
"""Longest over shortest prompt in one forward pass."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Computed prompts."""

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    """Each layer's keys and values, [prompts, heads, width, dim], tokens in the rightmost columns."""
    lengths: torch.Tensor
    """Tokens of each prompt, [prompts], on the CPU."""
    logits: torch.Tensor
    """After each prompt's last token, [prompts, vocabulary]."""

    def only(self, row: int) -> Prefix:
        """One prompt in memory of its own, so that the others' can be freed."""
        width = int(self.lengths[row])
        layers = [tuple(part[row : row + 1, :, -width:].clone() for part in pair) for pair in self.layers]
        return Prefix(
            [(keys, values) for keys, values in layers],
            self.lengths[row : row + 1].clone(),
            self.logits[row : row + 1].clone(),
        )


Forward = Callable[..., Any]
"""The model's forward pass, called with keyword arguments; returns an output with `logits`."""


def prefill(
    forward: Forward, prompts: Sequence[tuple[int, ...]], device: torch.device, vocabulary: int
) -> Iterator[tuple[list[int], Prefix]]:
    """Run prompts through the model in batches of similar length.

    Prompts are padded on the right, where causal attention makes padding harmless without a mask and positions are
    the plain ones; what the padding computed is moved out of the way afterwards.

    Yields:
        Indices into `prompts`, and their prefix in that order.
    """
    for batch in _batches(prompts, vocabulary):
        lengths = torch.tensor([len(prompts[index]) for index in batch])
        width = int(lengths.max())
        tokens = torch.zeros(len(batch), width, dtype=torch.int64)
        for row, index in enumerate(batch):
            tokens[row, : len(prompts[index])] = torch.tensor(prompts[index])
        # Only the columns that are some prompt's last token need logits.
        last_columns, which = torch.unique(lengths - 1, return_inverse=True)
        cache = DynamicCache()
        output = forward(
            input_ids=tokens.to(device),
            position_ids=torch.arange(width, device=device).expand(len(batch), width),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1 if len(last_columns) == 1 else last_columns.to(device),
        )
        logits = output.logits
        if logits.shape[1] == width and width != len(last_columns):
            logits = logits[:, last_columns.to(device)]
        shift = None if len(last_columns) == 1 else (width - lengths).to(device)
        yield (
            batch,
            Prefix(
                [(_right_aligned(keys, shift), _right_aligned(values, shift)) for keys, values, _ in cache],
                lengths,
                logits[torch.arange(len(batch), device=device), which.to(device)],
            ),
        )


def _right_aligned(states: torch.Tensor, shift: torch.Tensor | None) -> torch.Tensor:
    """States [rows, heads, width, dim] with row i moved right by `shift[i]` columns; the left is filled arbitrarily."""
    if shift is None:
        return states
    columns = (torch.arange(states.shape[2], device=states.device) - shift[:, None]).clamp(min=0)
    return states.gather(2, columns[:, None, :, None].expand_as(states))


def _batches(prompts: Sequence[tuple[int, ...]], vocabulary: int) -> list[list[int]]:
    batches: list[list[int]] = []
    distinct: set[int] = set()
    # Shortest first, so that the newest prompt of a batch is its longest.
    for index in sorted(range(len(prompts)), key=lambda index: len(prompts[index])):
        length = len(prompts[index])
        if batches:
            size = len(batches[-1]) + 1
            if (
                size * length <= _MAX_TOKENS
                and size * len(distinct | {length}) * vocabulary <= _MAX_LOGITS
                and length <= _MAX_PADDING * len(prompts[batches[-1][0]])
            ):
                batches[-1].append(index)
                distinct.add(length)
                continue
        batches.append([index])
        distinct = {length}
    return batches
