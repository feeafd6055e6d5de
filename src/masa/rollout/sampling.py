"""Tokens from logits: temperature, top-k and top-p with settings of each row's own, and randomness by name.

A row's uniform is a hash of (seed of its request, position of the token in the rollout). Nothing is drawn from a
shared stream, so a request samples the same tokens wherever it sits in a batch, and no generator object is needed.
"""

from __future__ import annotations

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

    def rows(self, index: torch.Tensor) -> SamplingSettings:
        """The settings of some rows, `index` of shape [m], in its order."""
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
    """Unnormalised probabilities after temperature, then top-k, then top-p, the likeliest token of a row having 1.

    Top-k keeps every token at least as likely as the k-th; top-p keeps the smallest set of likeliest tokens whose
    share of what top-k left reaches `top_p`. Tokens tied with the last one kept are kept too, so that the outcome
    does not depend on how a sort breaks ties.

    Args:
        logits: shape [n, vocabulary], any floating type.

    Returns:
        Shape [n, vocabulary]; float64 for float64 logits, else float32. Greedy rows: temperature 1, nothing dropped.
    """
    if logits.dtype != torch.float64:
        logits = logits.float()
    # The maximum goes first, so that a tiny temperature sends the others to -inf and nothing to +inf.
    weights = logits - logits.amax(dim=-1, keepdim=True)
    if settings.any_scaled:
        weights /= settings.temperature[:, None].to(weights.dtype)
    weights.exp_()
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
    if settings.all_greedy:
        best, tokens = logits.max(dim=-1)
        _require_finite(best)
        return tokens, torch.zeros_like(best, dtype=torch.float32) if logprobs else None
    weights = sampling_weights(logits, settings)
    # Sums of float32 weights are taken in float64: a large vocabulary's tail is not rounded away.
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    _require_finite(total)
    # A uniform just below 1 times the total may round up to the total, which no token reaches.
    target = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    # The first token whose cumulative weight exceeds the target adds a positive weight, so its probability is not 0.
    tokens = torch.searchsorted(cumulative, target, right=True)[:, 0]
    if settings.any_greedy:
        tokens = torch.where(settings.is_greedy, logits.argmax(dim=-1), tokens)
    if not logprobs:
        return tokens, None
    chosen = weights.gather(-1, tokens[:, None])[:, 0]
    logs = chosen.log().double() - total[:, 0].log()
    return tokens, torch.where(settings.is_greedy, 0.0, logs)


def _require_finite(values: torch.Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise FloatingPointError(
            "the model's logits hold NaN or infinity, so no token can be sampled: check the weights (a diverged "
            "update?) and the data type"
        )
