"""Rows of a micro-batch laid end to end: no padding, and a prompt that rows have in common only once.

A transformer looks at each token alone everywhere but in attention. So embeddings, projections and norms work on one
sequence of N packed tokens, and attention alone sees whole rows: every layer's queries, keys and values are spread to
[rows, width], rows of like length side by side, and the results are collected again. A row keeps its own positions
and is padded on the right only, where causal attention never looks, so no mask is needed and nothing is approximated.

The last token of a completion predicts nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AttentionInterface

ATTENTION = "masa_packed"
"""Name of our attention among those of transformers. It has no mask function, so models make no mask for it."""
_LIKE_LENGTH = 0.75
"""Rows at least this long, relative to the longest, attend side by side; others start a part of their own."""


@dataclass(frozen=True, slots=True)
class Layout:
    """N packed tokens, and the places they take when spread to rows.

    Places of all parts are numbered through; a place beyond its row's end holds a copy of token 0.
    """

    input_ids: Tensor
    """[1, N]."""
    position_ids: Tensor
    """[1, N], each row's own."""
    parts: tuple[tuple[int, int], ...]
    """(rows, width) of each part."""
    token_of_place: Tensor
    """[places]."""
    place_of_token: Tensor
    """[N]: the first one, for prompt tokens that several rows share."""
    shared: tuple[Tensor, Tensor]
    """Tokens and places of all further copies, [copies] each."""
    sources: Tensor
    """[S]: the packed token from which each scored token is predicted."""
    targets: Tensor
    """[S]: the ids of scored tokens, row by row."""


def lay_out(input_ids: Tensor, attention_mask: Tensor, completion_width: int) -> Layout:
    """The layout of a batch as TRL pads it: prompts on the left, completions of `completion_width` on the right.

    Args:
        input_ids: [rows, prompt width + completion width].
        attention_mask: the same shape; 0 is padding.
    """
    ids, mask = input_ids.cpu().numpy(), attention_mask.cpu().numpy().astype(bool)
    starts: dict[bytes, int] = {}
    tokens: list[NDArray[np.int64]] = []
    positions: list[NDArray[np.int64]] = []
    rows, sources, targets = [], [], []
    size = 0
    for row_ids, row_mask in zip(ids, mask, strict=True):
        prompt = row_ids[:-completion_width][row_mask[:-completion_width]]
        completion = row_ids[-completion_width:][row_mask[-completion_width:]]
        start = starts.get(prompt.tobytes())
        if start is None:
            start = starts[prompt.tobytes()] = size
            tokens.append(prompt)
            positions.append(np.arange(len(prompt)))
            size += len(prompt)
        fed = max(0, len(completion) - 1)
        tokens.append(completion[:fed])
        positions.append(np.arange(len(prompt), len(prompt) + fed))
        row = np.concatenate((np.arange(start, start + len(prompt)), np.arange(size, size + fed)))
        size += fed
        rows.append(row)
        sources.append(row[len(prompt) - 1 :][: len(completion)])
        targets.append(completion)
    parts, token_of_place, place_of_token, shared = _spread_out(rows, size)

    def tensor(array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(input_ids.device)

    return Layout(
        input_ids=tensor(np.concatenate(tokens))[None],
        position_ids=tensor(np.concatenate(positions))[None],
        parts=parts,
        token_of_place=tensor(token_of_place),
        place_of_token=tensor(place_of_token),
        shared=(tensor(shared[0]), tensor(shared[1])),
        sources=tensor(np.concatenate(sources)),
        targets=tensor(np.concatenate(targets)),
    )


def _spread_out(rows: list[NDArray[np.int64]], size: int) -> tuple[Any, ...]:
    """Parts, token of each place, first place of each token, and (tokens, places) of further copies."""
    ordered = sorted(rows, key=lambda row: -len(row))
    parts: list[list[NDArray[np.int64]]] = []
    for row in ordered:
        if not parts or len(row) < _LIKE_LENGTH * len(parts[-1][0]):
            parts.append([])
        parts[-1].append(row)
    shapes = tuple((len(part), len(part[0])) for part in parts)
    token_of_place = np.zeros(sum(count * width for count, width in shapes), dtype=np.int64)
    place_of_token = np.full(size, -1)
    copied_tokens, copied_places = [], []
    start = 0
    for part, (_, width) in zip(parts, shapes, strict=True):
        for row in part:
            places = np.arange(start, start + len(row))
            token_of_place[places] = row
            is_copy = place_of_token[row] >= 0
            place_of_token[row[~is_copy]] = places[~is_copy]
            copied_tokens.append(row[is_copy])
            copied_places.append(places[is_copy])
            start += width
    return shapes, token_of_place, place_of_token, (np.concatenate(copied_tokens), np.concatenate(copied_places))


class _Spread(torch.autograd.Function):
    """[N, width] to [places, width]. Gradients of a shared token add up over its places."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return packed.index_select(0, layout.token_of_place)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        layout: Layout = ctx.layout
        tokens, places = layout.shared
        packed = grad.index_select(0, layout.place_of_token)
        return packed.index_add_(0, tokens, grad.index_select(0, places)), None


class _Collect(torch.autograd.Function):
    """[places, width] to [N, width], each token from its first place; all others have no gradient."""

    @staticmethod
    def forward(ctx: Any, spread: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return spread.index_select(0, layout.place_of_token)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        layout: Layout = ctx.layout
        spread = grad.new_zeros(len(layout.token_of_place), grad.size(1))
        return spread.index_copy_(0, layout.place_of_token, grad), None


# `apply` has no annotations of its own.
_spread: Callable[[Tensor, Layout], Tensor] = _Spread.apply
_collect: Callable[[Tensor, Layout], Tensor] = _Collect.apply


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    masa_layout: Layout | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Causal attention within rows; query, key and value are [1, heads, N, head size], the result [1, N, heads, size].

    Raises:
        NotImplementedError: for attention of another kind, or a model that does not hand the layout through.
    """
    if masa_layout is None or attention_mask is not None or dropout:
        raise NotImplementedError(f"{type(module).__name__} does not hand over a packed layout alone")
    special = [
        name for name in ("softcap", "sliding_window", "s_aux", "position_bias") if settings.get(name) is not None
    ]
    if special:
        raise NotImplementedError(f"attention with {', '.join(special)}")
    sizes = [rows * width for rows, width in masa_layout.parts]
    spread = [torch.split(_spread(x[0].transpose(0, 1).flatten(1), masa_layout), sizes) for x in (query, key, value)]
    results = []
    for shape, *rows in zip(masa_layout.parts, *spread, strict=True):
        q, k, v = (
            x.view(*shape, -1, head.size(-1)).transpose(1, 2) for x, head in zip(rows, (query, key, value), strict=True)
        )
        attended = nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=q.size(1) != k.size(1)
        )
        results.append(attended.transpose(1, 2).flatten(2).flatten(0, 1))
    return _collect(torch.cat(results), masa_layout).view(1, -1, query.size(1), value.size(3)), None


AttentionInterface.register(ATTENTION, _attend)


@contextmanager
def packed_attention(model: nn.Module) -> Iterator[None]:
    """Let a model of transformers attend within the rows of a layout, handed to it as `masa_layout`.

    Checkpointed layers attend once more in the backward pass, after this context, so they take ours along.
    """
    checkpointed: list[Any] = [
        module for module in model.modules() if getattr(module, "gradient_checkpointing", False) is True
    ]
    before = [module._gradient_checkpointing_func for module in checkpointed]
    for module, function in zip(checkpointed, before, strict=True):
        again = partial(function, context_fn=lambda: (nullcontext(), _attending(model.config)))
        module._gradient_checkpointing_func = again
    try:
        with _attending(model.config):
            yield
    finally:
        for module, function in zip(checkpointed, before, strict=True):
            module._gradient_checkpointing_func = function


@contextmanager
def _attending(config: Any) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before
