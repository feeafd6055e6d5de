"""Importance correction for rollouts of an engine whose probabilities differ from the learner's, as in TRL.

vLLM's kernels round otherwise than the learner's, so its rollouts are drawn from a slightly different policy. TRL
weighs each token's loss by ratio = p_learner / p_engine, bounded, and computes p_learner in a forward pass before the
loss. Here every step's rollouts are learnt from once, so the loss's own forward pass gives the same numbers, and the
ratio is taken there. Settings and metrics are TRL's (`vllm_importance_sampling_*`, `sampling/*`).
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor

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

    def complete(self, log_probs: Tensor, noted: MutableMapping[str, list[float]]) -> None:
        """Put the ratio into the micro-batch begun, and its measures under TRL's names into `noted`."""
        batch, self._batch = self._batch, None
        if batch is None or SAMPLED not in batch:
            return
        mask = batch["completion_mask"]
        ratio = batch[RATIO] = self.ratio(log_probs, batch[SAMPLED], mask)
        if not mask.any():
            return
        gap = (log_probs.detach() - batch[SAMPLED]).abs()[mask.bool()]
        flat = ratio.flatten() if self._is_sequence else ratio[mask.bool()]
        for name, value in {
            "sampling_logp_difference/mean": gap.mean(),
            "sampling_logp_difference/max": gap.max(),
            f"{RATIO}/min": flat.min(),
            f"{RATIO}/mean": flat.mean(),
            f"{RATIO}/max": flat.max(),
        }.items():
            noted[f"sampling/{name}"].append(float(value))


def sampled_column(rows: list[tuple[float, ...] | None], width: int) -> Tensor | None:
    """The engine's log-probabilities padded with 0 on the right, [rows, width]; None unless all are known."""
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows):
        return None
    column = torch.zeros(len(rows), width)
    for i, row in enumerate(known):
        column[i, : len(row)] = torch.tensor(row)
    return column
