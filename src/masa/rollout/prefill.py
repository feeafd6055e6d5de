"""Keys, values and first logits of prompts, or their hidden states; what prompts share is computed once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from masa.rollout.forward import Forward
from masa.rollout.slots import Layers

_Run = Callable[[torch.Tensor, torch.Tensor], tuple[Layers, torch.Tensor]]
"""`Forward.prefill` or `Forward.states` over prompts that continue nothing."""

_MAX_TOKENS = 8192
"""Padded tokens in one forward pass."""
_MAX_LOGITS = 1 << 26
"""Logits that one forward pass may return, about 256 MB in float32."""
_MAX_PADDING = 1.5
"""Longest over shortest prompt in one forward pass."""
_MIN_SHARED = 8
"""Tokens that prompts must begin with alike to be of one family."""
_MIN_SAVED = 128
"""Tokens that sharing must save to be worth a forward pass of its own."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Computed prompts."""

    layers: Layers
    """Tokens in the rightmost columns."""
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


class Prefill:
    """Computes prompts in batches of similar length, continuing from what the largest family of them shares."""

    def __init__(
        self, forward: Forward, prompts: Sequence[tuple[int, ...]], device: torch.device, outputs: int
    ) -> None:
        """
        Args:
            prompts: distinct ones.
            outputs: numbers that come of a prompt: the vocabulary's size for logits, the model's width for states.
        """
        self._forward = forward
        self._prompts = prompts
        self._device = device
        self._outputs = outputs
        self._shared = shared_part(prompts)
        self._shared_layers: Layers | None = None

    def __call__(self, numbers: Sequence[int]) -> Iterator[tuple[list[int], Prefix]]:
        """Compute some of the prompts.

        Yields:
            Some of `numbers`, and their prefix in that order.
        """
        for chosen, suffixes, past in self._passes(numbers, self._forward.prefill):
            yield chosen, self._compute(suffixes, past)

    def states(self, numbers: Sequence[int]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """What the output head reads after some of the prompts.

        Yields:
            Some of `numbers`, and their states in that order, [prompts, width].
        """
        for chosen, suffixes, past in self._passes(numbers, self._forward.states):
            yield chosen, self._forward.states(*self._padded(suffixes), past)[1]

    def _passes(
        self, numbers: Sequence[int], run: _Run
    ) -> Iterator[tuple[list[int], list[tuple[int, ...]], Layers | None]]:
        """One forward pass each: which prompts, their tokens after what they continue, and that."""
        width = len(self._shared)
        shares = [bool(width) and self._prompts[number][:width] == self._shared for number in numbers]
        for is_shared in (True, False):
            chosen = [number for number, share in zip(numbers, shares, strict=True) if share == is_shared]
            suffixes = [self._prompts[number][width if is_shared else 0 :] for number in chosen]
            for batch in _batches(suffixes, self._outputs):
                past = self._shared_past(run) if is_shared else None
                yield [chosen[index] for index in batch], [suffixes[index] for index in batch], past

    def _shared_past(self, run: _Run) -> Layers:
        if self._shared_layers is None:
            tokens = torch.tensor([self._shared], device=self._device)
            self._shared_layers, _ = run(tokens, torch.tensor([len(self._shared)]))
        return self._shared_layers

    def _padded(self, prompts: list[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens, [prompts, width], and lengths, [prompts], on the CPU."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        rows = [[*prompt, *(0,) * (width - len(prompt))] for prompt in prompts]
        return torch.tensor(rows, device=self._device), lengths

    def _compute(self, prompts: list[tuple[int, ...]], past: Layers | None) -> Prefix:
        tokens, lengths = self._padded(prompts)
        width = tokens.shape[1]
        layers, logits = self._forward.prefill(tokens, lengths, past)
        if past is not None:
            rows = len(prompts)
            layers = [
                (_after(before_keys, keys, rows), _after(before_values, values, rows))
                for (before_keys, before_values), (keys, values) in zip(past, layers, strict=True)
            ]
        if int(lengths.min()) < width:
            shift = (width - lengths).to(self._device)
            layers = [(_right_aligned(keys, shift), _right_aligned(values, shift)) for keys, values in layers]
        return Prefix(layers, lengths + (0 if past is None else len(self._shared)), logits)


def shared_part(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What the largest family of prompts begins with, at most all but a prompt's last token; empty if it saves little.

    A family agrees in its first tokens, as prompts from one template and system message do.
    """
    families: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for prompt in prompts:
        if len(prompt) > _MIN_SHARED:
            families.setdefault(prompt[:_MIN_SHARED], []).append(prompt)
    if not families:
        return ()
    family = max(families.values(), key=len)
    # All begin as the first and the last in lexicographic order do.
    first, last = min(family), max(family)
    width = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    shared = first[: min(width, min(map(len, family)) - 1)]
    return shared if len(shared) * (len(family) - 1) >= _MIN_SAVED else ()


def _after(past: torch.Tensor, states: torch.Tensor, rows: int) -> torch.Tensor:
    return torch.cat([past.expand(rows, -1, -1, -1), states], dim=2)


def _right_aligned(states: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """States [rows, heads, width, dim] with row i moved right by `shift[i]` columns; the left is filled arbitrarily."""
    columns = (torch.arange(states.shape[2], device=states.device) - shift[:, None]).clamp(min=0)
    return states.gather(2, columns[:, None, :, None].expand_as(states))


def _batches(prompts: Sequence[tuple[int, ...]], outputs: int) -> list[list[int]]:
    batches: list[list[int]] = []
    distinct: set[int] = set()
    # Shortest first, so that the newest prompt of a batch is its longest.
    for index in sorted(range(len(prompts)), key=lambda index: len(prompts[index])):
        length = len(prompts[index])
        if batches:
            size = len(batches[-1]) + 1
            if (
                size * length <= _MAX_TOKENS
                and size * len(distinct | {length}) * outputs <= _MAX_LOGITS
                and length <= _MAX_PADDING * len(prompts[batches[-1][0]])
            ):
                batches[-1].append(index)
                distinct.add(length)
                continue
        batches.append([index])
        distinct = {length}
    return batches
