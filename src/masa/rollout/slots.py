"""Key-value cache over a fixed number of slots, for rows that come and go.

Every row's newest token lies in the same column, so a row with fewer tokens starts further right. One decoding step
then writes one column for all rows (a copy, not a scatter), and attention reads the columns from the earliest start of
a live row to the newest token: exactly the shape of a left-padded batch, which every causal model of transformers
understands through `attention_mask` and `position_ids`. Live rows are the first n slots.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

_MIN_SPARE_COLUMNS = 64


class _Window:
    """Which columns are in use, shared by all layers."""

    def __init__(self, column: int) -> None:
        self.first = column
        """Earliest column that a live row uses."""
        self.column = column
        """Where the next token goes."""


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, each [slots, heads, columns, dim]."""

    is_sliding = False

    def __init__(self, window: _Window, slots: int, dtype: torch.dtype | None) -> None:
        super().__init__()
        self._window = window
        self._slots = slots
        self._dtype = dtype

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.resize(key_states.shape[2], like=(key_states, value_states))

    def resize(self, columns: int, *, like: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Fresh buffers; zeros, since a masked column is still multiplied by 0 and must not hold NaN."""
        self.keys, self.values = (
            states.new_zeros(self._slots, states.shape[1], columns, states.shape[3], dtype=self._dtype)
            for states in like
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.keys is not None
        assert self.values is not None
        rows, end = key_states.shape[0], self._window.column + 1
        self.keys[:rows, :, end - 1 : end] = key_states
        self.values[:rows, :, end - 1 : end] = value_states
        first = self._window.first
        return self.keys[:rows, :, first:end], self.values[:rows, :, first:end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        return self._window.column - self._window.first

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of up to `slots` rows; memory grows with the longest live row, not with the requests served.

    Sliding-window layers keep all of a row's columns; the model's own mask hides what lies outside of the window.
    """

    def __init__(self, num_layers: int, slots: int, column: int, *, dtype: torch.dtype | None = None) -> None:
        """
        Args:
            column: where the first generated token goes, at least the longest prompt's length.
            dtype: of keys and values; by default that of those that come first.
        """
        self.window = _Window(column)
        self.starts = torch.empty(0, dtype=torch.int64)
        """Each live row's first column, shape [rows], on the CPU."""
        self._slot_layers = [_SlotLayer(self.window, slots, dtype) for _ in range(num_layers)]
        super().__init__(layers=list(self._slot_layers))

    @property
    def rows(self) -> int:
        """Live rows."""
        return self.starts.shape[0]

    @property
    def is_ragged(self) -> bool:
        """Whether some row starts later than another, so that attention needs a mask."""
        return self.rows > 0 and bool((self.starts != self.window.first).any())

    def join(self, layers: list[tuple[torch.Tensor, torch.Tensor]], index: torch.Tensor, lengths: torch.Tensor) -> None:
        """Append rows whose tokens so far are already computed.

        Args:
            layers: each layer's keys and values, [prefixes, heads, width, dim], tokens in the rightmost columns;
                what lies left of a prefix's own tokens is ignored.
            index: which prefix each new row continues, shape [new rows].
            lengths: tokens of that prefix, shape [new rows], on the CPU.
        """
        column, width, before = self.window.column, layers[0][0].shape[2], self.rows
        for layer, (keys, values) in zip(self._slot_layers, layers, strict=True):
            if not layer.is_initialized:
                layer.resize(column + _MIN_SPARE_COLUMNS, like=(keys, values))
            assert layer.keys is not None
            assert layer.values is not None
            where = (slice(before, before + len(index)), slice(None), slice(column - width, column))
            layer.keys[where] = keys[index]
            layer.values[where] = values[index]
        self.starts = torch.cat([self.starts, column - lengths])
        self.window.first = int(self.starts.min())

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
            first, column = self.window.first, self.window.column
            for layer in self._slot_layers:
                for buffer in (layer.keys, layer.values):
                    assert buffer is not None
                    live = buffer[:, :, first:column]
                    live[holes] = live[movers]
        self.starts = self.starts[order]
        self.window.first = int(self.starts.min()) if remaining else self.window.column
        return order

    def make_room(self, longest_prefix: int) -> None:
        """Ensure a free column for the next token, moving the live columns to the left or growing the buffers.

        Args:
            longest_prefix: tokens that a row joining later may bring.
        """
        keys = self._slot_layers[0].keys
        assert keys is not None
        capacity, column = keys.shape[2], self.window.column
        if column < capacity:
            return
        base = min(self.window.first, column - longest_prefix)
        width = column - base
        spare = max(_MIN_SPARE_COLUMNS, width // 2)
        for layer in self._slot_layers:
            old = (layer.keys, layer.values)
            assert old[0] is not None
            assert old[1] is not None
            if width + spare > capacity:
                layer.resize(width + spare, like=(old[0], old[1]))
            for target, source in zip((layer.keys, layer.values), old, strict=True):
                assert target is not None
                assert source is not None
                live = source[: self.rows, :, base:column]
                target[: self.rows, :, :width] = live.clone() if target is source else live
        self.starts -= base
        self.window.first -= base
        self.window.column -= base


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
