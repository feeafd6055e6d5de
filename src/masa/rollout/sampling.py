"""Tokens from logits: temperature, top-k and top-p with settings of each row's own, and randomness by name.

A row's uniform is a hash of (seed of its request, position of the token in the rollout). Nothing is drawn from a
shared stream, so a request samples the same tokens wherever it sits in a batch, and no generator object is needed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from masa.records import Request

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SEED_MASK = (1 << 64) - 1
_MAX_WEIGHTS = 1 << 20
"""Probabilities computed at a time: larger arrays leave the caches, and get fresh memory at every step."""
_MIN_BLOCKED = 4096
"""Vocabulary from which on sampling looks for a token's block first."""


def seed_array(seeds: Sequence[int]) -> NDArray[np.uint64]:
    """Seeds as unsigned 64-bit integers, shape [n]; larger and negative ones are taken modulo 2**64."""
    return np.array([seed & _SEED_MASK for seed in seeds], dtype=np.uint64)


def uniforms(seeds: NDArray[np.uint64], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """One uniform in [0, 1) for each row, a pure function of its seed and position.

    SplitMix64 (Steele, Lea and Flood, 2014) used as a counter-based generator: the seed is mixed once before the
    counter is added, so that neighbouring seeds do not run through the same sequence.

    Args:
        seeds: shape [n].
        positions: index of the token within its rollout, from 0, shape [n].

    Returns:
        Shape [n], multiples of 2**-53.
    """
    key = _mix(seeds + _GAMMA)
    bits = _mix(key + (positions.astype(np.uint64) + np.uint64(1)) * _GAMMA)
    result: NDArray[np.float64] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return result


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How each of n rows samples; every tensor has shape [n]."""

    temperature: torch.Tensor
    """float64; 1 in greedy rows, where it is not used."""
    top_p: torch.Tensor
    """float64."""
    top_k: torch.Tensor
    """int64; 0 keeps the whole vocabulary."""
    is_greedy: torch.Tensor
    any_greedy: bool
    all_greedy: bool
    any_scaled: bool
    any_filtered: bool

    @staticmethod
    def of(requests: Sequence[Request], device: torch.device | str = "cpu") -> SamplingSettings:
        """The settings of these requests, a row for each."""
        temperature = torch.tensor([request.temperature for request in requests], dtype=torch.float64)
        return SamplingSettings._build(
            temperature.to(device),
            torch.tensor([request.top_p for request in requests], dtype=torch.float64).to(device),
            torch.tensor([request.top_k for request in requests], dtype=torch.int64).to(device),
            (temperature == 0).to(device),
        )

    def rows(self, index: torch.Tensor | slice) -> SamplingSettings:
        """The settings of some rows, in the order of the index."""
        return self._build(self.temperature[index], self.top_p[index], self.top_k[index], self.is_greedy[index])

    @staticmethod
    def _build(
        temperature: torch.Tensor, top_p: torch.Tensor, top_k: torch.Tensor, is_greedy: torch.Tensor
    ) -> SamplingSettings:
        temperature = torch.where(is_greedy, 1.0, temperature)
        return SamplingSettings(
            temperature,
            top_p,
            top_k,
            is_greedy,
            any_greedy=bool(is_greedy.any()),
            all_greedy=bool(is_greedy.all()),
            any_scaled=bool((temperature != 1).any()),
            any_filtered=bool((((top_p < 1) | (top_k > 0)) & ~is_greedy).any()),
        )


def sampling_weights(logits: torch.Tensor, settings: SamplingSettings) -> torch.Tensor:
    """Probabilities after temperature, those that top-k and then top-p take away set to 0 and the others left as is.

    Top-k keeps every token at least as likely as the k-th; top-p keeps the smallest set of likeliest tokens whose
    share of what top-k left reaches `top_p`. Tokens tied with the last one kept are kept too, so that the outcome
    does not depend on how a sort breaks ties.

    Args:
        logits: shape [n, vocabulary], any floating type.

    Returns:
        Shape [n, vocabulary]; float64 for float64 logits, else float32. Greedy rows: temperature 1, nothing dropped.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logits = logits.to(dtype)
    if settings.any_scaled:
        # The maximum goes first, so that a tiny temperature sends the others to -inf and nothing to +inf; one that is
        # no number of the type but 0 would make the maximum itself NaN.
        logits = logits - logits.amax(dim=-1, keepdim=True)
        logits /= settings.temperature[:, None].to(dtype).clamp(min=torch.finfo(dtype).tiny)
    weights = logits.softmax(dim=-1)
    if settings.any_filtered:
        rows = (((settings.top_p < 1) | (settings.top_k > 0)) & ~settings.is_greedy).nonzero()[:, 0]
        weights[rows] = _filtered(weights[rows], settings.top_p[rows], settings.top_k[rows])
    return weights


def _filtered(weights: torch.Tensor, top_p: torch.Tensor, top_k: torch.Tensor) -> torch.Tensor:
    vocabulary = weights.shape[-1]
    k = torch.where(top_k > 0, top_k, vocabulary).clamp(max=vocabulary)
    if bool((top_p < 1).any()):
        ranked = weights.sort(dim=-1, descending=True).values
    else:
        ranked = weights.topk(int(k.max()), dim=-1).values
    kth = ranked.gather(-1, k[:, None] - 1)
    ranked = torch.where(ranked < kth, 0.0, ranked)
    cumulative = ranked.cumsum(dim=-1, dtype=torch.float64)
    mass_before = cumulative - ranked
    # At top_p 1 rounding must not drop the tail: everything that top-k left is kept.
    is_kept = (mass_before < top_p[:, None] * cumulative[:, -1:]) | (top_p[:, None] >= 1)
    is_kept &= ranked >= kth
    smallest = ranked.gather(-1, is_kept.sum(dim=-1, keepdim=True) - 1)
    return torch.where(weights < smallest, 0.0, weights)


def sample(
    logits: torch.Tensor, settings: SamplingSettings, uniform: torch.Tensor, *, logprobs: bool = False
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One token a row: the likeliest one in greedy rows, else the inverse cumulative distribution at `uniform`.

    Args:
        logits: shape [n, vocabulary].
        settings: n rows.
        uniform: float64 in [0, 1), shape [n].
        logprobs: whether to return log-probabilities too.

    Returns:
        Tokens, int64 of shape [n], never one of probability 0; and, if asked for, their natural log-probabilities
        under the distribution they were drawn from (after temperature, top-k and top-p; 0 in greedy rows), shape [n].

    Raises:
        FloatingPointError: if a row's logits hold NaN or +inf, or nothing but -inf.
    """
    rows = max(1, _MAX_WEIGHTS // logits.shape[-1])
    if rows < len(logits):
        pieces = [
            sample(logits[at], settings.rows(at), uniform[at], logprobs=logprobs)
            for at in (slice(start, start + rows) for start in range(0, len(logits), rows))
        ]
        tokens = torch.cat([tokens for tokens, _ in pieces])
        return tokens, torch.cat([logs for _, logs in pieces if logs is not None]) if logprobs else None
    if settings.all_greedy:
        best, tokens = logits.max(dim=-1)
        _require_finite(best)
        return tokens, torch.zeros_like(best, dtype=torch.float32) if logprobs else None
    weights = sampling_weights(logits, settings)
    tokens, total = _inverse(weights, uniform)
    if settings.any_greedy:
        tokens = torch.where(settings.is_greedy, logits.argmax(dim=-1), tokens)
    if not logprobs:
        return tokens, None
    chosen = weights.gather(-1, tokens[:, None])[:, 0]
    logs = chosen.log().double() - total.log()
    return tokens, torch.where(settings.is_greedy, 0.0, logs)


def _inverse(weights: torch.Tensor, uniform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The inverse of each row's cumulative distribution, at its uniform; and the sum of its weights, float64.

    A large vocabulary is searched by blocks: their sums, then the weights of the block found. Only these two short
    rows are accumulated, in float64; block sums are float32, which moves a token's probability by about 1e-7 of it.
    """
    size = _block_size(weights.shape[-1])
    blocks = weights.view(len(weights), -1, size)
    cumulative = (weights if size == 1 else blocks.sum(dim=-1)).cumsum(dim=-1, dtype=torch.float64)
    total = cumulative[:, -1]
    _require_finite(total)
    target = uniform * total
    found = _first_beyond(cumulative, target)
    if size == 1:
        return found[:, 0], total
    before = torch.where(found > 0, cumulative.gather(-1, (found - 1).clamp(min=0)), 0.0)
    inner = blocks[torch.arange(len(blocks), device=blocks.device), found[:, 0]].cumsum(dim=-1, dtype=torch.float64)
    return (found * size + _first_beyond(inner, target - before[:, 0]))[:, 0], total


def _first_beyond(cumulative: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The first entry whose cumulative weight exceeds the target, [n, 1]: it adds some, so its weight is not 0."""
    # Rounding may lift a target to the total, which no entry exceeds.
    target = torch.minimum(target, cumulative[:, -1] * (1 - 2.0**-52))
    return torch.searchsorted(cumulative, target[:, None], right=True)


@functools.cache
def _block_size(vocabulary: int) -> int:
    """The largest divisor up to 256, or 1 where blocks do not pay."""
    if vocabulary < _MIN_BLOCKED:
        return 1
    size = next(size for size in range(256, 0, -1) if vocabulary % size == 0)
    return size if size >= 16 else 1


def _require_finite(values: torch.Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise FloatingPointError(
            "the model's logits hold NaN or infinity, so no token can be sampled: check the weights (a diverged "
            "update?) and the data type"
        )
