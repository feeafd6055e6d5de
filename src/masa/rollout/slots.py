"""Key-value cache over a fixed number of slots, for rows that come and go.

Every row's newest token lies in the same column, so a row with fewer tokens starts further right. One decoding step
then writes one column for all rows (a copy, not a scatter), and attention reads the shape of a left-padded batch,
which every causal model of transformers understands through `attention_mask` and `position_ids`.

Live rows are the first n slots, and attention always reads whole buffers: they are laid out anew every few steps, to
end just beyond the newest token and to begin at the earliest live one. A slice of wider buffers would be strided, and
batched products copy strided keys and values at every step.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Each layer's keys and values, [rows, heads, columns, dim]."""


class _Window:
    """Which columns are in use, shared by all layers."""

    column = 0
    """Where the next token goes."""
    columns = 0
    """Of the buffers."""


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, each [slots, heads, columns, dim]."""

    is_sliding = False

    def __init__(self, window: _Window, dtype: torch.dtype | None) -> None:
        super().__init__()
        self._window = window
        self._dtype = dtype

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Empty buffers like these states."""
        self.keys, self.values = (
            states.new_empty(0, states.shape[1], 0, states.shape[3], dtype=self._dtype)
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def lay_out(self, slots: int, rows: int, source: slice, target: int) -> None:
        """Move the columns `source` of the first rows to `target` in new buffers."""
        assert self.keys is not None
        assert self.values is not None
        self.keys, self.values = (
            self._moved(buffer, slots, rows, source, target) for buffer in (self.keys, self.values)
        )

    def _moved(self, buffer: torch.Tensor, slots: int, rows: int, source: slice, target: int) -> torch.Tensor:
        moved = buffer.new_empty(slots, buffer.shape[1], self._window.columns, buffer.shape[3])
        end = target + source.stop - source.start
        moved[:rows, :, target:end] = buffer[:rows, :, source]
        # A masked column is still multiplied by 0 and must not hold NaN.
        for rest in (moved[rows:], moved[:rows, :, :target], moved[:rows, :, end:]):
            rest.zero_()
        return moved

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.keys is not None
        assert self.values is not None
        rows, column = key_states.shape[0], self._window.column
        keys, values = self.keys[:rows], self.values[:rows]
        keys[:, :, column] = key_states[:, :, 0]
        values[:, :, column] = value_states[:, :, 0]
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - transformers names it
        return self._window.columns, 0

    def get_seq_length(self) -> int:
        return self._window.column

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of up to `slots` rows; memory grows with the longest live row, not with the requests served.

    Sliding-window layers keep all of a row's columns; the model's own mask hides what lies outside of the window.
    """

    def __init__(self, num_layers: int, slots: int, *, dtype: torch.dtype | None = None) -> None:
        """
        Args:
            slots: rows at most; may be lowered when no more are to come than live.
            dtype: of keys and values; by default that of those that come first.
        """
        self.slots = slots
        self.window = _Window()
        self.starts = torch.empty(0, dtype=torch.int64)
        """Each live row's first column, shape [rows], on the CPU."""
        self._slot_layers = [_SlotLayer(self.window, dtype) for _ in range(num_layers)]
        super().__init__(layers=list(self._slot_layers))

    @property
    def rows(self) -> int:
        """Live rows."""
        return self.starts.shape[0]

    def positions(self) -> torch.Tensor:
        """Of each row's next token, [rows], on the CPU."""
        return self.window.column - self.starts

    def visible(self, device: torch.device, sliding_window: int | None = None) -> torch.Tensor:
        """Which columns each row's next token sees, itself included: bool, [rows, columns]."""
        columns = torch.arange(self.window.columns, device=device)
        seen = (columns >= self.starts.to(device)[:, None]) & (columns <= self.window.column)
        return seen if sliding_window is None else seen & (columns > self.window.column - sliding_window)

    def join(self, layers: Layers, index: torch.Tensor, lengths: torch.Tensor) -> None:
        """Append rows whose tokens so far are already computed.

        Args:
            layers: each layer's keys and values, [prefixes, heads, width, dim], tokens in the rightmost columns;
                what lies left of a prefix's own tokens is ignored.
            index: which prefix each new row continues, shape [new rows].
            lengths: tokens of that prefix, shape [new rows], on the CPU.
        """
        width, before = layers[0][0].shape[2], self.rows
        if not self._slot_layers[0].is_initialized:
            for layer, states in zip(self._slot_layers, layers, strict=True):
                layer.lazy_initialization(*states)
        if self.window.column < width or not before:
            self._lay_out(longest=width)
        column = self.window.column
        where = (slice(before, before + len(index)), slice(None), slice(column - width, column))
        for layer, (keys, values) in zip(self._slot_layers, layers, strict=True):
            assert layer.keys is not None
            assert layer.values is not None
            layer.keys[where] = keys[index]
            layer.values[where] = values[index]
        self.starts = torch.cat([self.starts, column - lengths])

    def keep(self, kept: torch.Tensor) -> torch.Tensor:
        """Drop the other rows, filling their slots with the last kept ones.

        Args:
            kept: bool, shape [rows], on the CPU.

        Returns:
            The former row of each remaining one, int64 of shape [remaining rows].
        """
        remaining = int(kept.sum())
        order = torch.arange(remaining)
        holes = (~kept[:remaining]).nonzero()[:, 0]
        if len(holes):
            movers = kept[remaining:].nonzero()[:, 0] + remaining
            order[holes] = movers
            for layer in self._slot_layers:
                for buffer in (layer.keys, layer.values):
                    assert buffer is not None
                    buffer[holes] = buffer[movers]
        self.starts = self.starts[order]
        return order

    def make_room(self) -> None:
        """Ensure a free column for the next token."""
        if self.window.column == self.window.columns:
            self._lay_out()

    def _lay_out(self, longest: int = 0) -> None:
        """Rid the buffers of columns that no live row uses, but leave room for a prefix of `longest` tokens."""
        old = self.window.column
        first = int(self.starts.min()) if self.rows else old
        column = max(old - first, longest)
        # Moving costs all columns once, idle columns cost a little at every step: the best is near twice the root.
        self.window.columns = column + 2 * isqrt(column) + 2
        for layer in self._slot_layers:
            layer.lay_out(self.slots, self.rows, slice(first, old), column - (old - first))
        self.starts += column - old
        self.window.column = column


def attention_layers(config: Any) -> int:
    """How many layers keep keys and values, for a model whose cache is nothing but full or sliding attention.

    Raises:
        ValueError: for other kinds of state (recurrent, convolutional, compressed), which rows cannot share by column.
    """
    layers = DynamicCache(config=config).layers
    others = sorted({type(layer).__name__ for layer in layers} - _SUPPORTED)
    if others or not layers:
        raise ValueError(
            f"LocalEngine serves models with full or sliding-window attention only; {config.model_type} keeps "
            f"{', '.join(others) or 'no key-value cache'}: use the model's own generate, or another engine"
        )
    return len(layers)


_SUPPORTED = {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__}
