"""Sampling: uniforms by name, inverse cumulative distribution, temperature, top-k and top-p by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from masa.records import Request
from masa.rollout.sampling import SamplingSettings, sample, sampling_weights, seed_array, uniforms


def settings(*rows: dict[str, float]) -> SamplingSettings:
    return SamplingSettings.of([Request((1,), 1, **row) for row in rows])  # type: ignore[arg-type]


def distribution(logits: torch.Tensor, chosen: SamplingSettings) -> torch.Tensor:
    weights = sampling_weights(logits, chosen)
    return weights / weights.sum(-1, keepdim=True)


def chi_square_limit(degrees: int, sigmas: float = 4.75) -> float:
    """The Wilson-Hilferty quantile: 4.75 sigmas are passed by chance once in a million."""
    c = 2 / (9 * degrees)
    return float(degrees * (1 - c + sigmas * math.sqrt(c)) ** 3)


def test_uniforms_follow_the_published_splitmix64() -> None:
    # With the key K = mix(seed + gamma), draw number i is SplitMix64 seeded with K: its first outputs for seed 0 are
    # published as e220a8397b1dcdaf, 6e789e6aa1b965f4. Seed 2**64 - gamma makes the key mix(0) = 0.
    seed = (1 << 64) - 0x9E3779B97F4A7C15
    got = uniforms(seed_array([seed, seed]), np.array([0, 1]))
    expected = [(0xE220A8397B1DCDAF >> 11) / 2**53, (0x6E789E6AA1B965F4 >> 11) / 2**53]
    assert got.tolist() == expected


def test_uniforms_depend_on_seed_and_position_only() -> None:
    seeds, positions = seed_array([5, 6, 5]), np.array([0, 3, 9])
    together = uniforms(seeds, positions)
    alone = [uniforms(seeds[i : i + 1], positions[i : i + 1])[0] for i in range(3)]
    assert together.tolist() == alone
    assert len(set(alone)) == 3


def test_uniforms_are_uniform_over_seeds_and_over_positions() -> None:
    # Chi-square over 100 bins for each way of walking the grid, and for pairs of neighbours (a 10 x 10 table), with
    # false-alarm odds of one in a million each.
    n = 100_000
    along_seeds = uniforms(seed_array(range(n)), np.zeros(n, dtype=np.int64))
    along_positions = uniforms(seed_array([1]).repeat(n), np.arange(n))
    for draws in (along_seeds, along_positions):
        assert draws.min() >= 0
        assert draws.max() < 1
        bins = np.bincount((draws * 100).astype(int), minlength=100)
        pairs = np.bincount((draws[:-1:2] * 10).astype(int) * 10 + (draws[1::2] * 10).astype(int), minlength=100)
        for counts in (bins, pairs):
            expected = counts.sum() / 100
            assert ((counts - expected) ** 2 / expected).sum() < chi_square_limit(99)


def test_seeds_of_any_size_and_sign_are_taken_modulo_two_to_the_64() -> None:
    assert seed_array([-1, 1 << 64, 3]).tolist() == [(1 << 64) - 1, 0, 3]


def test_inverse_cumulative_distribution_by_hand() -> None:
    # Probabilities 0.5, 0, 0.25, 0.25: cumulative 0.5, 0.5, 0.75, 1.
    logits = torch.tensor([[0.5, 0.0, 0.25, 0.25]], dtype=torch.float64).log().expand(6, 4)
    u = torch.tensor([0.0, 0.49, 0.5, 0.74, 0.76, 1 - 2.0**-53], dtype=torch.float64)
    tokens, logprobs = sample(logits, settings(*[{}] * 6), u, logprobs=True)
    assert tokens.tolist() == [0, 0, 2, 2, 3, 3]
    assert logprobs is not None
    expected = [math.log(p) for p in (0.5, 0.5, 0.25, 0.25, 0.25, 0.25)]
    assert logprobs.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("vocabulary", [375, 4096, 49_152, 50_257])
def test_blocks_find_the_token_that_the_whole_row_would(vocabulary: int) -> None:
    logits = torch.randn(60, vocabulary, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    u = torch.rand(60, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tokens, logprobs = sample(logits, settings(*[{}] * 60), u, logprobs=True)
    cumulative = logits.softmax(-1).cumsum(-1)
    assert tokens.tolist() == torch.searchsorted(cumulative, u[:, None], right=True)[:, 0].tolist()
    expected = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    assert logprobs is not None
    torch.testing.assert_close(logprobs, expected, rtol=0, atol=1e-12)


def test_blocks_follow_the_distribution() -> None:
    # Chi-square of 40,000 draws by blocks in float32 over a vocabulary of 4,096, in 64 bins of neighbouring tokens and
    # in 64 classes of tokens by their place within a block; each limit is passed by chance once in a million runs.
    logits = torch.randn(4096, generator=torch.Generator().manual_seed(0)) * 2
    n = 40_000
    uniform = torch.from_numpy(uniforms(seed_array(range(n)), np.zeros(n, dtype=np.int64)))
    tokens = torch.cat([sample(logits.expand(100, -1), settings(*[{}] * 100), u)[0] for u in uniform.split(100)])
    probabilities = logits.double().softmax(-1)
    for group in (torch.arange(4096) // 64, torch.arange(4096) % 64):
        expected = torch.zeros(64, dtype=torch.float64).index_add(0, group, probabilities) * n
        observed = torch.bincount(group[tokens], minlength=64)
        assert expected.min() > 5
        assert float(((observed - expected) ** 2 / expected).sum()) < chi_square_limit(63)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [50, 8192])
def test_extreme_uniforms_never_choose_an_impossible_token(dtype: torch.dtype, vocabulary: int) -> None:
    # The first and last tokens are impossible, so the ends of [0, 1) must fall on their neighbours.
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, vocabulary, generator=generator).mul(5).to(dtype)
    logits[:, 0] = -math.inf
    logits[:, -1] = -math.inf
    for u in (0.0, 1 - 2.0**-53):
        tokens, _ = sample(logits, settings(*[{}] * 200), torch.full((200,), u, dtype=torch.float64))
        chosen = logits.gather(-1, tokens[:, None])
        assert bool((chosen > -math.inf).all())


def test_temperature_zero_is_greedy_and_certain_in_a_mixed_batch() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
    chosen = settings({"temperature": 0}, {"temperature": 1})
    tokens, logprobs = sample(logits, chosen, torch.tensor([0.0, 0.0], dtype=torch.float64), logprobs=True)
    assert logprobs is not None
    assert tokens.tolist() == [1, 0]
    assert logprobs[0] == 0
    assert logprobs[1] == pytest.approx(float(logits[1].log_softmax(-1)[0]), abs=1e-6)
    tokens, logprobs = sample(
        logits, settings(*[{"temperature": 0}] * 2), torch.zeros(2, dtype=torch.float64), logprobs=True
    )
    assert logprobs is not None
    assert (tokens.tolist(), logprobs.tolist()) == ([1, 1], [0, 0])


@pytest.mark.parametrize("temperature", [1e-30, 1e-300])
def test_tiny_temperature_does_not_overflow(temperature: float) -> None:
    logits = torch.tensor([[100.0, 99.0]])
    tokens, _ = sample(logits, settings({"temperature": temperature}), torch.tensor([0.999], dtype=torch.float64))
    assert tokens.tolist() == [0]


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [0, 1, 5, 1000])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-9])
def test_warped_distribution_equals_transformers(temperature: float, top_k: int, top_p: float) -> None:
    logits = torch.randn(32, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    expected = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    chosen = settings(*[{"temperature": temperature, "top_k": top_k, "top_p": top_p}] * 32)
    torch.testing.assert_close(distribution(logits, chosen), expected.softmax(-1), rtol=0, atol=1e-12)


def test_rows_of_mixed_settings_are_as_if_alone() -> None:
    rows: list[dict[str, float]] = [
        {},
        {"temperature": 0},
        {"top_k": 3},
        {"top_p": 0.5},
        {"temperature": 0.5, "top_k": 4, "top_p": 0.7},
        {"top_k": 2, "temperature": 2},
    ]
    logits = torch.randn(len(rows), 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u = torch.rand(len(rows), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    tokens, logprobs = sample(logits, settings(*rows), u, logprobs=True)
    assert logprobs is not None
    for i, row in enumerate(rows):
        alone, alone_logprobs = sample(logits[i : i + 1], settings(row), u[i : i + 1], logprobs=True)
        assert alone_logprobs is not None
        assert alone.item() == tokens[i].item()
        assert alone_logprobs.item() == pytest.approx(logprobs[i].item(), abs=1e-12)


def test_tokens_tied_with_the_last_one_kept_are_kept() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0, -1.0]])
    assert (sampling_weights(logits, settings({"top_k": 2})) > 0).tolist() == [[True, True, True, False]]


def test_settings_of_chosen_rows() -> None:
    chosen = settings({"temperature": 0}, {"top_k": 3}, {}).rows(torch.tensor([2]))
    assert not chosen.any_greedy
    assert not chosen.any_filtered


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_not_finite_are_an_error(bad: float, temperature: float) -> None:
    logits = torch.zeros(2, 4)
    logits[1, 2] = bad
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        sample(logits, settings(*[{"temperature": temperature}] * 2), torch.zeros(2, dtype=torch.float64))
