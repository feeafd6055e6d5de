"""Importance correction for rollouts of an engine whose probabilities differ from the learner's, as in TRL.

vLLM's kernels round otherwise than the learner's, so its rollouts are drawn from a slightly different policy. TRL
weighs each token's loss by ratio = p_learner / p_engine, bounded, and computes p_learner in a forward pass before the
loss. Here every step's rollouts are learnt from once, so the loss's own forward pass gives the same numbers, and the
ratio is taken there. Settings and metrics are TRL's (`vllm_importance_sampling_*`, `sampling/*`).
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from masa.processes import Team
from masa.training.config import MASAConfig

SAMPLED = "sampling_per_token_logps"
"""Key of a micro-batch: the engine's log-probabilities, [rows, completion width]."""
RATIO = "importance_sampling_ratio"
"""Key of a micro-batch, as TRL's loss reads it: [rows, completion width], or [rows, 1] for a ratio of sequences."""


class ImportanceCorrection:
    """Completes micro-batches with the ratio while their loss is computed."""

    def __init__(self, mode: str, clip_min: float | None, clip_max: float | None) -> None:
        """
        Args:
            mode: level and treatment of what lies outside the bounds: `token_truncate`, `token_mask` (to 0),
                `sequence_truncate` or `sequence_mask`.
            clip_min: lower bound; None: none.
            clip_max: upper bound; None: none.
        """
        self._is_sequence = mode.startswith("sequence_")
        self._is_masked = mode.endswith("_mask")
        self._bounds = (-math.inf if clip_min is None else clip_min, math.inf if clip_max is None else clip_max)
        self._batch: MutableMapping[str, Any] | None = None
        self._measured: list[tuple[_Spread, _Spread]] = []
        """Of the gaps and ratios of each micro-batch."""

    @classmethod
    def of(cls, args: MASAConfig) -> ImportanceCorrection | None:
        """The run's; None where the learner's own model rolls out or no correction is asked for."""
        if not args.corrects_sampling:
            return None
        return cls(
            args.vllm_importance_sampling_mode,
            args.vllm_importance_sampling_clip_min,
            args.vllm_importance_sampling_clip_max,
        )

    def ratio(self, log_probs: Tensor, sampled: Tensor, mask: Tensor) -> Tensor:
        """The weights of the loss, without gradient: [rows, width], or [rows, 1] for sequences.

        Args:
            log_probs: the learner's, [rows, width].
            sampled: the engine's, [rows, width].
            mask: 1 for tokens that count, [rows, width].
        """
        difference = (log_probs.detach() - sampled) * mask
        if self._is_sequence:
            difference = difference.sum(-1, keepdim=True)
        ratio = difference.exp()
        low, high = self._bounds
        if self._is_masked:
            return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)
        return ratio.clamp(low, high)

    def begin(self, batch: MutableMapping[str, Any]) -> None:
        """The loss of this micro-batch is about to be computed."""
        self._batch = batch

    def complete(self, log_probs: Tensor) -> None:
        """Put the ratio into the micro-batch begun, and measure it."""
        batch, self._batch = self._batch, None
        if batch is None or SAMPLED not in batch:
            return
        mask = batch["completion_mask"]
        ratio = batch[RATIO] = self.ratio(log_probs, batch[SAMPLED], mask)
        if not mask.any():
            return
        gap = (log_probs.detach() - batch[SAMPLED]).abs()[mask.bool()]
        counts = mask.any(dim=1) if self._is_sequence else mask.bool()  # rows may be there to fill up
        self._measured.append((_Spread.of(gap), _Spread.of(ratio[counts])))

    def settle(self, team: Team) -> dict[str, float]:
        """Measures since the last call under TRL's names, of all processes' micro-batches; called by all together."""
        found = [pair for own in team.gather(self._measured) for pair in own]
        self._measured = []
        if not found:
            return {}
        gap, ratio = (_Spread.joined(spreads) for spreads in zip(*found, strict=True))
        return {
            "sampling/sampling_logp_difference/mean": gap.mean,
            "sampling/sampling_logp_difference/max": gap.most,
            f"sampling/{RATIO}/min": ratio.least,
            f"sampling/{RATIO}/mean": ratio.mean,
            f"sampling/{RATIO}/max": ratio.most,
        }


@dataclass(frozen=True, slots=True)
class _Spread:
    """Of some values, one or more."""

    count: int
    mean: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Tensor) -> _Spread:
        return cls(values.numel(), values.mean().item(), values.min().item(), values.max().item())

    @classmethod
    def joined(cls, parts: Sequence[_Spread]) -> _Spread:
        count = sum(part.count for part in parts)
        mean = sum(part.mean * part.count for part in parts) / count
        return cls(count, mean, min(part.least for part in parts), max(part.most for part in parts))


def sampled_column(rows: list[tuple[float, ...] | None], width: int) -> Tensor | None:
    """The engine's log-probabilities padded with 0 on the right, [rows, width]; None unless all are known."""
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows):
        return None
    column = torch.zeros(len(rows), width)
    for i, row in enumerate(known):
        column[i, : len(row)] = torch.tensor(row)
    return column
